"""Folders of vectors to hand on: which model made them, of which texts, and the id of each row.

    embeddings.json  format, version, fingerprints of model and texts, kind, dim, dtype, rows
    vectors.npy      [rows, dim] float32 or float16, which numpy maps
    ids.jsonl        the id of each row, a JSON text or number a line

`gemb embed` writes them. Nothing in a folder is unpickled.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_file, read_manifest

FORMAT, VERSION = "gemb embeddings", 1
MANIFEST, VECTORS, IDS = "embeddings.json", "vectors.npy", "ids.jsonl"
_FIELDS = {"model": str, "texts": str, "kind": str, "dim": int, "dtype": str, "rows": int}


class Embeddings(NamedTuple):
    """What a folder holds.

    Attributes:
        ids: of the rows.
        vectors: [rows, dim] float32 or float16, mapped from disk.
        about: the content of embeddings.json.
    """

    ids: list[str | int]
    vectors: np.ndarray
    about: dict


def describe(folder: Path, ids: Iterable[str | int], **about: str | int) -> None:
    """Writes the ids and the manifest beside vectors.npy.

    Args:
        folder: holds vectors.npy.
        ids: one a row.
        **about: "model" and "texts" (fingerprints), "kind", and what else shall be told.
    """
    vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    with atomic_file(folder / IDS) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(each) + "\n" for each in ids)
    rows, dim = vectors.shape
    manifest = {"format": FORMAT, "version": VERSION, "rows": rows, "dim": dim}
    manifest |= {"dtype": str(vectors.dtype)} | about
    with atomic_file(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def read_about(folder: str | Path) -> dict:
    """The content of embeddings.json.

    Raises:
        UserError: if there is none, or a damaged one, or one of another format version.
    """
    return read_manifest(Path(folder) / MANIFEST, FORMAT, VERSION, _FIELDS, "gemb embed")


def read_embeddings(folder: str | Path, *, model: str) -> Embeddings:
    """Reads a folder of vectors for use with one model.

    Args:
        folder: what `gemb embed` wrote.
        model: the fingerprint of the model whose vectors they shall be compared with
            (`gemb.Embedder.fingerprint`).

    Raises:
        UserError: no such folder, a broken one, one of another version, or of another model.

    Example:
        >>> embedder = Embedder.load("all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> found = read_embeddings("runs/vectors", model=embedder.fingerprint)  # doctest: +SKIP
    """
    folder, about = Path(folder), read_about(folder)
    if about["model"] != model:
        raise UserError(
            f"{folder}: vectors of the model with fingerprint {about['model']}, not of {model}; "
            "scores between two models are noise: run `gemb embed` with yours"
        )
    try:
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        with open(folder / IDS, encoding="utf-8") as file:
            ids = [json.loads(line) for line in file]
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder}: cannot be read ({error}); make it again") from None
    expected = (about["rows"], about["dim"])
    if vectors.shape != expected or str(vectors.dtype) != about["dtype"] or len(ids) != expected[0]:
        raise UserError(
            f"{folder}: {MANIFEST} says {expected} of {about['dtype']}, but there are "
            f"{vectors.shape} of {vectors.dtype} and {len(ids)} ids; make it again"
        )
    return Embeddings(ids, vectors, about)
