"""A teacher made of two files: texts, one per line, and their vectors."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemb.checks import UserError
from gemb.store import read_embeddings
from gemb.structs import SIDES
from gemb.training.distillation.model import text_keys
from gemb.training.distillation.teacher import Teacher

_BLOCK = 65_536  # rows checked at a time
_UNIT = 1e-2  # float16 changes the length of a unit vector by less than a thousandth


def vectors(texts: str, rows: str) -> "FileTeacher":
    """Vectors that another program made, for example an API.

    Args:
        texts: a file with one text per line; it must contain every text of the training data.
        rows: a .npy file [texts, dim] of floats, or the folder that `gemb embed` wrote for them.

    Raises:
        UserError: for a missing file, numbers of rows and texts that differ, or rows not finite.
    """
    return FileTeacher(Path(texts).expanduser(), Path(rows).expanduser())


class FileTeacher(Teacher):
    """See `vectors`."""

    def __init__(self, texts: Path, rows: Path):
        try:
            lines = texts.read_text(encoding="utf-8").split("\n")
            self._rows = _read(rows)
        except (
            OSError,
            ValueError,
        ) as error:  # numpy raises ValueError for a file that is not an array
            raise UserError(f"vectors: {texts} or {rows} cannot be read ({error})") from None
        lines = lines[:-1] if not lines[-1] else lines
        found = self._rows
        if found.ndim != 2 or found.dtype.kind != "f" or not found.size:
            raise UserError(
                f"{rows}: expected floats [texts, dim], got {found.dtype} {found.shape}"
            )
        if len(found) != len(lines):
            raise UserError(f"{rows}: {len(found)} vectors for the {len(lines)} texts of {texts}")
        keys = text_keys(lines)
        self._order = np.argsort(keys, kind="stable")
        self._keys, self._texts, self.dim = keys[self._order], texts, found.shape[1]
        self.normalizes, self._digest = self._look(rows)

    @property
    def identity(self) -> str:
        """A hash of the content of both files."""
        return self._digest

    def fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """The vectors; zeros for documents that are missing."""
        sides = zip(SIDES, (queries, documents), strict=True)
        return {f"teacher_{side}": self._find(texts) for side, texts in sides}

    def _find(self, texts: Sequence[str]) -> np.ndarray:
        keys = text_keys(texts)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        real = np.array([bool(text) for text in texts])
        lost = (self._keys[place] != keys) & real
        if lost.any():
            text = texts[int(np.argmax(lost))]
            raise UserError(f"{self._texts}: it lacks the text {text[:40]!r} of the training data")
        found = np.zeros((len(texts), self.dim), np.float32)
        found[real] = self._rows[self._order[place[real]]]
        return found

    def _look(self, path: Path) -> tuple[bool, str]:
        """Whether all rows have unit length, and the hash of keys and rows."""
        unit, digest = True, hashlib.sha256(self._keys.tobytes())
        for start in range(0, len(self._rows), _BLOCK):
            block = np.ascontiguousarray(self._rows[start : start + _BLOCK])
            lengths = np.linalg.norm(block.astype(np.float32), axis=1)
            if not np.isfinite(lengths).all():
                row = start + int(np.argmin(np.isfinite(lengths)))
                raise UserError(f"{path}: row {row} holds NaN or infinity")
            unit = unit and bool((np.abs(lengths - 1) < _UNIT).all())
            digest.update(block.data)
        return unit, digest.hexdigest()[:32]


def _read(rows: Path) -> np.ndarray:
    if rows.is_dir():
        return read_embeddings(rows, model=None).vectors  # no other vectors are compared with them
    return np.load(rows, mmap_mode="r", allow_pickle=False)
