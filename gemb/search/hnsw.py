"""Approximate search by HNSW: a graph of near documents in several layers.

The only importer of usearch, which is small and runs on every system; ScaNN needs less memory.
"""

from pathlib import Path

import numpy as np

from gemb import checks
from gemb.search import searcher
from gemb.search.directions import Directions
from gemb.search.repeats import Repeats

_SMALLEST_GRAPH = 1_000  # below this, scoring every document is as quick as a graph
_FILE, _VECTORS = "graph.usearch", "vectors.npy"


class HnswSearcher:
    """Finds documents of a high inner product by walking a graph of neighbours.

    Up to a thousand documents all are scored. What the graph finds is scored again in float32 from
    the vectors, which stay at hand; a mapped file will do. A saved index
    is mapped from disk. Two builds of one corpus can differ; two searches in one index do not.

    Args:
        vectors: [documents, dim] floats, unit length for cosine.
        m: links of a document; the lowest layer has twice as many.
        ef_construction: candidates for the links of a document.
        ef: candidates of a search, at least k; `set` changes it.

    Attributes:
        exact: whether all documents are scored.

    Raises:
        ValueError: no vectors, values that are not finite, or a setting below 1.
        UserError: usearch is not installed.

    Example:
        >>> index = HnswSearcher(np.eye(3, dtype=np.float32))  # doctest: +SKIP
        >>> index.search(np.eye(3, dtype=np.float32), k=1).indices.ravel()  # doctest: +SKIP
        array([0, 1, 2])

    Reference: Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using
        hierarchical navigable small world graphs, 2016, arXiv 1603.09320.
    """

    reads = "vectors"

    def __init__(
        self, vectors: np.ndarray, *, m: int = 16, ef_construction: int = 128, ef: int = 64
    ):
        for name, value in {"m": m, "ef_construction": ef_construction}.items():
            checks.check(value >= 2, f"{name}: expected 2 or more, got {value}")
        vectors = searcher.check_corpus("vectors", vectors)
        self._start(vectors, ef)
        self._graph = _usearch().Index(
            ndim=self.dim, metric="ip", dtype="f32", connectivity=m,
            expansion_add=ef_construction, expansion_search=ef, enable_key_lookups=False,
        )  # fmt: skip
        self._graph.add(np.arange(self.documents), np.asarray(vectors, np.float32))

    def _start(self, vectors: np.ndarray, ef: int) -> None:
        self._vectors = vectors
        self.documents, self.dim = vectors.shape
        self._repeats, self._directions = Repeats(vectors), Directions(vectors)
        self.exact = self.documents <= _SMALLEST_GRAPH
        checks.check(ef >= 1, f"ef: expected 1 or more, got {ef}")
        self.ef = ef

    def set(self, ef: int) -> None:
        """Changes the candidates of a search; the graph stays as it is.

        Raises:
            ValueError: below 1.
        """
        checks.check(ef >= 1, f"ef: expected 1 or more, got {ef}")
        self.ef = ef
        self._graph.expansion_search = ef

    def search(self, queries: np.ndarray, k: int) -> searcher.Hits:
        """Finds about the k best documents of each query; see `Searcher.search`."""
        queries = searcher.check_vectors("queries", queries, self.dim)
        searcher.check_k(k)
        wanted = self._directions.candidates(k)
        indices = np.full((len(queries), wanted), -1)
        scores = np.full((len(queries), wanted), -np.inf, np.float32)
        for row, query in enumerate(queries):
            found = self._graph.search(query, wanted, exact=self.exact).keys.astype(np.int64)
            indices[row, : len(found)] = found
            rows = np.asarray(self._vectors[found], np.float32)
            scores[row, : len(found)] = np.einsum("nd,d->n", rows, query)
        return self._directions.last(scores, indices, k, self._repeats.settle)

    def save(self, folder: Path) -> dict:
        """Writes the graph and the vectors; returns the settings."""
        self._graph.save(str(folder / _FILE))
        np.save(folder / _VECTORS, self._vectors)
        return {"ef": self.ef}

    @classmethod
    def load(cls, folder: Path, settings: dict) -> "HnswSearcher":
        """Maps what `save` wrote.

        Raises:
            UserError: usearch is not installed.
            ValueError: a graph of other documents.
        """
        made = cls.__new__(cls)
        vectors = np.load(folder / _VECTORS, mmap_mode="r", allow_pickle=False)
        made._start(vectors, **settings)
        made._graph = _usearch().Index.restore(str(folder / _FILE), view=True)
        checks.check(made._graph is not None, f"{_FILE}: is not a graph")
        shape = (len(made._graph), made._graph.ndim)
        checks.check_shape(_VECTORS, vectors, shape)
        made.set(made.ef)
        return made


def tune_hnsw(
    index: HnswSearcher, vectors: np.ndarray, queries: np.ndarray, *, k: int, target: float
) -> float:
    """Sets an index to the fewest candidates whose recall@k on a sample meets a target.

    Args:
        index: built from `vectors`; its setting is changed.
        vectors: [documents, dim] floats.
        queries: [queries, dim] floats of the kind that will be asked.
        k: the hits that matter.
        target: mean share of exact search's first k to find, above 0 and below 1.

    Returns:
        The share that was found.

    Raises:
        UserError: no setting up to 2,048 reaches the target; the message has the best recall.
    """
    from gemb.search.exact import ExactSearcher

    if index.exact:
        return 1.0
    true = ExactSearcher(vectors).search(queries, k).indices
    recall = 0.0
    for ef in (k, *(size for size in (16, 32, 64, 128, 256, 512, 1024, 2048) if size > k)):
        index.set(ef)
        found = index.search(queries, k).indices
        recall = float((true[:, :, None] == found[:, None, :]).any(axis=2).mean())
        if recall >= target:
            return recall
    raise checks.UserError(
        f"no setting of this HNSW index reaches recall@{k} {target}; the best found was "
        f"{recall:.4f}: lower the target or search exactly"
    )


def _usearch():
    with checks.needs("approximate search by HNSW", extra="hnsw"):
        from usearch import index
    return index
