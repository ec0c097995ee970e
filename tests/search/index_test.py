"""Index folders: refused for another model, another version, and when they are broken."""

import json

import numpy as np
import pytest

from gemb import search
from gemb.checks import UserError
from gemb.search.registry import saved


@pytest.fixture
def folder(tmp_path):
    vectors = np.eye(6, 4, dtype=np.float32) + 0.1
    index = search.ExactSearcher(vectors)
    search.save_index(tmp_path / "index", index, model="aaaa", corpus="here")
    return tmp_path / "index"


def _edit(folder, **values):
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_manifest_says_what_it_is(folder):
    manifest = search.read_manifest(folder)
    assert manifest["format"] == "gemb index"
    assert manifest["version"] == 2
    assert (manifest["model"], manifest["similarity"]) == ("aaaa", "cosine")
    assert (manifest["kind"], manifest["documents"], manifest["dim"]) == ("exact", 6, 4)
    assert manifest["about"] == {"corpus": "here"}


def test_every_searcher_has_a_kind():
    public = {getattr(search, name) for name in search.__all__ if name.endswith("Searcher")}
    assert public - {search.Searcher} == set(saved().values())


def test_another_model_is_refused_naming_both(folder):
    with pytest.raises(UserError, match="fingerprint aaaa, but the queries are of bbbb"):
        search.load_index(folder, model="bbbb")


def test_another_version_is_refused_naming_both(folder):
    _edit(folder, version=7)
    with pytest.raises(UserError, match="format version 7, but this gemb reads version 2"):
        search.load_index(folder, model="aaaa")


def test_broken_folders_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        search.load_index(tmp_path / "nothing", model="aaaa")
    _edit(folder, documents=7)
    with pytest.raises(UserError, match=r"holds 6 documents of dim 4, but index\.json says 7 of 4"):
        search.load_index(folder, model="aaaa")
    _edit(folder, kind="tree")
    with pytest.raises(UserError, match="unknown kind 'tree'"):
        search.load_index(folder, model="aaaa")
    _edit(folder, kind="exact")
    (folder / "vectors.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(UserError, match="cannot be read"):
        search.load_index(folder, model="aaaa")
    (folder / "index.json").write_text("[]")
    with pytest.raises(UserError, match="no gemb index"):
        search.load_index(folder, model="aaaa")


def test_a_pickle_is_not_opened(folder):
    np.save(folder / "vectors.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot be read"):
        search.load_index(folder, model="aaaa")


def test_a_scann_folder_with_a_pickle_is_refused(tmp_path):
    (tmp_path / "scann").mkdir()
    (tmp_path / "scann" / "scann_docids.pkl").write_bytes(b"")
    settings = {"documents": 1, "dim": 1, "leaves_to_search": 1, "reorder": 1}
    with pytest.raises(UserError, match="nothing pickled is read here"):
        search.ScannSearcher.load(tmp_path, settings)


def test_an_index_is_replaced_and_nothing_else(folder, tmp_path):
    search.save_index(folder, search.ExactSearcher(np.eye(3)), model="bbbb")
    assert search.load_index(folder, model="bbbb").documents == 3
    (tmp_path / "mine").mkdir()
    for text in (None, "{}", "[1]", "{cut"):  # of another program, or damaged
        if text:
            (tmp_path / "mine" / "index.json").write_text(text)
        with pytest.raises(UserError, match="exists and is not an index"):
            search.save_index(tmp_path / "mine", search.ExactSearcher(np.eye(3)), model="bbbb")
        assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize("values", [{"about": None}, {"documents": "6"}, {"settings": []}])
def test_a_manifest_of_other_types_is_told(folder, values):
    _edit(folder, **values)
    with pytest.raises(UserError, match=rf"cannot be read \({next(iter(values))}: expected"):
        search.read_manifest(folder)


@pytest.mark.parametrize("precision", ["int8", "binary", "bfloat16"])
@pytest.mark.parametrize("name", ["codes.npy", "scale.npy", "vectors.npy"])
def test_files_of_another_size_are_told(tmp_path, precision, name):
    vectors = np.eye(6, 4, dtype=np.float32) + 0.1
    index = search.QuantizedSearcher(vectors, precision=precision, rescore=2)
    search.save_index(tmp_path / "index", index, model="aaaa")
    rows = np.load(tmp_path / "index" / name)
    np.save(tmp_path / "index" / name, rows[:-1])
    with pytest.raises(UserError, match=r"expected shape.*make it again|holds 5 documents"):
        search.load_index(tmp_path / "index", model="aaaa")
    (tmp_path / "index" / name).write_bytes(b"")
    with pytest.raises(UserError, match="make it again"):
        search.load_index(tmp_path / "index", model="aaaa")


def test_a_scann_index_whose_rows_are_cut_is_told(tmp_path):
    pytest.importorskip("scann")
    index = search.ScannSearcher(np.eye(40, 8, dtype=np.float32) + 0.1)
    search.save_index(tmp_path / "index", index, model="aaaa")
    path = next((tmp_path / "index").rglob("dataset.npy"))
    for rows in (np.load(path)[:3], np.zeros((), np.float32)):
        np.save(path, rows)
        with pytest.raises(UserError, match=r"dataset\.npy: expected shape"):
            search.load_index(tmp_path / "index", model="aaaa")
