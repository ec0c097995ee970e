"""Paired tests against the enumeration of every resample and every swap, and at their limits."""

from itertools import product

import numpy as np
import pytest

from gemb import metrics

LEFT = np.array([0.1, 0.5, 0.4, 0.9, 0.3])
RIGHT = np.array([0.4, 0.4, 0.7, 1.0, 0.2])
ITEMS = len(LEFT)


def _mean(items, rows):
    return float(np.mean(items[rows]))


def _spread(items, rows):
    return float(np.std(items[rows]))


def _every_resample(statistic):
    """(difference, all differences of the n^n resamples)"""
    rows = [np.array(rows) for rows in product(range(ITEMS), repeat=ITEMS)]
    drawn = np.array([statistic(RIGHT, r) - statistic(LEFT, r) for r in rows])
    whole = np.arange(ITEMS)
    return statistic(RIGHT, whole) - statistic(LEFT, whole), drawn


def _every_swap(statistic):
    whole, drawn = np.arange(ITEMS), []
    for swap in product([False, True], repeat=ITEMS):
        left, right = np.where(swap, RIGHT, LEFT), np.where(swap, LEFT, RIGHT)
        drawn.append(statistic(right, whole) - statistic(left, whole))
    return np.array(drawn)


@pytest.mark.parametrize(
    ("given", "statistic"), [(None, _mean), (_mean, _mean), (_spread, _spread)]
)
def test_bootstrap_nears_the_enumeration(given, statistic):
    difference, drawn = _every_resample(statistic)
    expected = np.mean(np.abs(drawn - difference) >= abs(difference) - 1e-12)
    assert 0.05 < expected < 0.95
    samples = 4_000
    found = metrics.paired_bootstrap(LEFT, RIGHT, given, samples=samples)
    assert found.difference == pytest.approx(difference)
    deviation = np.sqrt(expected * (1 - expected) / samples)
    assert found.p == pytest.approx(expected, abs=4 * deviation + 1 / samples)
    # Of few items the resamples take few values: the interval may end at the next one.
    for end, shares in ((found.low, (0.018, 0.032)), (found.high, (0.968, 0.982))):
        low, high = np.quantile(drawn, shares)
        assert low - 1e-9 <= end <= high + 1e-9


@pytest.mark.parametrize(
    ("given", "statistic"), [(None, _mean), (_mean, _mean), (_spread, _spread)]
)
def test_randomisation_of_few_items_is_exact(given, statistic):
    drawn = _every_swap(statistic)
    expected = np.mean(np.abs(drawn) >= abs(drawn[0]) - 1e-12)
    assert 0.05 < expected < 0.95
    assert metrics.paired_randomisation(LEFT, RIGHT, given) == expected
    sampled = metrics.paired_randomisation(
        np.tile(LEFT, 4), np.tile(RIGHT, 4), given, samples=2_000
    )
    assert sampled < expected, "four times the items say it more surely"


def test_sampled_randomisation_nears_the_exact_one():
    many = np.random.default_rng(0).normal(0.2, 1, size=(12,))
    exact = metrics.paired_randomisation(np.zeros(12), many, samples=2**12)
    sampled = metrics.paired_randomisation(np.zeros(12), many, samples=2**12 - 1)
    assert sampled == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 2**12))


def test_the_same_model_twice_is_no_difference():
    found = metrics.paired_bootstrap(LEFT, LEFT, samples=50)
    assert found == (0.0, 0.0, 0.0, 1.0)
    assert metrics.paired_randomisation(np.tile(LEFT, 9), np.tile(LEFT, 9), samples=50) == 1.0


def test_exchanging_the_models_turns_the_sign():
    there, back = (metrics.paired_bootstrap(*pair) for pair in ((LEFT, RIGHT), (RIGHT, LEFT)))
    assert there.difference == -back.difference
    assert there.low == pytest.approx(-back.high)
    assert there.p == back.p


@pytest.mark.slow
def test_false_alarms_come_in_one_of_twenty():
    rng, alarms, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
        left, right = rng.random((2, 100))
        alarms += metrics.paired_randomisation(left, right, samples=500) < 0.05
    assert alarms / trials == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / trials))


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"right: expected shape \(5\), got \(4,\)"):
        metrics.paired_bootstrap(LEFT, RIGHT[:4])
    with pytest.raises(ValueError, match="left: expected at least one item"):
        metrics.paired_randomisation(LEFT[:0], RIGHT[:0])
