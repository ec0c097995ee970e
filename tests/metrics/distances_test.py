"""Distances against scipy, scikit-learn and plain loops; expected values against Monte Carlo."""

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial.distance
import scipy.stats

from gemb.metrics import distances

RNG = np.random.default_rng(0)
LEFT = RNG.normal(size=(60, 4)) @ np.diag([1.0, 2, 0.5, 1])
RIGHT = RNG.normal([0.3, 0, 0, -0.2], size=(41, 4))


def test_hotelling_equals_the_squared_t_of_one_axis():
    found = distances.hotelling(LEFT[:, :1], RIGHT[:, :1])
    t = scipy.stats.ttest_ind(LEFT[:, 0], RIGHT[:, 0])
    assert found.value == pytest.approx(t.statistic**2)
    assert found.p == pytest.approx(t.pvalue)


def test_gaussian_kl_and_frechet_from_their_formulas():
    gap = RIGHT.mean(0) - LEFT.mean(0)
    before, now = np.cov(LEFT.T), np.cov(RIGHT.T)
    inverse = np.linalg.inv(before)
    kl = np.trace(inverse @ now) + gap @ inverse @ gap - 4
    kl += np.log(np.linalg.det(before) / np.linalg.det(now))
    assert distances.gaussian_kl(LEFT, RIGHT).value == pytest.approx(kl / 2, rel=1e-6)
    root = scipy.linalg.sqrtm(before @ now).real
    expected = gap @ gap + np.trace(before + now - 2 * root)
    assert distances.frechet(LEFT, RIGHT).value == pytest.approx(expected)


def test_ks_and_js_equal_scipys():
    found = distances.kolmogorov_smirnov(LEFT[:, 0], RIGHT[:, 0])
    expected = scipy.stats.ks_2samp(LEFT[:, 0], RIGHT[:, 0], method="asymp")
    assert found.value == pytest.approx(expected.statistic)
    counts = np.array([3, 0, 5, 2]), np.array([1, 4, 5, 0])
    js = scipy.spatial.distance.jensenshannon(*counts) ** 2
    assert distances.jensen_shannon(*counts).value == pytest.approx(js)


def test_energy_equals_scipys_in_one_dimension():
    found = distances.energy(LEFT[:, :1], RIGHT[:, :1]).value
    expected = scipy.stats.energy_distance(LEFT[:, 0], RIGHT[:, 0]) ** 2
    assert found == pytest.approx(expected)


def test_mmd_pair_by_pair_and_by_random_features():
    scale = distances.median_distance(LEFT)
    pairs = [np.sum((LEFT[i] - LEFT[j]) ** 2) for i in range(60) for j in range(i)]
    assert scale == pytest.approx(np.median(pairs), rel=0.05)

    def kernel(x, y):
        return np.exp(-np.sum((x - y) ** 2) / scale)

    n, m = len(LEFT), len(RIGHT)
    own = sum(kernel(LEFT[i], LEFT[j]) for i in range(n) for j in range(n) if i != j)
    other = sum(kernel(RIGHT[i], RIGHT[j]) for i in range(m) for j in range(m) if i != j)
    cross = sum(kernel(x, y) for x in LEFT for y in RIGHT)
    expected = own / (n * (n - 1)) + other / (m * (m - 1)) - 2 * cross / (n * m)
    assert distances.mmd(LEFT, RIGHT, scale).value == pytest.approx(expected)
    biased = (own + n) / n**2 + (other + m) / m**2 - 2 * cross / (n * m)
    z = distances.RandomFeatures(4, scale, 20_000)
    assert distances.mmd_features(z(LEFT), z(RIGHT)).value == pytest.approx(biased, rel=0.2)
    assert z(LEFT)[3] @ z(RIGHT)[5] == pytest.approx(kernel(LEFT[3], RIGHT[5]), abs=0.02)


@pytest.mark.extra("eval")
def test_auc_equals_sklearns():
    from sklearn.metrics import roc_auc_score

    scores = np.round(np.concatenate([LEFT[:, 0], RIGHT[:, 0]]), 1)  # with ties
    truth = np.repeat([0, 1], [len(LEFT), len(RIGHT)])
    found = distances.area_under_curve(scores[truth == 0], scores[truth == 1])
    assert found == pytest.approx(roc_auc_score(truth, scores))


@pytest.mark.parametrize(
    ("measure", "tolerance"),
    [
        (distances.mean_shift, 0.1),
        (distances.hotelling, 0.1),
        (distances.gaussian_kl, 0.1),
        (distances.frechet, 0.1),
        (distances.energy, 0.12),
        (distances.mmd, None),
        (distances.classifier_auc, None),
    ],
)
def test_expected_is_the_mean_without_change(measure, tolerance):
    rng, scales = np.random.default_rng(1), np.array([1.0, 0.7, 0.5, 0.2])
    draws = [[rng.normal(size=(n, 4)) * scales for n in (150, 100)] for _ in range(300)]
    found = [measure(*draw) for draw in draws]
    values, expected = [one.value for one in found], np.mean([one.expected for one in found])
    if tolerance is None:
        error = np.std(values) / np.sqrt(len(values))
        assert np.mean(values) == pytest.approx(expected, abs=3.5 * error)
    else:
        assert np.mean(values) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("measure", [distances.psi, distances.jensen_shannon])
def test_expected_of_counts_is_the_mean_without_change(measure):
    rng, shares = np.random.default_rng(2), np.array([0.3, 0.3, 0.2, 0.1, 0.1])
    found = [
        measure(rng.multinomial(2_000, shares), rng.multinomial(500, shares)) for _ in range(800)
    ]
    assert np.mean([f.value for f in found]) == pytest.approx(found[0].expected, rel=0.08)


def test_ks_expects_its_mean_and_its_p_is_even_without_change():
    rng = np.random.default_rng(3)
    draws = (rng.normal(size=n) for _ in range(500) for n in (1_000, 700))
    found = [distances.kolmogorov_smirnov(a, next(draws)) for a in draws]
    assert np.mean([f.value for f in found]) == pytest.approx(found[0].expected, rel=0.06)
    assert np.mean([f.p < 0.1 for f in found]) == pytest.approx(0.1, abs=0.04)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="window: expected shape"):
        distances.mean_shift(LEFT, RIGHT[:, :2])
    with pytest.raises(ValueError, match="too few for 4 axes"):
        distances.gaussian_kl(LEFT, RIGHT[:4])
    with pytest.raises(ValueError, match="reference: expected counts"):
        distances.psi(np.zeros(3), np.ones(3))
