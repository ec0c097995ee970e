"""What a source is: records by number. Readers of formats are in the other files of this folder.

Random access is what makes an exact shuffle, exact resume and disjoint hosts cheap: an order is a
function of (seed, epoch, place), and nothing needs to be read to skip it.
"""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_folder, cache_dir


class Records(Protocol):
    """A source of records.

    Attributes:
        fingerprint: a hash of the content.
    """

    fingerprint: str

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> dict:
        """The record; ValueError, saying what is wrong, where it is broken."""

    def where(self, row: int) -> str:
        """File and line (or number) of a record, for messages."""

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """[rows] about how long each record is, in any unit, without reading it."""


class Joined:
    """Several sources, one after the other.

    Args:
        parts: at least one source.
    """

    def __init__(self, parts: Sequence[Records]):
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.fingerprint = digest(*(part.fingerprint for part in self._parts))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, row: int) -> dict:
        part, row = self._find(row)
        return part[row]

    def where(self, row: int) -> str:
        part, row = self._find(row)
        return part.where(row)

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        rows, found = np.asarray(rows), np.zeros(len(rows), np.int64)
        numbers = np.searchsorted(self._ends, rows, side="right")
        for number in np.unique(numbers):
            here = numbers == number
            start = self._ends[number] - len(self._parts[number])
            found[here] = self._parts[number].sizes(rows[here] - start)
        return found

    def _find(self, row: int) -> tuple[Records, int]:
        number = int(np.searchsorted(self._ends, row, side="right"))
        return self._parts[number], int(row - self._ends[number] + len(self._parts[number]))


def digest(*parts: str) -> str:
    """A short hash of texts."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]


def content_digest(path: Path) -> str:
    """A hash of a file's content, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def identity(path: Path) -> str:
    """A hash of a file's place, size and time of change: the cache trusts it."""
    stat = path.stat()
    return digest(str(path.resolve()), str(stat.st_size), str(stat.st_mtime_ns))


def kept(
    kind: str, key: str, make: Callable[[], tuple[np.ndarray, dict]]
) -> tuple[np.ndarray, dict]:
    """An array and its notes from the cache, made on first use.

    Args:
        kind: the cache's subfolder.
        key: changes whenever the content would.
        make: () -> (array, notes that JSON can hold).

    Returns:
        The array, mapped from disk, and the notes.
    """
    folder = cache_dir() / "data" / kind / key
    if not folder.exists():
        array, notes = make()
        with atomic_folder(folder) as temporary:
            np.save(temporary / "array.npy", array)
            (temporary / "notes.json").write_text(json.dumps(notes | {"made": time.time()}))
    notes = json.loads((folder / "notes.json").read_text())
    return np.load(folder / "array.npy", mmap_mode="r"), notes


def found(paths: str | Path | Sequence[str | Path]) -> list[Path]:
    """Files by name or pattern, in order of name.

    Raises:
        UserError: for a name or pattern that no file has.
    """
    files = []
    for name in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(name).expanduser()
        hits = [path] if path.is_file() else sorted(path.parent.glob(path.name))
        hits = [hit for hit in hits if hit.is_file()]
        if not hits:
            raise UserError(f"{name}: no such file; relative paths start at {Path.cwd()}")
        files += hits
    return files


class EachText:
    """A record for each text of a column that holds lists: every positive of a query in its turn.

    The records of one list are consecutive: `neighbours` keeps them in one batch, as the loss
    `multi_positive` wants them.

    Args:
        source: the records.
        column: the column of lists.

    Raises:
        UserError: for a record that cannot be read, or holds no such column.
    """

    def __init__(self, source: Records, column: str):
        self._source, self._column, counts = source, column, []
        for row in range(len(source)):
            try:
                record = source[row]
                value = record[column] if record else []
            except (ValueError, KeyError) as error:
                raise UserError(f"{source.where(row)}: {error}") from None
            counts.append(len(value) if isinstance(value, list | tuple) else 1)
        self._ends = np.cumsum(counts)
        self.fingerprint = digest(source.fingerprint, column)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, row: int) -> dict:
        owner = int(np.searchsorted(self._ends, row, side="right"))
        record = self._source[owner]
        value = record[self._column]
        if isinstance(value, list | tuple):
            value = value[int(row - self._ends[owner])]  # from the end, as the difference is < 0
        return record | {self._column: value}

    def where(self, row: int) -> str:
        return self._source.where(int(np.searchsorted(self._ends, row, side="right")))

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        return self._source.sizes(np.searchsorted(self._ends, rows, side="right"))
