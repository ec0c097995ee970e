"""Tests whether two models differ on a task: paired bootstrap and randomisation, in numpy.

Both take the results of each model on the same items (queries, pairs, texts). A figure that is the
mean of the items needs nothing else; any other figure (a rank correlation, an average precision) is
given as a function of the items.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gemb import checks

# (items [n], rows [n]) -> the figure of items[rows], judged by the truth of the same rows.
Statistic = Callable[[np.ndarray, np.ndarray], float]
_CHUNK = 1 << 22  # numbers held at a time


class Bootstrap(NamedTuple):
    """The result of a paired bootstrap.

    Attributes:
        difference: the right model's figure less the left one's.
        low, high: the interval that holds the difference in 95 % of the resamples.
        p: two-sided: how often a difference as large comes where there is none.
    """

    difference: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    left: np.ndarray,
    right: np.ndarray,
    statistic: Statistic | None = None,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> Bootstrap:
    """Resamples the items with replacement and measures how the difference varies.

    p = P(|d* - d| >= |d|), d the difference and d* that of a resample

    Args:
        left: [items] what one model did on each item.
        right: [items] what the other did on the same items.
        statistic: the figure as a function of items and rows; default their mean.
        samples: resamples.
        seed: of the draws.

    Returns:
        Difference, interval and p; p is at least 1 / (samples + 1).

    Raises:
        ValueError: not two lists of one length, or no item.

    Example:
        >>> result = paired_bootstrap(np.zeros(50), np.full(50, 0.1), samples=100)
        >>> round(result.difference, 6), round(result.low, 6), round(result.p, 4)
        (0.1, 0.1, 0.0099)

    Reference: Efron and Tibshirani, An introduction to the bootstrap, 1993, section 16.4;
        Berg-Kirkpatrick, Burkett and Klein, An empirical investigation of statistical significance
        in NLP, 2012.
    """
    left, right = _checked(left, right)
    items, rng = len(left), np.random.default_rng(seed)
    rows = np.arange(items)
    if statistic is None:
        gap = right.astype(np.float64) - left
        observed = float(gap.mean())
        draws = (rng.integers(0, items, (n, items)) for n in _chunks(samples, items))
        drawn = np.concatenate([gap[chosen].mean(axis=1) for chosen in draws])
    else:
        observed = statistic(right, rows) - statistic(left, rows)
        draws = (rng.integers(0, items, items) for _ in range(samples))
        drawn = np.array([statistic(right, rows) - statistic(left, rows) for rows in draws])
    extreme = int(np.sum(np.abs(drawn - observed) >= abs(observed) - 1e-12))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Bootstrap(observed, float(low), float(high), (extreme + 1) / (samples + 1))


def paired_randomisation(
    left: np.ndarray,
    right: np.ndarray,
    statistic: Statistic | None = None,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> float:
    """Swaps the models on random items: p = P(|d*| >= |d|) if it does not matter which did what.

    Args:
        left: [items] what one model did on each item.
        right: [items] what the other did on the same items.
        statistic: the figure as a function of items and rows; default their mean.
        samples: random swaps; where all 2^items are no more, each is looked at once.
        seed: of the draws.

    Returns:
        p, two-sided.

    Raises:
        ValueError: not two lists of one length, or no item.

    Example:
        >>> paired_randomisation(np.zeros(3), np.ones(3))  # of 8 swaps, 2 are as extreme
        0.25

    Reference: Noreen, Computer-intensive methods for testing hypotheses, 1989; Smucker, Allan and
        Carterette, A comparison of statistical significance tests for information retrieval, 2007.
    """
    left, right = _checked(left, right)
    items, rng = len(left), np.random.default_rng(seed)
    exact = items < 60 and 2**items <= samples
    if exact:
        number = np.arange(2**items)[:, None]
        swaps = iter([(number >> np.arange(items)) & 1 == 1])
    else:
        swaps = (rng.random((n, items)) < 0.5 for n in _chunks(samples, items))
    if statistic is None:
        gap = right.astype(np.float64) - left
        observed = float(gap.mean())
        drawn = np.concatenate([np.where(swap, -gap, gap).mean(axis=1) for swap in swaps])
    else:
        rows = np.arange(items)
        observed = statistic(right, rows) - statistic(left, rows)
        drawn = np.array(
            [
                statistic(np.where(one, left, right), rows)
                - statistic(np.where(one, right, left), rows)
                for swap in swaps
                for one in swap
            ]
        )
    extreme = int(np.sum(np.abs(drawn) >= abs(observed) - 1e-12))
    return extreme / len(drawn) if exact else (extreme + 1) / (samples + 1)


def mean_interval(
    values: np.ndarray, *, samples: int = 2_000, seed: int = 0
) -> tuple[float, float]:
    """The interval that holds the mean in 95 % of resamples of the items, with replacement.

    Args:
        values: [items] what was measured on each item.
        samples: resamples.
        seed: of the draws.

    Returns:
        (low, high).

    Raises:
        ValueError: no item.

    Example:
        >>> mean_interval(np.full(10, 0.5), samples=20)
        (0.5, 0.5)

    Reference: Efron and Tibshirani, An introduction to the bootstrap, 1993, section 13.3.
    """
    found = paired_bootstrap(np.zeros(len(values)), values, samples=samples, seed=seed)
    return found.low, found.high


def _chunks(samples: int, items: int):
    """Sizes of chunks that add up to `samples`."""
    size = max(1, _CHUNK // items)
    for start in range(0, samples, size):
        yield min(size, samples - start)


def _checked(left, right) -> tuple[np.ndarray, np.ndarray]:
    left, right = np.asarray(left), np.asarray(right)
    checks.check_rank("left", left, 1)
    checks.check_shape("right", right, left.shape)
    checks.check(len(left) > 0, "left: expected at least one item, got none")
    return left, right
