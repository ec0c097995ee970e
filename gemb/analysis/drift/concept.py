"""Concept drift: outcomes for the same inputs, window by window.

Relevance can change where vectors do not move. Outcomes (clicked, bought, judged relevant) are
compared within the clusters of the reference, so that another mixture of topics is not taken for
another relevance. If the model's scores are probabilities, their calibration is compared too.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special

from gemb import checks

_FEWEST = 5  # outcomes of a cluster on each side


class OutcomeDrift(NamedTuple):
    """Outcomes of a window against those of the reference for the same inputs.

    Attributes:
        before, now: mean outcomes of the shared inputs, each cluster weighted as in the window.
        difference: now less before.
        p: two-sided, that it is 0.
        calibration: mean outcome less mean predicted probability in the window; None without
            scores.
        calibration_p: that it did not change since the reference.
        covered: share of the window's rows in clusters that both sides have outcomes for.
        drifted: whether a p, doubled if there are two, is below alpha and the change above the
            gate.
    """

    before: float
    now: float
    difference: float
    p: float
    calibration: float | None
    calibration_p: float | None
    covered: float
    drifted: bool


def judge_outcomes(
    before: tuple[Sequence[int], Sequence[float]],
    now: tuple[Sequence[int], Sequence[float]],
    *,
    scores: tuple[Sequence[float], Sequence[float]] | None = None,
    alpha: float = 0.01,
    gate: float = 0.02,
) -> OutcomeDrift:
    """Compares outcomes of the same inputs in two periods.

    Args:
        before: clusters of the inputs, and an outcome for each.
        now: likewise, of the window.
        scores: predicted probabilities of both periods.
        alpha: for both tests together.
        gate: the least change that alarms.

    Raises:
        ValueError: lists of other lengths, values that are not finite, or no shared cluster.

    Example:
        >>> inputs = [0, 1] * 500
        >>> found = judge_outcomes((inputs, [0, 1] * 500), (inputs, [1, 0] * 500))
        >>> found.difference, judge_outcomes((inputs, [0, 1] * 500), (inputs, [0, 1] * 500)).drifted
        (0.0, False)
    """
    (old, was), (new, is_) = (_checked("before", *before), _checked("now", *now))
    means = _by_cluster(old, was), _by_cluster(new, is_)
    shared = [k for k in means[0] if k in means[1]]
    checks.check(bool(shared), f"now: no cluster has {_FEWEST} outcomes in both periods")
    sizes = np.array([means[1][k][2] for k in shared], np.float64)
    weights = sizes / sizes.sum()
    left, right = (float(weights @ [side[k][0] for k in shared]) for side in means)
    error = math.sqrt(weights**2 @ [means[0][k][1] + means[1][k][1] for k in shared])
    p = _two_sided(right - left, error)
    calibration = calibration_p = None
    moved, tests = abs(right - left) > gate, 1 if scores is None else 2
    moved &= tests * p < alpha
    if scores is not None:
        gaps = [
            values - np.asarray(each, np.float64)
            for values, each in zip((was, is_), scores, strict=True)
        ]
        calibration = float(gaps[1].mean())
        change = calibration - float(gaps[0].mean())
        spread = math.sqrt(sum(float(gap.var()) / len(gap) for gap in gaps))
        calibration_p = _two_sided(change, spread)
        moved |= tests * calibration_p < alpha and abs(change) > gate
    covered = float(sizes.sum() / len(is_))
    figures = left, right, right - left, p, calibration, calibration_p, covered
    return OutcomeDrift(*figures, bool(moved))


def _by_cluster(clusters: np.ndarray, outcomes: np.ndarray) -> dict[int, tuple[float, float, int]]:
    """cluster -> mean, variance of the mean, number of outcomes."""
    made = {}
    for cluster in np.unique(clusters):
        own = outcomes[clusters == cluster]
        if len(own) >= _FEWEST:
            # one outcome of each kind more: equal outcomes are no proof of variance 0
            padded = np.concatenate([own, [outcomes.min(), outcomes.max()]])
            made[int(cluster)] = float(own.mean()), float(padded.var(ddof=1)) / len(own), len(own)
    return made


def _checked(name: str, clusters, outcomes) -> tuple[np.ndarray, np.ndarray]:
    clusters, outcomes = np.asarray(clusters, np.int64), np.asarray(outcomes, np.float64)
    checks.check_rank(name, clusters, 1)
    checks.check_shape(name, outcomes, clusters.shape)
    checks.check(len(outcomes) > 0, f"{name}: expected outcomes, got none")
    checks.check(bool(np.isfinite(outcomes).all()), f"{name}: expected finite outcomes")
    return clusters, outcomes


def _two_sided(gap: float, error: float) -> float:
    return 2 * float(scipy.special.ndtr(-abs(gap) / error)) if error else float(gap == 0)
