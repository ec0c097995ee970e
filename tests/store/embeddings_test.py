"""Folders of vectors: read for their own model and texts alone, whole or not at all."""

import json

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.identity import texts_fingerprint
from gemb.store import read_about, read_embeddings, write_embeddings
from gemb.store.bulk import encode_into, encoded

ABOUT = {"model": "m", "texts": "t", "kind": "document"}


def test_vectors_come_back_for_their_model_and_texts_only(tmp_path):
    place = tmp_path / "v" / "folder"
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    texts = texts_fingerprint(["a", "b", "c"])
    write_embeddings(place, vectors, model="m", texts=texts, kind="document")
    found = read_embeddings(place, model="m", texts=texts).vectors
    np.testing.assert_array_equal(found, vectors)
    assert isinstance(found, np.memmap)
    with pytest.raises(UserError, match="the model with fingerprint m, not of n"):
        read_embeddings(place, model="n", texts=texts)
    with pytest.raises(UserError, match="vectors of other texts"):
        read_embeddings(place, model="m", texts=texts_fingerprint(["a", "b", "d"]))
    np.testing.assert_array_equal(read_embeddings(place, model=None).vectors, vectors)


def test_texts_fingerprint_knows_where_a_text_ends():
    assert texts_fingerprint(["ab", "c"]) != texts_fingerprint(["a", "bc"])


@pytest.mark.parametrize(
    ("ids", "name"),
    [
        (["a", 7, "ü"], "ids.jsonl"),
        (np.array([2**64 - 1, 0, 5], np.uint64), "ids.npy"),
        (None, ""),
    ],
)
def test_ids_of_each_kind_come_back(tmp_path, ids, name):
    write_embeddings(tmp_path / "v", np.zeros((3, 2), np.float16), **ABOUT, ids=ids)
    found, _, about = read_embeddings(tmp_path / "v", model="m")
    assert list(found) == ([0, 1, 2] if ids is None else list(ids))
    assert about["ids"] == name
    files = {"embeddings.json", "vectors.npy", *([name] if name else [])}
    assert {path.name for path in (tmp_path / "v").iterdir()} == files


def test_a_folder_of_an_earlier_gemb_is_read(tmp_path):
    """Its manifest, written out: no "ids", which were always in ids.jsonl."""
    np.save(tmp_path / "vectors.npy", np.eye(2, dtype=np.float32))
    (tmp_path / "ids.jsonl").write_text('"d0"\n"d1"\n')
    manifest = {"format": "gemb embeddings", "version": 1, "rows": 2, "dim": 2, "dtype": "float32"}
    manifest |= ABOUT | {"matmul_dtype": "float32", "encoder": "x", "input": "y"}
    (tmp_path / "embeddings.json").write_text(json.dumps(manifest))
    assert read_embeddings(tmp_path, model="m").ids == ["d0", "d1"]
    (tmp_path / "ids.jsonl").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        read_embeddings(tmp_path, model="m")


def test_a_broken_folder_is_a_users_error(tmp_path):
    place = tmp_path / "v"
    with pytest.raises(UserError, match="cannot be read"):
        read_embeddings(tmp_path / "missing", model="m")
    write_embeddings(place, np.eye(3, dtype=np.float32), **ABOUT)
    for name, content, message in (
        ("vectors.npy", b"not numpy", "cannot be read"),
        ("vectors.npy", b"", "cannot be read"),
        ("embeddings.json", b"\xff", "cannot be read"),
    ):
        whole = (place / name).read_bytes()
        (place / name).write_bytes(content)
        with pytest.raises(UserError, match=message) as told:
            read_embeddings(place, model="m")
        assert "\n" not in str(told.value)
        (place / name).write_bytes(whole)
    np.save(place / "vectors.npy", np.array([{}] * 3, object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        read_embeddings(place, model="m")
    np.save(place / "vectors.npy", np.eye(3))
    with pytest.raises(UserError, match=r"says \(3, 3\) of float32, but there are .* of float64"):
        read_embeddings(place, model="m")


def test_slices_and_transposes_are_written_as_they_read(tmp_path):
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    views = {"slice": vectors[:, :2], "transpose": vectors.T, "reversed": vectors[::-1]}
    for name, view in views.items():
        write_embeddings(tmp_path / name, view, **ABOUT)
        read = read_embeddings(tmp_path / name, model="m").vectors
        np.testing.assert_array_equal(read, view.tolist())


def test_files_are_as_readable_as_their_neighbours(tmp_path):
    (tmp_path / "plain").touch()
    write_embeddings(tmp_path / "v", np.eye(2, dtype=np.float32), **ABOUT, ids=["a", "b"])
    for path in (tmp_path / "v").iterdir():
        assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


class _Counting:
    """An encoder whose vectors hold the text's length; dies at the text "die"."""

    dim, fingerprint = 2, "m"

    def __init__(self):
        self.asked = []

    def encode(self, texts, *, kind):
        if "die" in texts:
            raise KeyboardInterrupt
        self.asked += texts
        return np.array([[len(text), 1.0] for text in texts], np.float32)


OPTIONS = {"kind": "document", "content": "t", "step": 2, "progress": False}


def test_a_folder_grows_and_goes_on(tmp_path):
    texts, place = ["a", "bb", "ccc", "dddd", "die"], tmp_path / "v"
    with pytest.raises(KeyboardInterrupt):
        encode_into(place, _Counting(), texts, **OPTIONS)
    with pytest.raises(UserError, match=r"embeddings\.json: cannot be read"):
        read_about(place)  # not finished
    rest = _Counting()
    made = encode_into(place, rest, [*texts[:4], "eeeee"], **OPTIONS, ids=list("vwxyz"))
    assert rest.asked == ["eeeee"]
    np.testing.assert_array_equal(made, [[1, 1], [2, 1], [3, 1], [4, 1], [5, 1]])
    ids, vectors, about = read_embeddings(place, model="m", texts="t")
    assert ids == list("vwxyz")
    np.testing.assert_array_equal(vectors, made)
    assert (about["kind"], about["unit"]) == ("document", False)
    assert {path.name for path in place.iterdir()} == {
        "embeddings.json",
        "ids.jsonl",
        "vectors.npy",
    }
    again = _Counting()
    np.testing.assert_array_equal(encode_into(place, again, texts, **OPTIONS), made)
    assert again.asked == []


@pytest.mark.parametrize("change", [{"content": "u"}, {"dtype": "float16"}, {"unit": True}])
def test_what_grew_of_other_vectors_is_not_gone_on_with(tmp_path, change):
    with pytest.raises(KeyboardInterrupt):
        encode_into(tmp_path / "v", _Counting(), ["a", "bb", "die"], **OPTIONS)
    anew = _Counting()
    encode_into(tmp_path / "v", anew, ["a", "bb", "ccc"], **OPTIONS | change)
    assert anew.asked == ["a", "bb", "ccc"]
    with pytest.raises(UserError, match=r"other texts|another kind, size or dtype"):
        encode_into(tmp_path / "v", _Counting(), ["a", "bb", "ccc"], **OPTIONS)


def test_a_cache_holds_a_folder_for_each_model_and_content(tmp_path):
    encoder = _Counting()
    for content in ("t", "u", "t"):
        encoded(encoder, ["a", "bb"], tmp_path, **OPTIONS | {"content": content})
    assert encoder.asked == ["a", "bb"] * 2
    for folder in tmp_path.iterdir():
        assert read_embeddings(folder, model="m").vectors[:, 0].tolist() == [1, 2]
