"""Classes and binary decisions against scikit-learn, and thresholds against trying them all."""

import numpy as np
import pytest

from gemb import metrics


def _pairs(seed, items=120, digits=9):
    rng = np.random.default_rng(seed)
    labels = (rng.random(items) < 0.3).astype(int)
    labels[0] = 1
    return labels, (rng.normal(size=items) + labels).round(digits)


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [9, 0])
def test_average_precision_equals_scikit_learn(seed, digits):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    labels, scores = _pairs(seed, digits=digits)
    assert (len(set(scores)) < len(scores)) == (digits == 0), "ties, or none"
    expected = sklearn_metrics.average_precision_score(labels, scores)
    assert metrics.average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(3))
def test_macro_f1_equals_scikit_learn(seed):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    truth, predicted = np.random.default_rng(seed).integers(0, 7, (2, 60))
    expected = sklearn_metrics.f1_score(truth, predicted, average="macro")
    assert metrics.macro_f1(truth, predicted) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("digits", [9, 0])
def test_best_thresholds_are_the_best_of_all(seed, digits):
    labels, scores = _pairs(seed, items=40, digits=digits)
    f1, accuracy = [], []
    for threshold in [np.inf, *sorted(set(scores), reverse=True)]:
        called = scores >= threshold
        both = np.sum(called & (labels == 1))
        f1.append(2 * both / (called.sum() + labels.sum()))
        accuracy.append(np.mean(called == labels))
    found = metrics.best_f1(labels, scores)
    assert found.figure == pytest.approx(max(f1))
    called = scores >= found.threshold
    assert 2 * np.sum(called & (labels == 1)) / (called.sum() + labels.sum()) == found.figure
    found = metrics.best_accuracy(labels, scores)
    assert found.figure == pytest.approx(max(accuracy))
    assert np.mean((scores >= found.threshold) == labels) == found.figure


def test_limits():
    labels = np.array([1, 1, 0, 0])
    assert metrics.average_precision(labels, np.array([4, 3, 2, 1])) == 1
    assert metrics.average_precision(labels, np.zeros(4)) == labels.mean()
    assert metrics.best_f1(labels, np.zeros(4)).figure == 2 * 0.5 / (0.5 + 1)
    alone = metrics.best_accuracy(np.array([1, 0, 0, 0]), np.array([0.0, 1, 2, 3]))
    assert alone == (3 / 4, np.inf)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="labels: expected at least one 1, got none"):
        metrics.average_precision(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="labels: expected only 0 and 1"):
        metrics.best_f1(np.array([0, 2]), np.zeros(2))
    with pytest.raises(ValueError, match="scores: expected shape"):
        metrics.best_accuracy(np.array([0, 1]), np.zeros(3))
    with pytest.raises(ValueError, match="truth: expected at least one item"):
        metrics.macro_f1(np.zeros(0, int), np.zeros(0, int))
