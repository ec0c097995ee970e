"""Exact search by inner product, on the devices: every document is scored."""

from pathlib import Path

import numpy as np

from gemb import checks
from gemb.search import searcher
from gemb.search.directions import Directions
from gemb.search.repeats import Repeats
from gemb.search.scan import Scan


class ExactSearcher:
    """Finds the documents of the highest inner product (cosine, for unit vectors), without loss.

    Documents whose vector is zero come last, see `gemb.search.directions`.

    Args:
        vectors: [documents, dim] floats. A memory-mapped array is not read into memory: with
            `device_bytes=0` a corpus of any size is searched in the memory of one chunk.
        chunk_rows: documents scored at a time.
        device_bytes: the largest corpus that is kept on the devices.
        devices: jax devices to split the documents over; default all of this process.

    Raises:
        ValueError: no vectors, or values that are not finite.

    Example:
        >>> index = ExactSearcher(np.eye(3, dtype=np.float32))
        >>> scores, indices = index.search(np.array([[0.1, 0.9, 0.2]], np.float32), k=2)
        >>> indices
        array([[1, 2]])
    """

    reads = "vectors"

    def __init__(
        self,
        vectors: np.ndarray,
        *,
        chunk_rows: int = 1 << 16,
        device_bytes: int = 2 << 30,
        devices=None,
    ):
        checks.check(chunk_rows >= 1, f"chunk_rows: expected 1 or more, got {chunk_rows}")
        self._vectors = searcher.check_corpus("vectors", vectors)
        self.documents, self.dim = self._vectors.shape
        self._repeats, self._directions = Repeats(self._vectors), Directions(self._vectors)
        self._scan = Scan(
            self._vectors, chunk_rows=chunk_rows, device_bytes=device_bytes, devices=devices
        )

    def search(self, queries: np.ndarray, k: int) -> searcher.Hits:
        """Finds the k best documents of each query; see `Searcher.search`."""
        queries = searcher.check_vectors("queries", queries, self.dim)
        searcher.check_k(k)
        found = self._scan.search(queries, self._directions.candidates(k))
        return self._directions.last(*found, k, self._repeats.settle)

    def save(self, folder: Path) -> dict:
        """Writes the vectors as vectors.npy; returns the settings (none)."""
        np.save(folder / "vectors.npy", self._vectors)
        return {}

    @classmethod
    def load(cls, folder: Path, settings: dict) -> "ExactSearcher":
        """Maps the vectors that `save` wrote; only what is searched is read."""
        return cls(np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False), **settings)
