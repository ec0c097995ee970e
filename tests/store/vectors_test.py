import numpy as np
import pytest

from gemb.checks import UserError
from gemb.store import vectors as store


def test_truncate_keeps_directions():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20, 12))
    kept = store.truncate(vectors, 5)
    expected = vectors[:, :5] / np.sqrt((vectors[:, :5] ** 2).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(kept, expected, atol=1e-6)
    assert kept.dtype == np.float32


def test_truncate_refuses_what_has_no_direction():
    vectors = np.eye(4)
    with pytest.raises(ValueError, match="corpus: row 2 is zero in its first 2 coordinates"):
        store.truncate(vectors, 2, "corpus")
    vectors[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"vectors: expected finite values, got NaN.* row 1"):
        store.truncate(vectors, 4)
    with pytest.raises(ValueError, match="expected widths between 1 and 4, got 5"):
        store.truncate(np.eye(4), 5)


def test_vectors_come_back_for_their_model_and_texts_only(tmp_path):
    path = tmp_path / "v" / "file.safetensors"
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    texts = store.texts_fingerprint(["a", "b", "c"])
    store.save_vectors(path, vectors, model="m", texts=texts)
    np.testing.assert_array_equal(store.load_vectors(path, model="m", texts=texts), vectors)
    with pytest.raises(UserError, match="another model"):
        store.load_vectors(path, model="n", texts=texts)
    with pytest.raises(UserError, match="another texts"):
        store.load_vectors(path, model="m", texts=store.texts_fingerprint(["a", "b", "d"]))


def test_texts_fingerprint_knows_where_a_text_ends():
    assert store.texts_fingerprint(["ab", "c"]) != store.texts_fingerprint(["a", "bc"])


def test_a_broken_file_is_a_users_error(tmp_path):
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(UserError, match="cannot be read"):
        store.load_vectors(path, model="m", texts="t")
    with pytest.raises(UserError, match="cannot be read"):
        store.load_vectors(tmp_path / "missing", model="m", texts="t")


def test_slices_and_transposes_are_written_as_they_read(tmp_path):
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    views = {"slice": vectors[:, :2], "transpose": vectors.T, "reversed": vectors[::-1]}
    for name, view in views.items():
        store.save_vectors(tmp_path / name, view, model="m", texts="t")
        read = store.load_vectors(tmp_path / name, model="m", texts="t")
        np.testing.assert_array_equal(read, view.tolist())


def test_a_file_is_as_readable_as_its_neighbours(tmp_path):
    (tmp_path / "plain").touch()
    store.save_vectors(tmp_path / "vectors", np.eye(2, dtype=np.float32), model="m", texts="t")
    assert (tmp_path / "vectors").stat().st_mode == (tmp_path / "plain").stat().st_mode
