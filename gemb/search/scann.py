"""Approximate search by ScaNN: a partition tree, quantised scores, and exact re-ordering.

The only importer of scann. ScaNN ships for Linux only; `ExactSearcher` always works.
"""

import contextlib
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np

from gemb import checks
from gemb.search import searcher
from gemb.search.directions import Directions
from gemb.search.repeats import Repeats

_SMALLEST_TREE = 1_000  # below this, scoring every document is as quick as a tree
_TRAINING_SAMPLE = 100_000


class ScannSearcher:
    """Finds documents of a high inner product without scoring them all.

    Up to a thousand documents all are scored. Above, the corpus falls into about
    2 sqrt(documents) leaves with SOAR spilling, of which each query visits the nearest
    `leaves_to_search`; their documents are scored in 4 bits for each 2 dimensions, and the best
    `reorder` again in float32. `gemb.search.tune` finds both for a recall wanted. Two builds of one
    corpus can differ; two searches in one index do not.

    Args:
        vectors: [documents, dim] floats, unit length for cosine.
        leaves_to_search: leaves that a query visits; default 4 sqrt(leaves) and no less
            than 100, a careful choice.
        reorder: candidates scored again in float32, at least k; default 10 k, no less than 100.

    Raises:
        ValueError: no vectors, values that are not finite, or a setting below 1.
        UserError: scann is not installed.

    Example:
        >>> index = ScannSearcher(np.eye(3, dtype=np.float32))  # doctest: +SKIP
        >>> index.search(np.eye(3, dtype=np.float32), k=1).indices.ravel()  # doctest: +SKIP
        array([0, 1, 2])

    Reference: Guo et al., Accelerating large-scale inference with anisotropic vector quantization,
        2020, arXiv 1908.10396; Sun et al., SOAR: improved indexing for approximate nearest neighbor
        search, 2023, arXiv 2404.00774.
    """

    reads = "vectors"

    def __init__(
        self,
        vectors: np.ndarray,
        *,
        leaves_to_search: int | None = None,
        reorder: int | None = None,
    ):
        vectors = searcher.check_corpus("vectors", vectors)
        self._start(*vectors.shape, leaves_to_search, reorder)
        self._repeats, self._directions = Repeats(vectors), Directions(vectors)
        with _quiet_stderr():
            self._index = _plan(_pybind().builder(vectors, 10, "dot_product"), self.leaves).build()

    def _start(self, documents: int, dim: int, leaves_to_search, reorder) -> None:
        self.documents, self.dim = documents, dim
        self.leaves = round(2 * documents**0.5) if documents > _SMALLEST_TREE else 1
        self.set(leaves_to_search, reorder)

    def set(self, leaves_to_search: int | None = None, reorder: int | None = None) -> None:
        """Changes the two settings of a search, None for the default; the index stays as it is.

        Raises:
            ValueError: a setting below 1.
        """
        for name, value in {"leaves_to_search": leaves_to_search, "reorder": reorder}.items():
            checks.check(value is None or value >= 1, f"{name}: expected 1 or more, got {value}")
        careful = max(100, round(4 * self.leaves**0.5))
        careful = careful if leaves_to_search is None else leaves_to_search
        self.leaves_to_search = min(careful, self.leaves)
        self.reorder = reorder

    @property
    def flops(self) -> int:
        """About the operations of one query for ten documents: leaves, codes, re-ordering.

        SOAR files each document under two leaves, and a code of two dimensions is one addition.
        """
        visited = 2 * self.documents * self.leaves_to_search // self.leaves
        codes = 2 * self.documents * self.dim if self.leaves == 1 else visited * self.dim // 2
        again = min(self.reorder or 100, self.documents)
        return codes + 2 * self.dim * (self.leaves + again)

    def search(self, queries: np.ndarray, k: int) -> searcher.Hits:
        """Finds about the k best documents of each query; see `Searcher.search`."""
        queries = searcher.check_vectors("queries", queries, self.dim)
        searcher.check_k(k)
        if not len(queries):
            return searcher.ordered_hits(np.zeros((0, k)), np.zeros((0, k)), k)
        wanted = self._directions.candidates(k)
        again = max(100, 10 * wanted) if self.reorder is None else max(self.reorder, wanted)
        again = min(again, self.documents)
        found = self._index.search_batched_parallel(
            queries, wanted, again, self.leaves_to_search, _batch(len(queries))
        )
        indices = found[0].astype(np.int64)  # ScaNN fills the scores with NaN
        return self._directions.last(found[1], indices, k, self._repeats.settle)

    def save(self, folder: Path) -> dict:
        """Writes ScaNN's files into scann/; returns the settings."""
        (folder / "scann").mkdir()
        with _quiet_stderr():
            self._index.serialize(str(folder / "scann"), relative_path=True)
        return {
            "documents": self.documents,
            "dim": self.dim,
            "leaves_to_search": self.leaves_to_search,
            "reorder": self.reorder,
        }

    @classmethod
    def load(cls, folder: Path, settings: dict) -> "ScannSearcher":
        """Reads what `save` wrote.

        Raises:
            UserError: scann is not installed, or the folder holds a pickle, which ScaNN would run.
        """
        path = folder / "scann"
        if (path / "scann_docids.pkl").exists():
            raise checks.UserError(f"{path}: holds scann_docids.pkl; nothing pickled is read here")
        made = cls.__new__(cls)
        made._start(**settings)
        rows = np.load(path / "dataset.npy", mmap_mode="r", allow_pickle=False)
        checks.check_shape("scann/dataset.npy", rows, (made.documents, made.dim))  # else it crashes
        made._repeats, made._directions = Repeats(rows), Directions(rows)
        with _quiet_stderr(), contextlib.redirect_stdout(None):
            made._index = _pybind().load_searcher(str(path), assets_backcompat_shim=False)
        return made


def _batch(queries: int) -> int:
    """Queries that a thread takes at a time: all threads get some."""
    return max(1, min(256, queries // (2 * (os.cpu_count() or 1))))


def available() -> bool:
    """Whether scann is installed here and loads.

    Returns:
        True where `ScannSearcher` can be built.
    """
    return not why_not()


def why_not() -> str:
    """Why `ScannSearcher` cannot be built here, and what to install; "" where it can."""
    try:
        _pybind()
    except checks.MissingExtra as error:
        return str(error)
    return ""


def _plan(builder, leaves: int):
    """How to build, by the size of the corpus, see `ScannSearcher`."""
    documents = len(builder.db)
    if leaves == 1:
        return builder.score_brute_force()
    sample = min(documents, _TRAINING_SAMPLE)
    builder = builder.tree(leaves, 1, training_sample_size=sample, soar_lambda=1.5)
    builder = builder.score_ah(
        2,
        anisotropic_quantization_threshold=0.2,
        training_sample_size=sample,
        training_iterations=4,  # half the build time of the default 10, and the same recall
    )
    return builder.reorder(100)


@cache
def _pybind():
    """ScaNN's numpy interface, without the TensorFlow that `import scann` would load first.

    scann's __init__ goes without TensorFlow where that is not installed, and an entry of None in
    sys.modules says just that. Nothing here needs its TensorFlow ops.
    """
    absent = "tensorflow" not in sys.modules
    if absent:
        sys.modules["tensorflow"] = None
    try:
        with checks.needs("approximate search (on Linux only)", extra="scann"):
            from scann import scann_ops_pybind
    finally:
        if absent:
            del sys.modules["tensorflow"]
    return scann_ops_pybind


@contextlib.contextmanager
def _quiet_stderr():
    """Sends what C++ writes to the process's stderr to nowhere; ScaNN reports errors by raising."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
