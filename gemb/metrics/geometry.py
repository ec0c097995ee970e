"""Measures of how vectors fill their space, in float64 numpy.

Figures of one set of embeddings: dimensions in use, isotropy, spread, and the agreement
of pairs. Rankings are in gemb.metrics.ranking; the same notions as trainable losses are in
gemb.losses.regularizers.
"""

import numpy as np

from gemb import checks


def effective_rank(vectors: np.ndarray, *, center: bool = True) -> float:
    """How many directions the vectors use: the exponential of their spectrum's entropy.

    erank = exp( -sum_k p_k log p_k ),  p_k = sigma_k / sum_j sigma_j, sigma the singular values

    Args:
        vectors: [rows, dim] floats.
        center: subtract the mean vector first.

    Returns:
        Between 1 and min(rows, dim); 0 if all (centered) vectors are zero.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> round(effective_rank(np.eye(4), center=False), 6)
        4.0

    Reference: Roy and Vetterli, The effective rank: a measure of effective dimensionality, 2007.
    """
    vectors = _checked(vectors)
    vectors = vectors - vectors.mean(axis=0) if center else vectors
    values = np.linalg.svd(vectors, compute_uv=False)
    if not values.any():
        return 0.0
    share = values / values.sum()
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))


def isotropy(vectors: np.ndarray) -> float:
    """How evenly the vectors surround the origin: min over max of a partition function.

    I = min_c Z(c) / max_c Z(c),  Z(c) = sum_i e^{c . x_i},  c over the eigenvectors of X^T X and
    their opposites

    Args:
        vectors: [rows, dim] floats.

    Returns:
        In [0, 1]; 1 for vectors without a preferred direction.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> round(isotropy(np.concatenate([np.eye(3), -np.eye(3)])), 6)
        1.0

    Reference: Mu and Viswanath, All-but-the-Top, 2018, arXiv 1702.01417; both signs of each
        eigenvector are looked at, because an eigenvector's sign is arbitrary.
    """
    vectors = _checked(vectors)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    along = vectors @ np.concatenate([directions, -directions], axis=1)
    top = along.max(axis=0)
    logs = top + np.log(np.sum(np.exp(along - top), axis=0))
    return float(np.exp(logs.min() - logs.max()))


def mean_cosine(vectors: np.ndarray) -> float:
    """The mean cosine of different rows; 1 if all have collapsed to one direction.

    Args:
        vectors: [rows, dim] floats with at least two rows, none zero.

    Returns:
        In [-1, 1].

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> mean_cosine(np.eye(3))
        0.0
    """
    vectors = _unit(_checked(vectors, rows=2))
    rows = len(vectors)
    return float((np.sum(np.square(vectors.sum(axis=0))) - rows) / (rows * (rows - 1)))


def uniformity(vectors: np.ndarray, *, scale: float = 2.0) -> float:
    """log mean_{i != j} e^{-scale |x_i - x_j|^2} of unit-length rows; lower is more even.

    Args:
        vectors: [rows, dim] floats with at least two rows, none zero; made unit-length.
        scale: multiplies the squared distances.

    Returns:
        Between -4 scale and 0.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> round(uniformity(np.eye(3)), 6)
        -4.0

    Reference: Wang and Isola, 2020, arXiv 2005.10242.
    """
    vectors = _unit(_checked(vectors, rows=2))
    exponents = -2 * scale * (1 - vectors @ vectors.T)
    total = np.sum(np.exp(exponents)) - np.sum(np.exp(np.diagonal(exponents)))
    return float(np.log(total / (len(vectors) * (len(vectors) - 1))))


def alignment(left: np.ndarray, right: np.ndarray) -> float:
    """mean_i |x_i - y_i|^2 of paired unit-length rows; lower is nearer.

    Args:
        left: [rows, dim] floats, none zero; made unit-length.
        right: [rows, dim] floats, likewise.

    Returns:
        In [0, 4].

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> alignment(np.eye(2), 3 * np.eye(2))
        0.0

    Reference: Wang and Isola, 2020, arXiv 2005.10242.
    """
    left = _unit(_checked(left, "left"))
    checks.check_shape("right", right, left.shape)
    right = _unit(_checked(right, "right"))
    return float(np.mean(np.sum(np.square(left - right), axis=1)))


def _checked(vectors, name: str = "vectors", rows: int = 1) -> np.ndarray:
    checks.check_rank(name, vectors, 2)
    checks.check_floating(name, vectors)
    checks.check(len(vectors) >= rows, f"{name}: expected at least {rows} rows, got {len(vectors)}")
    return np.asarray(vectors, np.float64)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def truncate(vectors: np.ndarray, width: int, name: str = "vectors") -> np.ndarray:
    """Keeps the first coordinates of each vector and makes it unit length again.

    Args:
        vectors: [rows, dim] floats.
        width: coordinates to keep, 1 to dim.
        name: what the caller calls the vectors.

    Returns:
        [rows, width] float32 of unit length; a row whose first coordinates are all zero has no
        direction and stays zero.

    Raises:
        ValueError: a width outside 1 to dim, or a value that is not finite.

    Example:
        >>> truncate(np.array([[3.0, 4.0, 12.0]]), 2)
        array([[0.6, 0.8]], dtype=float32)
    """
    checks.check_rank(name, vectors, 2)
    (width,) = checks.check_widths("width", [width], vectors.shape[1])
    kept = np.asarray(vectors[:, :width], dtype=np.float32)
    lengths = np.linalg.norm(kept.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        row = int(np.argmin(np.isfinite(lengths)))
        raise checks.ArgumentError(
            f"{name}: expected finite values, got NaN or infinity in row {row}"
        )
    return (kept / np.where(lengths, lengths, 1)).astype(np.float32)
