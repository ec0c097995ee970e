"""A cache of float16 rows by key, in shards that a kill cannot damage.

    FOLDER/000000    a shard: a folder of `gemb.store`, its ids the keys, uint64

A shard appears only when it is complete. It records the teacher that made its rows.
"""

from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.store import read_embeddings, write_embeddings

_SHARDS = "[0-9]" * 6


class RowCache:
    """Rows of one teacher.

    Args:
        folder: the folder of the cache; it need not exist.
        fingerprint: the teacher's fingerprint.
        dim: values per row.

    Raises:
        UserError: if the folder holds another teacher's rows, or an incomplete shard.
    """

    def __init__(self, folder: Path, fingerprint: str, dim: int):
        self.folder = Path(folder)
        self._about = {"model": fingerprint, "dim": dim, "dtype": "float16"}
        shards = [self._shard(path) for path in sorted(self.folder.glob(_SHARDS))]
        keys = [keys for keys, _ in shards]
        self._rows, self._count = [rows for _, rows in shards], len(shards)
        self._starts = np.cumsum([0, *map(len, keys)])
        joined = np.concatenate([np.zeros(0, np.uint64), *keys])
        self._order = np.argsort(joined, kind="stable")
        self._keys = joined[self._order]

    def __len__(self) -> int:
        return len(self._keys)

    def missing(self, keys: np.ndarray) -> np.ndarray:
        """[keys] bool: True for keys without a row in the cache."""
        return self._find(keys) < 0

    def rows(self, keys: np.ndarray) -> np.ndarray:
        """[keys, dim] float32.

        Raises:
            KeyError: with the position of the first missing key.
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
        """Writes a shard. Lookups find it after the cache is opened again.

        Args:
            keys: [rows] uint64, none of them in the cache yet.
            rows: [rows, dim] floats.

        Raises:
            UserError: if a row is not finite in float16, or the disk is full.
        """
        half = np.asarray(rows, np.float32).astype(np.float16)
        if not np.isfinite(half).all():
            raise UserError(
                f"{self.folder}: the teacher gave NaN, infinity or a number beyond float16; "
                "that shard was not written"
            )
        keys, about = np.asarray(keys, np.uint64), {"texts": "", "kind": "teacher"}
        shard = self.folder / f"{self._count:06d}"
        write_embeddings(shard, half, model=self._about["model"], ids=keys, **about)
        self._count += 1

    def _shard(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        keys, rows, found = read_embeddings(path, model=None, made_by="gemb teach")
        if not self._about.items() <= found.items():
            raise UserError(
                f"{self.folder}: holds the rows of another teacher (fingerprint {found['model']}, "
                f"expected {self._about['model']}): its weights, its tokenizer or its settings "
                "have changed; delete the folder, or name another"
            )
        return np.asarray(keys, np.uint64), rows

    def _find(self, keys: np.ndarray) -> np.ndarray:
        """[keys] the row of each key, -1 for a missing key."""
        if not len(self._keys):
            return np.full(len(keys), -1)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._order[place], -1)
