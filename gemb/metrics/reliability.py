"""Calibration: whether a classifier's confidence equals its accuracy."""

from typing import NamedTuple

import numpy as np

from gemb import checks


class Reliability(NamedTuple):
    """Confidence against accuracy, by bins of confidence; empty bins are left out.

    Attributes:
        error: the expected calibration error, the mean of |accuracy - confidence| over items.
        confidence: [bins] mean confidence of a bin's items.
        accuracy: [bins] share of them that is right.
        counts: [bins] items.
    """

    error: float
    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray


def reliability(confidence: np.ndarray, right: np.ndarray, *, bins: int = 10) -> Reliability:
    """Compares confidences with outcomes.

    ECE = sum over bins of (items of the bin / items) |accuracy - mean confidence|

    Args:
        confidence: [items] in [0, 1], of the class that was predicted.
        right: [items] whether that was so.
        bins: of equal width; a confidence on an edge belongs to the bin below it.

    Returns:
        Reliability.

    Raises:
        ValueError: shapes that do not fit, no item, or a confidence outside [0, 1].

    Example:
        >>> found = reliability(np.array([0.9, 0.8, 0.3]), np.array([True, False, False]), bins=2)
        >>> round(found.error, 3), found.counts.tolist()
        (0.333, [1, 2])

    Reference: Guo, Pleiss, Sun and Weinberger, On calibration of modern neural networks, 2017,
        arXiv 1706.04599.
    """
    checks.check_rank("confidence", confidence, 1)
    checks.check_shape("right", right, confidence.shape)
    checks.check(len(confidence) > 0, "confidence: expected at least one item, got none")
    inside = bool(((confidence >= 0) & (confidence <= 1 + 1e-6)).all())
    checks.check(inside, "confidence: expected values in [0, 1]")
    checks.check(bins >= 1, f"bins: expected 1 or more, got {bins}")
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    place = np.searchsorted(edges, confidence, side="left")
    counts = np.bincount(place, minlength=bins)
    kept = counts > 0
    sure = np.bincount(place, np.float64(confidence), bins)[kept] / counts[kept]
    true = np.bincount(place, np.float64(right), bins)[kept] / counts[kept]
    error = float(np.sum(counts[kept] * np.abs(true - sure)) / len(confidence))
    return Reliability(error, sure, true, counts[kept])
