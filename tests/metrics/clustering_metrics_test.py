"""V-measure against scikit-learn and at its limits."""

import numpy as np
import pytest

from gemb import metrics


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_scikit_learn(seed):
    cluster = pytest.importorskip("sklearn.metrics.cluster")
    rng = np.random.default_rng(seed)
    truth, clusters = rng.integers(0, 6, 90), rng.integers(-3, 9, 90)
    clusters = np.where(rng.random(90) < 0.5, truth, clusters)
    expected = cluster.homogeneity_completeness_v_measure(truth, clusters)
    assert metrics.v_measure(truth, clusters) == pytest.approx(expected, abs=1e-12)


def test_names_of_clusters_do_not_matter():
    truth = np.repeat([0, 1, 2], 5)
    assert metrics.v_measure(truth, np.repeat([9, 4, 7], 5)) == pytest.approx((1, 1, 1))
    assert metrics.v_measure(truth, truth[::-1]) == metrics.v_measure(truth[::-1], truth)


def test_limits():
    truth = np.repeat([0, 1], 4)
    assert metrics.v_measure(truth, np.zeros(8, int)) == (0.0, 1.0, 0.0)
    # Each item alone: pure, but the two classes of ln 2 are spread over 8 clusters of ln 8.
    homogeneity, completeness, v = metrics.v_measure(truth, np.arange(8))
    assert homogeneity == pytest.approx(1)
    assert completeness == pytest.approx(np.log(2) / np.log(8))
    assert v == pytest.approx(2 * completeness / (1 + completeness))
    with pytest.raises(ValueError, match="clusters: expected shape"):
        metrics.v_measure(truth, np.arange(3))
