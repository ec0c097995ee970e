"""A rotation that moves most of the variance of vectors into their leading coordinates.

Models that were not trained for nested widths spread it evenly; after the rotation a prefix of
their vectors is the best of its width in the sense of squared error. Full inner products stay as
they were.
"""

import numpy as np

from gemb.search import searcher

_ROWS = 1 << 15


def principal_axes(vectors: np.ndarray) -> np.ndarray:
    """The orthogonal matrix that turns vectors onto the principal axes of a corpus.

    Columns are eigenvectors of the centred covariance, largest variance first. The mean is left out
    of the covariance and nothing is subtracted when the matrix is used: what the mean adds to an
    inner product is nearly the same for each document, so it must not take a leading coordinate.

    Args:
        vectors: [documents, dim] floats; a mapped file is read in chunks.

    Returns:
        [dim, dim] float32, orthogonal: (x @ axes) . (y @ axes) = x . y.

    Raises:
        ValueError: no documents, or values that are not finite.

    Example:
        >>> x = np.array([[0.0, 5.0], [0.0, -5.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> np.abs(principal_axes(x)).round(3)
        array([[0., 1.],
               [1., 0.]], dtype=float32)
    """
    vectors = searcher.check_corpus("vectors", vectors)
    documents, dim = vectors.shape
    total, square = np.zeros(dim), np.zeros((dim, dim))
    for start in range(0, documents, _ROWS):
        chunk = np.asarray(vectors[start : start + _ROWS], np.float32)
        total += chunk.sum(axis=0, dtype=np.float64)
        square += chunk.T @ chunk
    mean = total / documents
    _, axes = np.linalg.eigh(square / documents - np.outer(mean, mean))
    axes = axes[:, ::-1]
    signs = np.sign(axes[np.argmax(np.abs(axes), axis=0), np.arange(dim)])
    return np.ascontiguousarray(axes * signs, dtype=np.float32)


def rotate(vectors: np.ndarray, axes: np.ndarray | None) -> np.ndarray:
    """vectors @ axes as float32, chunk by chunk; the vectors themselves where axes is None."""
    if axes is None:
        return vectors
    turned = np.empty((len(vectors), axes.shape[1]), np.float32)
    for start in range(0, len(vectors), _ROWS):
        chunk = np.asarray(vectors[start : start + _ROWS], np.float32)
        np.matmul(chunk, axes, out=turned[start : start + _ROWS])
    return turned
