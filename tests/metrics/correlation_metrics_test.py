"""Correlations against scipy, and where scipy has no answer."""

import numpy as np
import pytest
from scipy import stats

from gemb import metrics

PEERS = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scipy_with_and_without_ties(name, seed):
    rng = np.random.default_rng(seed)
    left, right = rng.normal(size=(2, 200))
    right += seed * left
    for digits in (12, 1, 0):  # rounding makes ties
        a, b = left.round(digits), right.round(digits)
        assert (len(set(a)) < len(a)) == (digits < 12)
        expected = PEERS[name](a, b).statistic
        assert getattr(metrics, name)(a, b) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", PEERS)
def test_order_and_scale_do_not_matter(name):
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 50))
    figure, order = getattr(metrics, name)(left, right), rng.permutation(50)
    for a, b in ((left[order], right[order]), (right, left), (left * 1e-200, 7 + right)):
        assert getattr(metrics, name)(a, b) == pytest.approx(figure, abs=1e-12)
    assert getattr(metrics, name)(left, -left) == pytest.approx(-1)


@pytest.mark.parametrize("name", PEERS)
def test_a_constant_side_tells_nothing(name):
    assert getattr(metrics, name)(np.ones(4), np.arange(4.0)) == 0.0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"right: expected shape \(2\), got \(3,\)"):
        metrics.pearson(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="left: expected at least two items, got 1"):
        metrics.spearman(np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match="right: expected finite values"):
        metrics.spearman(np.zeros(2), np.array([0, np.nan]))
