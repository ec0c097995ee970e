"""Thresholds of the panel: windows without drift, of the window's own size.

A window without drift is drawn at random from the reference and compared with the rest of it. The
rest has N - n rows instead of N, which makes squared distances larger by a known factor that is
taken out again. A size that was not calibrated uses the nearest one that was: squared distances
under no drift are proportional to 1/n + 1/N.
"""

from typing import NamedTuple

import numpy as np
import scipy.special

from gemb.analysis.drift.clusters import nearest_centre
from gemb.analysis.drift.panel import TESTS, Geometry, Means, statistics

SIZES = (200, 1_000, 5_000)
WINDOWS = 2_000
_LINEAR = TESTS.index("far share")  # the only one that is no squared distance
_LUCK = 0.99  # share of references that keep to alpha by themselves, see `unlucky`
_BLOCK = 250  # windows at a time


class Judged(NamedTuple):
    """The panel's statistics of a window against windows without drift.

    Attributes:
        values: [tests].
        expected: [tests] means without drift.
        thresholds: [tests] the quantile 1 - alpha without drift, of each test alone.
        p: [tests] of each test alone.
        adjusted: [tests] p for all tests together, see `adjusted`.
    """

    values: np.ndarray
    expected: np.ndarray
    thresholds: np.ndarray
    p: np.ndarray
    adjusted: np.ndarray


def null_windows(
    vectors: np.ndarray,
    geometry: Geometry,
    far: np.ndarray,
    size: int,
    *,
    windows: int = WINDOWS,
    seed: int = 0,
) -> np.ndarray:
    """The panel's statistics of windows that have no drift.

    Args:
        vectors: [N, dim] the reference.
        geometry: fitted on it.
        far: [N] whether each row is far from the prototypes of the other half.
        size: rows of a window, at most N / 2.
        windows: how many.
        seed: of the draws.

    Returns:
        [windows, tests] float64.
    """
    rows, rng = len(vectors), np.random.default_rng(seed)
    z = geometry.random_features()(vectors)
    on_axes = geometry.on_axes(vectors).astype(np.float32)
    axes = on_axes.shape[1]
    upper = np.triu_indices(axes)
    products = on_axes[:, upper[0]] * on_axes[:, upper[1]]
    near = nearest_centre(vectors, geometry.clusters)[0]
    topics = np.eye(len(geometry.clusters), dtype=np.float32)[near]
    parts = (np.asarray(vectors, np.float32), z, topics, far[:, None].astype(np.float32), products)
    totals = [part.sum(axis=0, dtype=np.float64) for part in parts]
    found = []
    for start in range(0, windows, _BLOCK):
        count = min(_BLOCK, windows - start)
        chosen = np.zeros((count, rows), np.float32)
        for row in chosen:
            row[rng.choice(rows, size, replace=False)] = 1
        sums = [np.float64(chosen @ part) for part in parts]
        rest = [total - each for total, each in zip(totals, sums, strict=True)]
        now = _means([each / size for each in sums], axes, upper)
        before = _means([each / (rows - size) for each in rest], axes, upper)
        found.append(statistics(now, before, geometry))
    made = np.concatenate(found)
    factor = 1 - (size / rows) ** 2
    return made * np.where(np.arange(len(TESTS)) == _LINEAR, np.sqrt(factor), factor)


def unlucky(null: np.ndarray) -> np.ndarray:
    """[tests] how much farther from the truth an unlucky reference is than references on average.

    The reference is one draw that all windows are compared with. Its own deviation is distributed
    as that of windows, but for its size, so windows without drift say what it may be: the quantile
    0.99 by the mean. The far share deviates in both directions: there it is that of a normal
    variable, squared.

    Args:
        null: [windows, tests] statistics of windows without drift.
    """
    ratio = np.quantile(null, _LUCK, axis=0) / np.maximum(null.mean(axis=0), 1e-30)
    ratio[_LINEAR] = scipy.special.ndtri(_LUCK) ** 2
    return np.maximum(ratio, 1)


def rescaled(
    null: np.ndarray, calibrated: int, size: int, rows: int, luck: np.ndarray | float = 1.0
) -> np.ndarray:
    """Statistics without drift of windows of a size, from those of a calibrated size.

    Args:
        null: [windows, tests] at `calibrated`.
        calibrated: rows of those windows.
        size: rows of the window to judge.
        rows: rows of the reference.
        luck: [tests] of `unlucky`: how often the reference's own part 1/N is taken.
    """
    factor = (1 / size + luck / rows) / (1 / calibrated + 1 / rows)
    return null * np.where(np.arange(len(TESTS)) == _LINEAR, np.sqrt(factor), factor)


def judged(
    values: np.ndarray, null: np.ndarray, alpha: float, chance: np.ndarray | None = None
) -> Judged:
    """A window's statistics against those of windows without drift.

    Args:
        values: [tests].
        null: [windows, tests].
        alpha: for the thresholds.
        chance: of `shares_above` of the null; default computed.
    """
    p = (1 + np.sum(null >= values, axis=0)) / (len(null) + 1)
    thresholds = np.quantile(null, 1 - alpha, axis=0)
    chance = shares_above(null) if chance is None else chance
    return Judged(values, null.mean(axis=0), thresholds, p, adjusted(p, chance))


def shares_above(null: np.ndarray) -> np.ndarray:
    """[windows, tests] the share of windows whose statistic is as large or larger: a p of each."""
    windows = len(null)
    ranks = [np.searchsorted(np.sort(column), column, side="left") for column in null.T]
    return (windows - np.stack(ranks, axis=1)) / windows


def adjusted(p: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """P-values for all tests together: Holm's steps with the joint distribution without drift.

    The smallest p is compared with the smallest of all tests in windows without drift, the next
    with the smallest of the tests that are left, and so on. Holm's own factors assume the worst
    case; the panel's tests are correlated, so this finds more at the same share of false alarms.

    Args:
        p: [tests] of each test alone.
        chance: [windows, tests] of `shares_above`.

    Returns:
        [tests].

    Reference: Holm, A simple sequentially rejective multiple test procedure, 1979; Westfall and
        Young, Resampling-based multiple testing, 1993, algorithm 2.8.
    """
    windows = len(chance)
    order, made, largest = np.argsort(p, kind="stable"), np.ones(len(p)), 0.0
    for step, test in enumerate(order):
        least = chance[:, order[step:]].min(axis=1)
        largest = max(largest, (1 + np.sum(least <= p[test])) / (windows + 1))
        made[test] = min(largest, 1.0)
    return made


def _means(parts: list[np.ndarray], axes: int, upper) -> Means:
    vectors, features, topics, far, flat = parts
    products = np.zeros((len(flat), axes, axes))
    products[:, upper[0], upper[1]] = flat
    products[:, upper[1], upper[0]] = flat
    return Means(vectors, features, topics, far[:, 0], products)
