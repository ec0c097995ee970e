"""The protocol that every searcher answers to, and the checks and the order that they share."""

from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from gemb import checks

_CHECKED_ROWS = 1 << 16


class Hits(NamedTuple):
    """What a search found: best first, equal scores by the lower index.

    Documents with equal vectors have equal scores, whatever their place in the corpus.

    Attributes:
        scores: [queries, k] float32; -inf where fewer than k documents were found.
        indices: [queries, k] int64 rows of the corpus; -1 where fewer were found.
    """

    scores: np.ndarray
    indices: np.ndarray


class Searcher(Protocol):
    """Anything that finds a query's best documents in a corpus it was built from.

    Attributes:
        documents: how many documents it searches.
        dim: size of a vector; 0 where it reads texts only.
        reads: what a query is: "vectors", "texts", or "both" (see `hybrid.Queries`).
    """

    documents: int
    dim: int
    reads: str

    def search(self, queries: Any, k: int) -> Hits:
        """Finds the best documents of each query.

        Args:
            queries: [queries, dim] float32 vectors, or a list of texts where the searcher reads
                texts.
            k: documents wanted for each query; more than the corpus holds are padded.

        Returns:
            Hits of [queries, k].

        Raises:
            ValueError: queries of another dim, not finite, or k below 1.
        """

    def save(self, folder: Path) -> dict:
        """Writes the index into an empty folder; returns the settings that `load` needs."""


def check_vectors(name: str, vectors: np.ndarray, dim: int | None = None) -> np.ndarray:
    """Checks a matrix of vectors to be searched or searched for.

    Args:
        name: what the caller calls the argument.
        vectors: [rows, dim] floats.
        dim: the size that each vector must have; None for any above 0.

    Returns:
        The vectors as a C-ordered float32 array; the array itself where it is one already.

    Raises:
        ValueError: not a matrix of floats, another dim, or a value that is not finite.

    Example:
        >>> check_vectors("queries", np.zeros((2, 3)), dim=4)
        Traceback (most recent call last):
        ...
        gemb.checks.ArgumentError: queries: expected vectors of dim 4, got dim 3
    """
    checks.check_rank(name, vectors, 2)
    checks.check_floating(name, vectors)
    if dim is None:
        checks.check(vectors.shape[1] > 0, f"{name}: expected dim 1 or more, got dim 0")
    else:
        came = vectors.shape[1]
        checks.check(came == dim, f"{name}: expected vectors of dim {dim}, got dim {came}")
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    _check_finite(name, vectors)
    return vectors


def check_corpus(name: str, vectors: np.ndarray) -> np.ndarray:
    """Checks the vectors of a corpus, a chunk at a time, and leaves mapped files where they are.

    Args:
        name: what the caller calls the argument.
        vectors: [documents, dim] floats.

    Returns:
        The array itself where it maps a file or is float32 already, else a float32 copy.

    Raises:
        ValueError: as `check_vectors`, or no documents.
    """
    checks.check_rank(name, vectors, 2)
    checks.check(len(vectors) > 0, f"{name}: expected at least one document, got none")
    if not isinstance(vectors, np.memmap):
        return check_vectors(name, vectors)
    checks.check_floating(name, vectors)
    checks.check(vectors.shape[1] > 0, f"{name}: expected dim 1 or more, got dim 0")
    _check_finite(name, vectors)
    return vectors


def _check_finite(name: str, vectors: np.ndarray) -> None:
    for start in range(0, len(vectors), _CHECKED_ROWS):
        finite = np.isfinite(vectors[start : start + _CHECKED_ROWS]).all(axis=1)
        if not finite.all():
            row = start + int(np.argmin(finite))
            raise ValueError(f"{name}: expected finite values, got NaN or infinity in row {row}")


def check_k(k: int) -> None:
    """Raises ValueError unless `k` is 1 or more."""
    checks.check(k >= 1, f"k: expected 1 or more documents, got {k}")


def ordered_hits(scores: np.ndarray, indices: np.ndarray, k: int) -> Hits:
    """Puts candidates in the order that the protocol promises, cut or padded to k.

    Args:
        scores: [queries, found] scores; -inf or NaN marks an empty place.
        indices: [queries, found] rows of the corpus.
        k: columns of the result.

    Returns:
        Hits of [queries, k].

    Example:
        >>> ordered_hits(np.array([[1.0, 2.0, 2.0]]), np.array([[4, 9, 3]]), 4).indices
        array([[ 3,  9,  4, -1]])
    """
    scores = np.where(np.isnan(scores), -np.inf, scores).astype(np.float32)
    indices = np.where(scores > -np.inf, indices, -1).astype(np.int64)
    order = np.lexsort((indices, -scores), axis=1)[:, :k]
    missing = ((0, 0), (0, k - order.shape[1]))
    return Hits(
        np.pad(np.take_along_axis(scores, order, axis=1), missing, constant_values=-np.inf),
        np.pad(np.take_along_axis(indices, order, axis=1), missing, constant_values=-1),
    )
