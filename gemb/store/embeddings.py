"""Folders of vectors: which model made them, of which texts, and the id of each row.

    embeddings.json  format, version, fingerprints of model and texts, kind, dim, dtype, rows, ids
    vectors.npy      [rows, dim] float32 or float16, which numpy maps
    ids.jsonl        the id of each row, a JSON text or number a line; or
    ids.npy          [rows] integers; or neither, where the ids are the row numbers

`gemb embed` writes them, and so does all that keeps vectors: caches of curation, evaluation and
teachers. The manifest is written last: a folder without one is not finished. Scores between vectors
of two models are noise, so a folder is only read for the model it was made with. Nothing in a
folder is unpickled.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_file, atomic_folder, read_manifest
from gemb.identity import SpaceError

FORMAT, VERSION = "gemb embeddings", 1
MANIFEST, VECTORS = "embeddings.json", "vectors.npy"
TEXT_IDS, NUMBER_IDS = "ids.jsonl", "ids.npy"
_FIELDS = {"model": str, "texts": str, "kind": str, "dim": int, "dtype": str, "rows": int}


class Embeddings(NamedTuple):
    """What a folder holds.

    Attributes:
        ids: of the rows: a list, an array of integers, or a range where they are the row numbers.
        vectors: [rows, dim] float32 or float16, mapped from disk.
        about: the content of embeddings.json.
    """

    ids: Sequence[str | int]
    vectors: np.ndarray
    about: dict


def write_embeddings(
    folder: str | Path,
    vectors: np.ndarray,
    *,
    model: str,
    texts: str,
    kind: str,
    ids: Iterable[str | int] | np.ndarray | None = None,
    **about: str | int,
) -> None:
    """Writes a folder of vectors, whole or not at all.

    Args:
        folder: to make, or to replace.
        vectors: [rows, dim] float32 or float16.
        model: the fingerprint of the model that made them.
        texts: the fingerprint of the texts, see `gemb.identity.texts_fingerprint`.
        kind: what was encoded, such as "query" or "document".
        ids: one per row; default the row numbers.
        **about: further JSON values for embeddings.json.

    Raises:
        UserError: the disk is full or the place cannot be written.

    Example:
        >>> place, about = getfixture("tmp_path") / "vectors", {"texts": "t", "kind": "document"}
        >>> write_embeddings(place, np.eye(2), model="m", ids=["a", "b"], **about)
        >>> read_embeddings(place, model="m").ids
        ['a', 'b']
    """
    with atomic_folder(folder) as temporary:
        np.save(temporary / VECTORS, vectors)
        describe(temporary, ids, model=model, texts=texts, kind=kind, **about)


def describe(folder: Path, ids: Iterable[str | int] | np.ndarray | None, **about) -> None:
    """Adds the ids and the manifest to vectors.npy, which completes the folder.

    Args:
        folder: holds vectors.npy.
        ids: one per row; None for the row numbers.
        **about: "model", "texts", "kind" and what else embeddings.json should say.
    """
    vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
    name = "" if ids is None else NUMBER_IDS if isinstance(ids, np.ndarray) else TEXT_IDS
    if name:
        with atomic_file(folder / name) as temporary:
            _write_ids(temporary, ids)
    rows, dim = vectors.shape
    manifest = {"format": FORMAT, "version": VERSION, "rows": rows, "dim": dim, "ids": name}
    manifest |= {"dtype": str(vectors.dtype)} | about
    with atomic_file(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _write_ids(path: Path, ids: Iterable[str | int] | np.ndarray) -> None:
    if isinstance(ids, np.ndarray):
        with open(path, "wb") as file:  # np.save would add an ending to the name
            np.save(file, ids)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(each) + "\n" for each in ids)


def read_about(folder: str | Path, made_by: str = "gemb embed") -> dict:
    """The content of embeddings.json.

    Args:
        folder: of vectors.
        made_by: the command that writes such folders, for messages.

    Raises:
        UserError: if there is none, or a damaged one, or one of another format version.
    """
    return read_manifest(Path(folder) / MANIFEST, FORMAT, VERSION, _FIELDS, made_by)


def read_embeddings(
    folder: str | Path,
    *,
    model: str | None,
    texts: str | None = None,
    made_by: str = "gemb embed",
) -> Embeddings:
    """Reads a folder of vectors for use with one model.

    Args:
        folder: what `gemb embed` or this package wrote.
        model: the fingerprint of the model whose vectors they will be compared with
            (`gemb.Embedder.fingerprint`); None for any, where nothing is compared.
        texts: the fingerprint of the texts that the vectors have to be of; None for any.
        made_by: the command that writes such folders, for messages.

    Raises:
        SpaceError: vectors of another model.
        UserError: no such folder, a broken one, one of another version, or of other texts.

    Example:
        >>> embedder = Embedder.load("all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> found = read_embeddings("runs/vectors", model=embedder.fingerprint)  # doctest: +SKIP
    """
    folder, about = Path(folder), read_about(folder, made_by)
    if model is not None and about["model"] != model:
        raise SpaceError(
            f"{folder}: vectors of the model with fingerprint {about['model']}, not of {model}; "
            f"scores between two models are noise: run `{made_by}` with yours"
        )
    if texts is not None and about["texts"] != texts:
        raise UserError(
            f"{folder}: vectors of other texts (fingerprint {about['texts']}, expected {texts}); "
            "encode them again"
        )
    try:
        vectors = np.load(folder / VECTORS, mmap_mode="r", allow_pickle=False)
        ids = _read_ids(folder, about)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{folder}: cannot be read ({error}); make it again") from None
    expected = (about["rows"], about["dim"])
    if vectors.shape != expected or str(vectors.dtype) != about["dtype"] or len(ids) != expected[0]:
        raise UserError(
            f"{folder}: {MANIFEST} says {expected} of {about['dtype']}, but there are "
            f"{vectors.shape} of {vectors.dtype} and {len(ids)} ids; make it again"
        )
    return Embeddings(ids, vectors, about)


def _read_ids(folder: Path, about: dict) -> Sequence[str | int]:
    name = about.get("ids", TEXT_IDS)  # older folders do not say, and have this one
    if name == "":
        return range(about["rows"])
    if name == NUMBER_IDS:
        return np.load(folder / NUMBER_IDS, allow_pickle=False)
    with open(folder / TEXT_IDS, encoding="utf-8") as file:
        # as one list: some times faster than line by line
        return json.loads("[" + file.read().rstrip("\n").replace("\n", ",") + "]")
