"""The margin against its formula in float64, positives below zero included."""

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.curation import Margin


def by_hand(score, positive, relative, absolute, highest):
    """The rule for one candidate, as the docstring states it."""
    below = score <= positive - relative * abs(positive) and score <= positive - absolute
    return below and (highest is None or score <= highest)


@pytest.mark.parametrize("relative", [0.0, 0.05, 0.5])
@pytest.mark.parametrize("absolute", [0.0, 0.1])
@pytest.mark.parametrize("highest", [None, 0.3])
def test_the_rule_is_its_formula(relative, absolute, highest):
    rng = np.random.default_rng(0)
    positive = np.concatenate([rng.uniform(-1, 1, 40), [0.0]])
    scores = rng.uniform(-1.2, 1.2, (41, 30))
    allowed = Margin(relative, absolute, highest).allows(scores, positive)
    expected = [[by_hand(s, p, relative, absolute, highest) for s in row]
                for row, p in zip(scores, positive, strict=True)]  # fmt: skip
    assert allowed.tolist() == expected
    assert 0 < allowed.mean() < 1


def test_no_negative_scores_above_a_positive_below_zero():
    positive, scores = np.array([-0.4]), np.array([[-0.41, -0.39, -0.43]])
    percentage_of_the_positive = scores <= 0.95 * positive[:, None]
    assert percentage_of_the_positive[0, 1]  # -0.39 is above -0.4, and admitted
    assert Margin(relative=0.05).allows(scores, positive).tolist() == [[False, False, True]]


def test_naive_top_k_takes_what_scores_above_the_positive():
    positive, scores = np.array([0.5]), np.array([[0.9, 0.5, 0.1]])
    assert Margin(below_positive=False).allows(scores, positive).tolist() == [[True, True, True]]
    limited = Margin(highest=0.6, below_positive=False)
    assert limited.allows(scores, positive).tolist() == [[False, True, True]]


@pytest.mark.parametrize("values", [{"relative": -0.1}, {"absolute": float("nan")}])
def test_a_bad_margin_is_refused(values):
    with pytest.raises(UserError, match="margin: expected a number from 0 on"):
        Margin(**values)
