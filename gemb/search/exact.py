"""Exact search by inner product, on the device: every document is scored.

The corpus is cut into chunks of one size and the queries into blocks of few sizes, so that a
searcher compiles once for each k and block size, however many calls come. A corpus within
`device_bytes` is placed on the device once; a larger one stays where it is (in memory, or in a file
that numpy maps) and passes through the device chunk by chunk, its best hits merged on the way.
"""

from functools import cache

import numpy as np

from gemb import checks
from gemb.search import searcher

_QUERY_BLOCKS = (1, 8, 64, 256)


class ExactSearcher:
    """Finds the documents of the highest inner product (cosine, for unit vectors), without loss.

    Args:
        vectors: [documents, dim] floats. A memory-mapped float32 array is not read into memory.
        chunk_rows: documents scored at a time.
        device_bytes: the largest corpus that is kept on the device.

    Raises:
        ValueError: no vectors, or values that are not finite.

    Example:
        >>> index = ExactSearcher(np.eye(3, dtype=np.float32))
        >>> scores, indices = index.search(np.array([[0.1, 0.9, 0.2]], np.float32), k=2)
        >>> indices
        array([[1, 2]])
    """

    def __init__(
        self, vectors: np.ndarray, *, chunk_rows: int = 1 << 16, device_bytes: int = 2 << 30
    ):
        checks.check(chunk_rows >= 1, f"chunk_rows: expected 1 or more, got {chunk_rows}")
        self._vectors = searcher.check_vectors("vectors", vectors)
        self._documents, self.dim = self._vectors.shape
        checks.check(self._documents > 0, "vectors: expected at least one document, got none")
        self._rows = min(chunk_rows, self._documents)
        resident = self._vectors.nbytes <= device_bytes
        self._placed = list(self._place()) if resident else None

    def search(self, queries: np.ndarray, k: int) -> searcher.Hits:
        """Finds the k best documents of each query; see `Searcher.search`."""
        queries = searcher.check_vectors("queries", queries, self.dim)
        searcher.check_k(k)
        found = min(k, self._documents)
        blocks = list(_blocks(queries))
        best = [None] * len(blocks)
        for start, chunk in enumerate(self._placed or self._place()):
            for i, block in enumerate(blocks):
                best[i] = _merge(best[i], block, chunk, start * self._rows, self._documents, found)
        if not blocks:
            return searcher.ordered_hits(np.zeros((0, k)), np.zeros((0, k)), k)
        scores, indices = (np.concatenate(parts) for parts in zip(*best, strict=True))
        return searcher.ordered_hits(scores[: len(queries)], indices[: len(queries)], k)

    def _place(self):
        """Yields the chunks on the device, the last one filled up with zeros."""
        import jax

        for start in range(0, self._documents, self._rows):
            chunk = self._vectors[start : start + self._rows]
            missing = self._rows - len(chunk)
            yield jax.device_put(np.pad(chunk, ((0, missing), (0, 0))) if missing else chunk)


def _blocks(queries: np.ndarray):
    """Yields the queries in blocks of the sizes in _QUERY_BLOCKS, filled up with zeros."""
    for start in range(0, len(queries), _QUERY_BLOCKS[-1]):
        block = queries[start : start + _QUERY_BLOCKS[-1]]
        size = next(size for size in _QUERY_BLOCKS if size >= len(block))
        yield np.pad(block, ((0, size - len(block)), (0, 0)))


def _merge(best, block, chunk, start: int, documents: int, k: int):
    """The k best of what was found before and of one chunk, for one block of queries."""
    if best is None:
        shape = len(block), k
        best = np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int32)
    return _compiled()(*best, block, chunk, start, documents, k)


@cache
def _compiled():
    import jax
    import jax.numpy as jnp
    from jax import lax

    def merge(scores, indices, queries, chunk, start, documents, k):
        found = jnp.matmul(queries, chunk.T, precision=lax.Precision.HIGHEST)
        rows = start + lax.broadcasted_iota(jnp.int32, found.shape, 1)
        # -0 would rank below 0, and break a tie the wrong way round.
        found = jnp.where(rows < documents, jnp.where(found == 0, 0.0, found), -jnp.inf)
        top, place = lax.top_k(found, min(k, chunk.shape[0]))
        scores = jnp.concatenate([scores, top], axis=1)
        indices = jnp.concatenate([indices, start + place], axis=1)
        # top_k is stable: earlier chunks, which hold the lower indices, win ties.
        scores, place = lax.top_k(scores, k)
        return scores, jnp.take_along_axis(indices, place, axis=1)

    return jax.jit(merge, static_argnames="k")
