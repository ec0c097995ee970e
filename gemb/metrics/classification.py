"""Measures of classes and of binary decisions, in float64 numpy, equal to scikit-learn's.

The predictions (by probes or thresholds on a cosine) are made in gemb.evaluation.
"""

from typing import NamedTuple

import numpy as np

from gemb import checks


class Threshold(NamedTuple):
    """The best a threshold on a score can do.

    Attributes:
        figure: the measure there.
        threshold: items of this score or above are called positive.
    """

    figure: float
    threshold: float


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The mean over classes of F1 = 2 right / (true + predicted).

    Args:
        truth: [items] integer classes.
        predicted: [items] integer classes.

    Returns:
        In [0, 1]; the classes are those in either argument.

    Raises:
        ValueError: not two lists of integers of one length, at least one item.

    Example:
        >>> round(macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1])), 4)
        0.6667
    """
    checks.check_rank("truth", truth, 1)
    checks.check_shape("predicted", predicted, truth.shape)
    checks.check(len(truth) > 0, "truth: expected at least one item, got none")
    classes, numbers = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    truth, predicted = numbers[: len(truth)], numbers[len(truth) :]
    right = np.bincount(truth[truth == predicted], minlength=len(classes))
    return float(np.mean(2 * right / np.bincount(numbers, minlength=len(classes))))


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float:
    """The area under the steps of precision against recall.

    AP = sum_t (R_t - R_{t-1}) P_t, over the distinct scores t from the highest down

    Args:
        labels: [items] 0 or 1 (or bool), at least one of them 1.
        scores: [items] numbers, higher for what is more likely 1.

    Returns:
        In (0, 1]. Items of equal score are taken together.

    Raises:
        ValueError: not two lists of one length, other labels, or no positive.

    Example:
        >>> round(average_precision(np.array([1, 0, 1]), np.array([0.9, 0.8, 0.7])), 4)
        0.8333
    """
    right, called, _ = _cuts(labels, scores)
    recall = right / right[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * right / called))


def best_f1(labels: np.ndarray, scores: np.ndarray) -> Threshold:
    """The highest F1 of the positive class that any threshold on the score gives.

    Args:
        labels: [items] 0 or 1 (or bool), at least one of them 1.
        scores: [items] numbers.

    Returns:
        The F1 and its threshold; of equals the highest threshold.

    Raises:
        ValueError: as in `average_precision`.

    Example:
        >>> best_f1(np.array([1, 0, 1]), np.array([0.9, 0.1, 0.7]))
        Threshold(figure=1.0, threshold=0.7)
    """
    right, called, thresholds = _cuts(labels, scores)
    return _best(2 * right / (called + right[-1]), thresholds)


def best_accuracy(labels: np.ndarray, scores: np.ndarray) -> Threshold:
    """The highest accuracy that any threshold on the score gives.

    Args:
        labels: [items] 0 or 1 (or bool), at least one of them 1.
        scores: [items] numbers.

    Returns:
        The accuracy and its threshold; inf where calling nothing positive is best.

    Raises:
        ValueError: as in `average_precision`.

    Example:
        >>> best_accuracy(np.array([1, 0, 1]), np.array([0.9, 0.1, 0.7]))
        Threshold(figure=1.0, threshold=0.7)
    """
    right, called, thresholds = _cuts(labels, scores)
    right, called = np.append(0, right), np.append(0, called)
    negatives = called[-1] - right[-1]
    correct = right + negatives - (called - right)
    return _best(correct / called[-1], np.append(np.inf, thresholds))


def _cuts(labels, scores) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each distinct score, highest first: positives at or above it, items there, the score."""
    labels, scores = np.asarray(labels), np.asarray(scores, np.float64)
    checks.check_rank("labels", labels, 1)
    checks.check_shape("scores", scores, labels.shape)
    known = bool(((labels == 0) | (labels == 1)).all())
    checks.check(known, "labels: expected only 0 and 1")
    checks.check(bool(labels.any()), "labels: expected at least one 1, got none")
    checks.check(bool(np.isfinite(scores).all()), "scores: expected finite values")
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], np.cumsum(labels[order].astype(np.int64))
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    return right[last], last + 1, scores[last]


def _best(figures: np.ndarray, thresholds: np.ndarray) -> Threshold:
    place = int(np.argmax(figures))
    return Threshold(float(figures[place]), float(thresholds[place]))
