"""Calibration against a plain loop and scikit-learn's curve."""

import numpy as np
import pytest

from gemb import metrics


def _items(seed, items=300):
    rng = np.random.default_rng(seed)
    confidence = rng.uniform(0, 1, items)
    return confidence, rng.uniform(0, 1, items) < confidence**2


@pytest.mark.parametrize("bins", [1, 7, 15])
def test_the_error_is_the_loops(bins):
    confidence, right = _items(bins)
    total = 0.0
    for i in range(bins):
        low, high = i / bins, (i + 1) / bins
        inside = (confidence > low) & (confidence <= high) | ((i == 0) & (confidence == 0))
        if inside.any():
            total += inside.sum() * abs(right[inside].mean() - confidence[inside].mean())
    found = metrics.reliability(confidence, right, bins=bins)
    assert found.error == pytest.approx(total / len(right), abs=1e-12)
    assert found.counts.sum() == len(right)


@pytest.mark.peers
def test_the_curve_is_scikit_learns():
    calibration = pytest.importorskip("sklearn.calibration")
    confidence, right = _items(0)
    true, sure = calibration.calibration_curve(right, confidence, n_bins=10)
    found = metrics.reliability(confidence, right, bins=10)
    np.testing.assert_allclose(found.accuracy, true, atol=1e-12)
    np.testing.assert_allclose(found.confidence, sure, atol=1e-12)


def test_the_ends_and_perfection():
    sure = metrics.reliability(np.array([0.0, 1.0, 1.0]), np.array([False, True, True]))
    assert sure.error == 0
    assert sure.counts.tolist() == [1, 2]
    assert metrics.reliability(np.ones(4), np.zeros(4, bool)).error == 1


@pytest.mark.parametrize(
    ("confidence", "right", "message"),
    [
        (np.array([0.5, 1.2]), np.ones(2, bool), r"confidence: expected values in \[0, 1\]"),
        (np.array([0.5, np.nan]), np.ones(2, bool), r"confidence: expected values in \[0, 1\]"),
        (np.zeros(0), np.zeros(0, bool), "at least one item"),
        (np.array([0.5]), np.ones(2, bool), "right: expected shape"),
    ],
)
def test_what_makes_no_sense_is_named(confidence, right, message):
    with pytest.raises(ValueError, match=message):
        metrics.reliability(confidence, right)
