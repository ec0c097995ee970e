"""Online tests against scipy, tables of the literature and simulations."""

import numpy as np
import pytest
import scipy.stats

from gemb.metrics import online

RNG = np.random.default_rng(0)


def test_welch_equals_scipys():
    a, b = RNG.normal(size=30), RNG.normal(0.4, 2, size=45)
    found = online.welch(a, b, alpha=0.1)
    expected = scipy.stats.ttest_ind(b, a, equal_var=False)
    interval = expected.confidence_interval(0.9)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_delta_method_has_the_error_of_a_simulation():
    def draw():
        views = RNG.poisson(RNG.gamma(2, 2, size=400)) + 1
        return RNG.binomial(views, 0.2).astype(float), views.astype(float)

    found = [online.ratio_difference(draw(), draw()) for _ in range(600)]
    spread = np.std([one.difference for one in found])
    assert np.mean([one.error for one in found]) == pytest.approx(spread, rel=0.08)
    assert np.mean([one.p < 0.05 for one in found]) == pytest.approx(0.05, abs=0.03)


def test_cuped_removes_what_the_covariate_predicts():
    before = RNG.normal(size=5_000)
    after = 0.6 * before + 0.8 * RNG.normal(size=5_000)
    found = online.cuped(after, before)
    assert found.rho == pytest.approx(np.corrcoef(before, after)[0, 1])
    assert found.values.mean() == pytest.approx(after.mean())
    assert found.values.var() / after.var() == pytest.approx(1 - found.rho**2)
    assert online.cuped(after, np.ones(5_000)).rho == 0


def test_sample_ratio_equals_scipys():
    expected = scipy.stats.chisquare([520, 440, 40], [500, 450, 50]).pvalue
    assert online.sample_ratio([520, 440, 40], [0.5, 0.45, 0.05]) == pytest.approx(expected)


def test_sequential_sample_ratio_is_valid_at_all_times_and_finds_a_wrong_ratio():
    draws = RNG.random((400, 3_000))
    alarms = [online.sequential_sample_ratio(d < 0.5, [0.5, 0.5]) < 0.05 for d in draws]
    assert np.mean(alarms) <= 0.05
    found = [online.sequential_sample_ratio(d < 0.56, [0.5, 0.5]) < 0.001 for d in draws[:50]]
    assert np.mean(found) > 0.9


def test_sequential_sample_ratio_from_the_beta_function():
    arms = np.array([1, 0, 0, 0, 0, 0, 0, 0])
    logs = []
    for step in range(1, 9):
        ones = arms[:step].sum()
        mixed = scipy.special.betaln(2 + step - ones, 2 + ones) - scipy.special.betaln(2, 2)
        logs.append(mixed - step * np.log(0.5))
    found = online.sequential_sample_ratio(arms, [0.5, 0.5], concentration=4)
    assert found == pytest.approx(min(1, np.exp(-max(logs))))


def test_confidence_sequence_covers_at_all_times():
    walks = RNG.normal(size=(1_000, 2_000))
    units = np.arange(1, 2_001)
    means = np.cumsum(walks, axis=1) / units
    half = online.confidence_sequence(1 / np.sqrt(units), units, tuned=1_000, alpha=0.05)
    assert np.mean(np.any(np.abs(means[:, 50:]) > half[50:], axis=1)) <= 0.05
    rate = (-2 * np.log(0.05) + np.log(1 - 2 * np.log(0.05))) / 1_000
    inner = 7 * rate + 1
    expected = np.sqrt(2 * inner / (49 * rate) * np.log(np.sqrt(inner) / 0.05))
    assert half[6] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("looks", "constant"), [(1, 1.960), (2, 1.977), (5, 2.040), (10, 2.087), (20, 2.126)]
)
def test_obrien_fleming_has_the_constants_of_the_table(looks, constant):
    """Jennison and Turnbull, Group sequential methods, 2000, table 2.3."""
    fractions = np.arange(1, looks + 1) / looks
    bounds = online.obrien_fleming(fractions)
    np.testing.assert_allclose(bounds * np.sqrt(fractions), constant, atol=2e-3)


def test_effect_and_size_belong_together_and_have_the_promised_power():
    size = online.sample_size(1.3, 0.25, share=0.4)
    found = online.minimum_detectable_effect(1.3, size, share=0.4)
    assert found == pytest.approx(0.25, rel=1e-3)
    treated = round(0.4 * size)
    p = [
        online.welch(RNG.normal(0, 1.3, size - treated), RNG.normal(0.25, 1.3, treated)).p
        for _ in range(600)
    ]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.8, abs=0.05)


def test_team_draft_is_fair_and_shows_each_item_once():
    left, right = list("abcdef"), list("cbagh")
    teams = np.zeros(2)
    for seed in range(400):
        draft = online.team_draft(left, right, 5, np.random.default_rng(seed))
        assert len(set(draft.items)) == len(draft.items) == 5
        teams += np.bincount(draft.teams[:1], minlength=2)
    assert teams[0] == pytest.approx(200, abs=50)
    short = online.team_draft("ab", "ab", 9, np.random.default_rng(0))
    assert sorted(short.items) == ["a", "b"]


def test_sign_test_equals_scipys():
    assert online.sign_test(14, 5) == pytest.approx(scipy.stats.binomtest(14, 19).pvalue)
    assert online.sign_test(0, 0) == 1
    assert [online.interleaving_credit([0, 1, 0], c) for c in ([0, 1], [1], [0, 2])] == [0, 1, -1]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="variance of the metric is 0"):
        online.welch(np.ones(5), np.ones(5))
    with pytest.raises(ValueError, match="treatment: expected finite"):
        online.welch(np.arange(3.0), np.array([1, np.inf, 2]))
    with pytest.raises(ValueError, match="control: expected at least 2 units"):
        online.welch(np.ones(0), np.ones(5))
    with pytest.raises(ValueError, match="fractions"):
        online.obrien_fleming([0.5, 0.5])
    with pytest.raises(ValueError, match="shares: expected two or more"):
        online.sample_ratio([1, 2], [0.5, 0.6])
