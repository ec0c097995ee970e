"""A teacher of vectors that `gemb embed` made: the same as one of a .npy file."""

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.store import write_embeddings
from gemb.training.distillation.vector_files import vectors


def test_a_folder_of_embed_teaches_as_its_vectors_do(tmp_path):
    rows = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    (tmp_path / "texts.txt").write_text("one\ntwo\nthree\n")
    np.save(tmp_path / "rows.npy", rows)
    about = {"model": "any", "texts": "t", "kind": "document"}
    write_embeddings(tmp_path / "folder", rows, ids=["a", "b", "c"], **about)
    texts = str(tmp_path / "texts.txt")
    from_file, from_folder = (vectors(texts, str(tmp_path / n)) for n in ("rows.npy", "folder"))
    assert from_file.identity == from_folder.identity
    found = from_folder.fields(["three"], ["one", ""])
    np.testing.assert_array_equal(found["teacher_query"], rows[[2]])
    np.testing.assert_array_equal(found["teacher_document"], [rows[0], np.zeros(4)])
    (tmp_path / "folder" / "vectors.npy").write_bytes(b"short")
    with pytest.raises(UserError, match="folder: cannot be read"):
        vectors(texts, str(tmp_path / "folder"))
