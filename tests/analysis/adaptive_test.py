"""Adaptive classification: exits by hand, heads against scikit-learn, new examples."""

import numpy as np
import pytest

from gemb.analysis import adaptive


def _classes(count, seed=0, dim=24, classes=6):
    """Unit vectors around class centres; leading coordinates tell most classes apart."""
    centres = np.random.default_rng(9).normal(size=(classes, dim)) * 0.9 ** np.arange(dim)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    vectors = centres[labels] + rng.normal(size=(count, dim)) * 0.6 * 0.9 ** np.arange(dim)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), labels


def _splits():
    return {
        name: _classes(count, seed)
        for seed, (name, count) in enumerate(
            {"train": 900, "validation": 900, "test": 1_500}.items()
        )
    }


def test_an_example_leaves_at_the_first_sure_width():
    by_width = {
        4: np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]),
        8: np.array([[0.2, 0.8], [0.3, 0.7], [0.45, 0.55]]),
        16: np.array([[0.2, 0.8], [0.9, 0.1], [0.8, 0.2]]),
    }
    predicted, used = adaptive.classify(by_width, {4: 0.9, 8: 0.7, 16: 0.0})
    np.testing.assert_array_equal(used, [4, 8, 16])
    np.testing.assert_array_equal(predicted, [0, 1, 0])


def test_thresholds_keep_validation_accuracy():
    (train, labels), (vectors, truth), _ = _splits().values()
    heads = adaptive.fit_heads(train, labels, [3, 6, 12, 24])
    by_width = adaptive.probabilities(heads, vectors)
    full = np.mean(by_width[24].argmax(axis=1) == truth)
    assert full > np.mean(by_width[3].argmax(axis=1) == truth) + 0.05
    widths = []
    for tolerance in (0.0, 0.005, 0.05):
        thresholds = adaptive.learn_thresholds(by_width, truth, tolerance=tolerance)
        predicted, used = adaptive.classify(by_width, thresholds)
        assert np.mean(predicted == truth) >= full - tolerance - 1e-9
        widths.append(used.mean())
    assert widths == sorted(widths, reverse=True)
    assert widths[1] < 24 * 0.7


@pytest.mark.parametrize("tied", [False, True])
def test_new_examples_keep_accuracy_at_fewer_coordinates(tied):
    figures = adaptive.evaluate_adaptive(_splits(), [3, 6, 12, 24], tied=tied)
    assert figures["accuracy"] >= figures["full_accuracy"] - 0.02
    assert figures["expected_width"] < 24 * 0.8
    assert figures["width_saving"] == pytest.approx(24 / figures["expected_width"])
    if tied:
        assert figures["computed_width"] == figures["expected_width"]
    else:
        assert figures["computed_width"] > figures["expected_width"]


def test_tied_heads_share_their_rows():
    vectors, labels = _classes(200)
    tied = adaptive.fit_heads(vectors, labels, [6, 24], tied=True)
    np.testing.assert_array_equal(tied[6].weights, tied[24].weights[:6])
    own = adaptive.fit_heads(vectors, labels, [6, 24])
    assert not np.array_equal(own[6].weights, own[24].weights[:6])


@pytest.mark.peers
def test_heads_equal_a_logistic_regression():
    linear = pytest.importorskip("sklearn.linear_model")
    vectors, labels = _classes(400)
    peer = linear.LogisticRegression(C=10.0, max_iter=2_000, tol=1e-6).fit(vectors, labels)
    heads = adaptive.fit_heads(vectors, labels, [24], strength=10.0)
    expected = peer.predict_proba(vectors)
    np.testing.assert_allclose(adaptive.probabilities(heads, vectors)[24], expected, atol=5e-3)


def test_nothing_leaves_early_where_it_would_cost():
    labels = np.array([0, 1, 0, 1])
    wrong = np.eye(2)[1 - labels]
    thresholds = adaptive.learn_thresholds({1: wrong, 2: np.eye(2)[labels]}, labels, tolerance=0)
    assert thresholds[1] > 1
    assert thresholds[2] == 0


def test_bad_input_is_named():
    vectors, labels = _classes(20)
    with pytest.raises(ValueError, match="labels: expected two classes or more"):
        adaptive.fit_heads(vectors, np.zeros(20, int), [4])
    with pytest.raises(ValueError, match="widths: expected widths between 1 and 24, got 25"):
        adaptive.fit_heads(vectors, labels, [25])
    with pytest.raises(ValueError, match=r"labels: expected shape \(20\), got \(3,\)"):
        adaptive.fit_heads(vectors, labels[:3], [4])
    table = {4: np.full((20, 6), 1 / 6)}
    with pytest.raises(ValueError, match="tolerance: expected 0 or more"):
        adaptive.learn_thresholds(table, labels, tolerance=-0.1)
    with pytest.raises(ValueError, match=r"thresholds: expected widths \[4\], got \[8\]"):
        adaptive.classify(table, {8: 0.5})
    with pytest.raises(ValueError, match=r"splits: expected train, validation and test"):
        adaptive.evaluate_adaptive({"train": (vectors, labels)}, [4])
