"""Records from an offline cache that `gemb cache` wrote, in the order that they had before.

Beam writes records in any order, to several files; each carries its number. No TensorFlow here.
"""

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gemb.checks import UserError
from gemb.data.sources.records import Records, digest, identity, kept
from gemb.data.sources.tfrecord import TFRecord

NOTES = "gemb.json"
COMPLETED = "COMPLETED"  # seqio's name for the file that says so
_LONG = 200_000


def records(folder: str) -> Records:
    """The records of a task that `gemb cache` wrote: the form's columns, already named so.

    A task that reads them gives the batches that it gave with its own source, so bind no `columns`.

    Args:
        folder: of the one task, OUTPUT_CACHE_DIR/NAME_TASK.

    Raises:
        UserError: for a folder that holds no whole cache.
    """
    return Cached(folder)


def notes_of(folder: Path) -> dict | None:
    """What `gemb cache` noted about a cached task; None where no whole cache is."""
    if not (folder / NOTES).is_file() or not (folder / COMPLETED).is_file():
        return None
    return json.loads((folder / NOTES).read_text(encoding="utf-8"))


class Cached:
    """The records of one cached task by their old numbers.

    Args:
        folder: of the task.

    Raises:
        UserError: for a folder that holds no whole cache, or records missing or twice.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).expanduser()
        notes = notes_of(self.folder)
        if notes is None:
            there = sorted(path.parent.name for path in self.folder.glob(f"*/{NOTES}"))
            hint = f"; name one of its tasks: {', '.join(there)}" if there else ""
            raise UserError(f"{folder}: holds no cached task; `gemb cache` writes one{hint}")
        # Beam makes every file it was asked for, also those that got no record.
        paths = [path for path in sorted(self.folder.glob("*.tfrecord-*")) if path.stat().st_size]
        self._files = [TFRecord(path) for path in paths]
        key = digest(notes["fingerprint"], *map(identity, paths))
        self._index, _ = kept("cached", key, lambda: (self._look(notes["records"]), {}))
        self.fingerprint = digest("cached", notes["fingerprint"])

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, row: int) -> dict:
        file, inside, _ = self._index[row]
        return json.loads(self._files[file][inside]["record"])

    def where(self, row: int) -> str:
        file, inside, _ = self._index[row]
        return self._files[file].where(int(inside))

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(self._index[np.asarray(rows), 2])

    def _look(self, count: int) -> np.ndarray:
        """[records, 3] int64: file, record in the file, size of the record it was made of."""
        index, seen = np.zeros((count, 3), np.int64), np.zeros(count, np.int64)
        with tqdm(total=count, desc=f"read {self.folder.name}", disable=count <= _LONG) as bar:
            for number, file in enumerate(self._files):
                for inside in range(len(file)):
                    example = file[inside]
                    row = example.get("number", count)
                    if row >= count:
                        raise UserError(f"{file.where(inside)}: is not of this cache")
                    index[row] = number, inside, example["size"]
                    seen[row] += 1
                bar.update(len(file))
        if not (seen == 1).all():
            raise UserError(
                f"{self.folder}: of {count:,} records {(seen == 0).sum():,} are missing and "
                f"{(seen > 1).sum():,} there more than once; remove the folder and cache it again"
            )
        return index
