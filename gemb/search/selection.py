"""The best of one row of scores, without sorting the row."""

import numpy as np

_FOLDS = 16  # the most; a longer list wants fewer, or its floor lies too low to help
_SMALL = 4_096  # below this, numpy's partition is quick enough


def best_rows(scores: np.ndarray, count: int) -> np.ndarray:
    """The places of the `count` highest scores, in rising order; ties by the lower place.

    A long row is folded first: the count-th highest of the maxima of its folds is no higher than
    the count-th highest score, so that all below it can be left out before anything is sorted.

    Args:
        scores: [rows] floats, none of them NaN.
        count: places wanted; all where there are no more.

    Returns:
        [min(count, rows)] int64.

    Example:
        >>> best_rows(np.array([3.0, 1.0, 4.0, 1.0, 5.0, 4.0]), 2)
        array([2, 4])
    """
    rows = len(scores)
    if count >= rows:
        return np.arange(rows)
    folds = min(_FOLDS, rows // (2 * count))
    if rows < _SMALL or folds < 2:
        return _best(scores, np.arange(rows), count)
    folded = rows // folds
    maxima = scores[: folded * folds].reshape(folds, folded).max(axis=0)
    least = np.partition(maxima, folded - count)[folded - count]
    kept = np.flatnonzero(scores >= least)
    return _best(scores[kept], kept, count)


def _best(scores: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = scores > least
    equal = np.flatnonzero(scores == least)[: count - np.count_nonzero(above)]
    above[equal] = True
    return places[above]
