"""A cache of float16 rows by key, in memory-mapped shards that a kill cannot spoil.

    FOLDER/teacher.json         whose rows these are, and their width
    FOLDER/000000.rows, .keys   a shard: [rows, dim] float16, and [rows] uint64

A shard counts when its keys are there; they are written last, and whole.
"""

import json
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_file

_ABOUT = "teacher.json"


class RowCache:
    """Rows of one teacher.

    Args:
        folder: of the cache; need not exist.
        fingerprint: of the teacher.
        dim: size of a row.

    Raises:
        UserError: if the folder holds another teacher's rows, or a shard that is not whole.
    """

    def __init__(self, folder: Path, fingerprint: str, dim: int):
        self.folder = Path(folder)
        self._about = {"fingerprint": fingerprint, "dim": dim, "dtype": "float16"}
        self._check_about()
        shards = [self._shard(path) for path in sorted(self.folder.glob("*.keys"))]
        keys = [keys for keys, _ in shards]
        self._rows, self._count = [rows for _, rows in shards], len(shards)
        self._starts = np.cumsum([0, *map(len, keys)])
        joined = np.concatenate([np.zeros(0, np.uint64), *keys])
        self._order = np.argsort(joined, kind="stable")
        self._keys = joined[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def missing(self, keys: np.ndarray) -> np.ndarray:
        """[keys] bool, True where the cache has no row."""
        return self._find(keys) < 0

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """[keys, dim] float32.

        Raises:
            KeyError: with the place of the first key that is not there.
        """
        found = self._find(keys)
        if (found < 0).any():
            raise KeyError(int(np.argmax(found < 0)))
        shards = np.searchsorted(self._starts, found, side="right") - 1
        rows = np.empty((len(keys), self._about["dim"]), np.float32)
        for shard in np.unique(shards):
            here = shards == shard
            rows[here] = self._rows[shard][found[here] - self._starts[shard]]
        return rows

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Writes a shard, which is found after the cache has been opened anew.

        Args:
            keys: [rows] uint64, none of them there yet.
            rows: [rows, dim] floats.

        Raises:
            UserError: if a row is not finite in float16, or the disk is full.
        """
        half = np.asarray(rows, np.float32).astype(np.float16)
        if not np.isfinite(half).all():
            raise UserError(
                f"{self.folder}: the teacher gave NaN, infinity or a number beyond float16; "
                "nothing of that shard was kept"
            )
        if not self._count:
            with atomic_file(self.folder / _ABOUT) as path:
                path.write_text(json.dumps(self._about, indent=2) + "\n", encoding="utf-8")
        name = self.folder / f"{self._count:06d}"
        for ending, array in ((".rows", half), (".keys", np.asarray(keys, np.uint64))):
            with atomic_file(name.with_suffix(ending)) as path:
                array.tofile(path)
        self._count += 1

    def _check_about(self) -> None:
        path = self.folder / _ABOUT
        if not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            fingerprint = found["fingerprint"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path}: cannot be read ({error}); delete the folder") from None
        if found != self._about:
            raise UserError(
                f"{self.folder}: holds what another teacher taught (fingerprint "
                f"{fingerprint}, expected {self._about['fingerprint']}): its weights, "
                "its tokenizer or its settings have changed; delete the folder, or name another"
            )

    def _shard(self, path: Path) -> tuple[np.ndarray, np.memmap]:
        keys, rows = np.fromfile(path, np.uint64), path.with_suffix(".rows")
        expected = len(keys) * self._about["dim"] * 2
        if not rows.exists() or rows.stat().st_size != expected:
            size = rows.stat().st_size if rows.exists() else "no"
            raise UserError(
                f"{rows}: expected {expected:,} bytes, got {size}; delete {self.folder} and teach "
                "again"
            )
        return keys, np.memmap(rows, np.float16, "r", shape=(len(keys), self._about["dim"]))

    def _find(self, keys: np.ndarray) -> np.ndarray:
        """[keys] the row of each, -1 where there is none."""
        if not len(self._keys):
            return np.full(len(keys), -1)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._order[place], -1)
