"""A teacher's cache: rows come back by their keys; broken shards and other teachers are refused."""

import json

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.store import read_embeddings
from gemb.training.distillation.cache import RowCache


def _keys(*values):
    return np.array(values, np.uint64)


def test_rows_come_back_by_their_keys_from_any_shard(tmp_path):
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 1 << 64, 30, dtype=np.uint64)
    rows = rng.normal(size=(30, 4)).astype(np.float16)
    for start in (0, 10, 20):
        RowCache(tmp_path, "x", 4).add(keys[start : start + 10], rows[start : start + 10])
    cache = RowCache(tmp_path, "x", 4)
    order = rng.permutation(30)
    np.testing.assert_array_equal(cache.rows(keys[order]), rows[order].astype(np.float32))
    assert cache.missing(np.append(keys[:2], keys[0] ^ _keys(1))).tolist() == [False, False, True]
    with pytest.raises(KeyError, match="1"):
        cache.rows(np.append(keys[:1], keys[0] ^ _keys(1)))


def test_a_shard_is_a_folder_of_the_store(tmp_path):
    RowCache(tmp_path, "x", 2).add(_keys(2**64 - 1, 7), np.array([[1.0, 2], [3, 4]]))
    keys, rows, about = read_embeddings(tmp_path / "000000", model="x")
    assert keys.tolist() == [2**64 - 1, 7]
    np.testing.assert_array_equal(rows, np.array([[1, 2], [3, 4]], np.float16))
    assert about["kind"] == "teacher"


def test_rows_of_another_teacher_are_refused(tmp_path):
    RowCache(tmp_path, "x", 4).add(_keys(1, 2, 3), np.ones((3, 4)))
    for fingerprint, dim in (("y", 4), ("x", 5)):
        with pytest.raises(
            UserError, match=r"the rows of another teacher \(fingerprint x, expected"
        ):
            RowCache(tmp_path, fingerprint, dim)


def test_a_shard_that_is_not_whole_is_told(tmp_path):
    RowCache(tmp_path, "x", 4).add(np.arange(3, dtype=np.uint64), np.ones((3, 4)))
    rows, ids = (tmp_path / "000000" / name for name in ("vectors.npy", "ids.npy"))
    whole = rows.read_bytes()
    for broken in (b"short", whole[:-8]):
        rows.write_bytes(broken)
        with pytest.raises(UserError, match=r"000000: cannot be read .*; make it again"):
            RowCache(tmp_path, "x", 4)
    rows.write_bytes(whole)
    np.save(ids, np.arange(2, dtype=np.uint64))
    with pytest.raises(UserError, match=r"000000: .* and 2 ids; make it again"):
        RowCache(tmp_path, "x", 4)
    for text in ("[]", "{}", json.dumps({"format": "gemb embeddings", "version": 2})):
        (tmp_path / "000000" / "embeddings.json").write_text(text)
        with pytest.raises(UserError, match=r"embeddings\.json: cannot be read .*`gemb teach`"):
            RowCache(tmp_path, "x", 4)
    with pytest.raises(UserError, match="NaN"):
        RowCache(tmp_path / "other", "x", 1).add(np.zeros(1, np.uint64), np.array([[np.nan]]))
