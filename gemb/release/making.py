"""Makes the parts of a version: vectors of what changed, files, folders."""

import contextlib
import os
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.data.sources.records import digest
from gemb.files import users_errors
from gemb.release.content import Difference
from gemb.release.encoding import Encoding
from gemb.store import bulk
from gemb.store.disk import Draft, Opened

HASHES, CORPUS, MODEL, INDEX = "hashes.npy", "corpus", "model", "index"
_ROWS = 1 << 14
_CHECKED, _LEAST_COSINE = 100, 0.9999


class Encoded(NamedTuple):
    """One set of vectors of a version that is being made.

    Attributes:
        name: of the set.
        kind: the side that encodes it, "query" or "document".
        ids: one per row.
        vectors: [rows, dim].
        keys: [rows, 16] uint8 content keys.
        texts: fingerprint of the texts.
    """

    name: str
    kind: str
    ids: list
    vectors: np.ndarray
    keys: np.ndarray
    texts: str


def encode_distinct(
    work: Path, encoding: Encoding, texts, difference: Difference, kind: str, dtype: str
) -> tuple[np.ndarray, float]:
    """Vectors of what changed, each content once; a killed process continues.

    Returns:
        [distinct, dim] of `dtype`, and the texts encoded per second; 0 where all were there.
    """
    rows = difference.distinct
    keys = difference.keys[rows]
    content = digest(keys.tobytes().hex())
    if not len(rows):
        return np.zeros((0, encoding.dim), dtype), 0.0
    chosen, start = [texts[row] for row in rows], time.perf_counter()
    watched = _Watched(encoding)
    made = bulk.encode_into(
        work / f"{kind}-{content[:16]}", watched, chosen, kind=kind, content=content, dtype=dtype
    )
    return made, watched.count / max(time.perf_counter() - start, 1e-9)


class _Watched:
    """Counts the texts that are really encoded."""

    def __init__(self, encoding: Encoding):
        self._encoding, self.count = encoding, 0
        self.dim, self.fingerprint = encoding.dim, encoding.fingerprint

    def encode(self, texts, *, kind: str) -> np.ndarray:
        self.count += len(texts)
        return self._encoding.encode(texts, kind=kind)


def assemble(
    path: Path, difference: Difference, before: np.ndarray | None, made: np.ndarray
) -> np.ndarray:
    """Writes the vectors of all records: the parent's where they are the same, else new ones.

    Args:
        path: of the .npy file; replaced.
        difference: what changed.
        before: [rows, dim] of the parent.
        made: [distinct, dim] new vectors.

    Returns:
        [rows, dim], mapped.
    """
    shape = (len(difference.parent), made.shape[1])
    descr = np.lib.format.dtype_to_descr(made.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    with users_errors(path), open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, shape[0], _ROWS):
            part = slice(start, start + _ROWS)
            old, new = difference.parent[part], difference.place[part]
            rows = np.empty((len(old), shape[1]), made.dtype)
            rows[new >= 0] = made[new[new >= 0]]
            if (old >= 0).any():
                rows[old >= 0] = before[old[old >= 0]]
            file.write(rows.tobytes())
    return np.load(path, mmap_mode="r", allow_pickle=False)


def check_unchanged(
    encoding: Encoding, texts, difference: Difference, before: np.ndarray, kind: str, where: object
) -> float:
    """Encodes up to 100 unchanged records again and compares them with the stored vectors.

    Returns:
        The lowest cosine; 1 where no record is unchanged.

    Raises:
        UserError: it is below 0.9999: the vectors come from another precision or hardware, or the
            model is not the one that its fingerprint says.
    """
    same = np.flatnonzero(difference.parent >= 0)
    if not len(same):
        return 1.0
    rows = np.sort(np.random.default_rng(len(same)).permutation(same)[:_CHECKED])
    now = encoding.encode([texts[row] for row in rows], kind=kind).astype(np.float64)
    old = np.asarray(before[difference.parent[rows]], np.float64)
    lengths = np.linalg.norm(now, axis=1) * np.linalg.norm(old, axis=1)
    cosines = np.einsum("nd,nd->n", now, old) / np.where(lengths > 0, lengths, 1)
    worst = int(np.argmin(np.nan_to_num(cosines, nan=-1)))
    if not cosines[worst] >= _LEAST_COSINE:
        raise UserError(
            f"{where}: the model now gives another vector for the unchanged text "
            f"{texts[rows[worst]][:60]!r} (cosine {cosines[worst]:.5f}): the stored ones were made "
            "with another precision, hardware or model. Nothing was published; make a full "
            "release in an empty store"
        )
    return float(cosines[worst])


def add_set(draft: Draft, made: Encoded) -> None:
    """Adds a set of vectors and its content keys to a version."""
    draft.add(made.name, made.ids, made.vectors, kind=made.kind, texts=made.texts)
    with users_errors(draft.folder):
        np.save(draft.folder / made.name / HASHES, made.keys)


def read_hashes(opened: Opened, name: str) -> np.ndarray:
    """[rows, 16] uint8 content keys of a set of a version."""
    path = opened.folder / name / HASHES
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make a full release") from None
    if found.shape != (len(opened.sets[name].ids), 16):
        raise UserError(f"{path}: does not fit its vectors; make a full release")
    return found


def take_folder(source: Path, target: Path) -> None:
    """Gives a version the files of another that never change; they take no more room.

    Where the file system has no hard links they are copied.
    """

    def linked(one: str, other: str) -> None:
        with contextlib.suppress(OSError):
            os.link(one, other)
            return
        shutil.copyfile(one, other)

    with users_errors(target):
        _copy(source, target, linked)


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder, with what its links point to."""
    with users_errors(target):
        _copy(source, target, shutil.copyfile)


def _copy(source: Path, target: Path, copy) -> None:
    try:
        shutil.copytree(source, target, copy_function=copy, ignore=shutil.ignore_patterns(".*"))
    except shutil.Error as error:  # a list of (source, target, message)
        raise OSError(28, str(error.args[0][0][2])) from None
    for place in (target, *(each for each in target.rglob("*") if each.is_dir())):
        place.chmod(0o755)  # those of a finished version are read-only
