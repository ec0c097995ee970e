"""Approximate search by ScaNN: a partition tree, quantised scores, and exact re-ordering.

The only importer of scann. ScaNN ships for Linux only; `ExactSearcher` always works.
"""

import contextlib
import os
import sys
from functools import cache

import numpy as np

from gemb import checks
from gemb.search import searcher

_SMALLEST_TREE = 1_000  # below this, scoring every document is as quick as a tree
_TRAINING_SAMPLE = 100_000


class ScannSearcher:
    """Finds documents of a high inner product without scoring them all.

    The settings follow from the size of the corpus. Up to a thousand documents all are scored.
    Above, the corpus falls into about 2 sqrt(documents) leaves with SOAR spilling, of which each
    query visits the nearest `leaves_to_search`; their documents are scored in 4 bits for each 2
    dimensions, and the best `reorder` again in float32. Two builds of one corpus can differ; two
    searches in one index do not.

    Args:
        vectors: [documents, dim] floats, unit length for cosine.
        leaves_to_search: leaves that a query visits.
        reorder: candidates scored again in float32; at least 2 k are, whatever it says.

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

    def __init__(self, vectors: np.ndarray, *, leaves_to_search: int = 100, reorder: int = 200):
        for name, value in {"leaves_to_search": leaves_to_search, "reorder": reorder}.items():
            checks.check(value >= 1, f"{name}: expected 1 or more, got {value}")
        vectors = searcher.check_vectors("vectors", vectors)
        self._documents, self.dim = vectors.shape
        checks.check(self._documents > 0, "vectors: expected at least one document, got none")
        self._leaves_to_search, self._reorder = leaves_to_search, reorder
        with _quiet_stderr():
            self._index = _plan(_pybind().builder(vectors, 10, "dot_product")).build()

    def search(self, queries: np.ndarray, k: int) -> searcher.Hits:
        """Finds about the k best documents of each query; see `Searcher.search`."""
        queries = searcher.check_vectors("queries", queries, self.dim)
        searcher.check_k(k)
        if not len(queries):
            return searcher.ordered_hits(np.zeros((0, k)), np.zeros((0, k)), k)
        wanted = min(k, self._documents)
        again = min(max(self._reorder, 2 * wanted), self._documents)
        found = self._index.search_batched_parallel(queries, wanted, again, self._leaves_to_search)
        return searcher.ordered_hits(found[1], found[0].astype(np.int64), k)  # ScaNN fills with NaN


def available() -> bool:
    """Whether scann is installed here and loads.

    Returns:
        True where `ScannSearcher` can be built.
    """
    try:
        _pybind()
    except checks.UserError:
        return False
    return True


def _plan(builder):
    """Settings by the size of the corpus, see `ScannSearcher`."""
    documents = len(builder.db)
    if documents <= _SMALLEST_TREE:
        return builder.score_brute_force()
    leaves = round(2 * documents**0.5)
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
        from scann import scann_ops_pybind
    except ImportError as error:
        raise checks.UserError(
            f"approximate search needs ScaNN, which does not load here ({error}); on Linux, "
            "`pip install 'scann[tf]==1.4.*'`, or search exactly"
        ) from error
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
