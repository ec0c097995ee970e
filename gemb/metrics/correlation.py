"""Correlation of two lists of scores, in float64; the metrics of STS tasks.

Equal to scipy.stats where that is defined. If one side is constant, for which scipy returns
NaN, the correlation is 0.
"""

import numpy as np

from gemb import checks


def pearson(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson's linear correlation.

    r = sum_i (x_i - mean x)(y_i - mean y) / (n std x std y)

    Args:
        left: [items] numbers, at least two.
        right: [items] numbers.

    Returns:
        In [-1, 1]; 0 where one side is constant.

    Raises:
        ValueError: not two lists of one length, fewer than two items, or values not finite.

    Example:
        >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0])), 6)
        1.0
    """
    return _correlation(*_checked(left, right))


def spearman(left: np.ndarray, right: np.ndarray) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, equal values sharing their mean rank.

    Args:
        left: [items] numbers, at least two.
        right: [items] numbers.

    Returns:
        In [-1, 1]; 0 where one side is constant.

    Raises:
        ValueError: not two lists of one length, fewer than two items, or values not finite.

    Example:
        >>> round(spearman(np.array([1.0, 2.0, 9.0]), np.array([3.0, 2.0, 1.0])), 6)
        -1.0

    Reference: Spearman, The proof and measurement of association between two things, 1904.
    """
    left, right = _checked(left, right)
    return _correlation(ranks(left), ranks(right))


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value from 1 for the lowest up, equal values sharing their mean rank.

    Args:
        values: [items] numbers.

    Returns:
        [items] float64.

    Example:
        >>> ranks(np.array([5.0, 1.0, 5.0]))
        array([2.5, 1. , 2.5])
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _correlation(left: np.ndarray, right: np.ndarray) -> float:
    if left.min() == left.max() or right.min() == right.max():
        return 0.0
    value = _direction(left) @ _direction(right)
    return float(np.clip(value, -1, 1))


def _direction(values: np.ndarray) -> np.ndarray:
    values = values - values.mean()
    values = values / np.abs(values).max()  # else the squares of tiny values are 0
    return values / np.linalg.norm(values)


def _checked(left, right) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    checks.check_rank("left", left, 1)
    checks.check_shape("right", right, left.shape)
    checks.check(len(left) > 1, f"left: expected at least two items, got {len(left)}")
    for name, values in {"left": left, "right": right}.items():
        checks.check(bool(np.isfinite(values).all()), f"{name}: expected finite values")
    return left, right
