"""The figures of each kind of task, against scipy, scikit-learn and plain loops."""

import numpy as np
import pytest
from scipy import stats

from gemb.evaluation.tasks import (
    bitext,
    classification,
    clustering,
    pair_classification,
    reranking,
    sts,
)


def _unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _blobs(seed, classes=6, each=20, dim=12, noise=0.9):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dim))
    labels = rng.permutation(np.repeat(np.arange(classes), each))
    return _unit(centres[labels] + noise * rng.normal(size=(len(labels), dim))), labels


def _sides(seed, pairs=80, dim=8, noise=1.0):
    rng = np.random.default_rng(seed)
    first = rng.normal(size=(pairs, dim))
    return _unit(first), _unit(first + noise * rng.normal(size=(pairs, dim)))


def test_similarity_is_scipys_correlation_of_cosines():
    first, second = _sides(0)
    cosines = np.sum(first.astype(np.float64) * second, axis=1)
    scores = (cosines + np.random.default_rng(1).normal(scale=0.2, size=80)).round(1)
    figures = sts.evaluate_similarity(first, second, scores)
    assert figures == {
        "spearman": pytest.approx(stats.spearmanr(cosines, scores).statistic, abs=1e-9),
        "pearson": pytest.approx(stats.pearsonr(cosines, scores).statistic, abs=1e-9),
    }


@pytest.mark.peers
def test_pairs_are_judged_as_scikit_learn_does():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    first, second = _sides(2)
    second[40:] = second[40:][::-1]
    labels = np.arange(80) < 40
    figures = pair_classification.evaluate_pairs(first, second, labels.astype(int))
    cosines = np.sum(first.astype(np.float64) * second, axis=1)
    expected = sklearn_metrics.average_precision_score(labels, cosines)
    assert figures["average_precision"] == pytest.approx(expected)
    for name, measure in (("f1", "f1_score"), ("accuracy", "accuracy_score")):
        figure = getattr(sklearn_metrics, measure)
        called = [cosines >= threshold for threshold in cosines]
        best = max(figure(labels, one) for one in called)
        assert figures[name] == pytest.approx(best)
        here = figure(labels, cosines >= figures[f"{name}_threshold"])
        assert here == pytest.approx(best)


@pytest.mark.peers
def test_classification_is_scikit_learns():
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

    vectors, labels = _blobs(0, noise=1.6)
    train, test, train_labels, test_labels = vectors[:80], vectors[80:], labels[:80], labels[80:]
    figures = classification.evaluate_classification(train, train_labels, test, test_labels)
    probe = LogisticRegression(C=10, max_iter=1000).fit(train, train_labels)
    assert figures["accuracy"] == pytest.approx(probe.score(test, test_labels))
    expected = f1_score(test_labels, probe.predict(test), average="macro")
    assert figures["macro_f1"] == pytest.approx(expected)
    # For unit vectors the nearest by cosine are the nearest by distance.
    knn = KNeighborsClassifier(5).fit(train, train_labels)
    assert figures["knn_accuracy"] == pytest.approx(knn.score(test, test_labels))
    centres = NearestCentroid(metric="euclidean").fit(train, train_labels).centroids_
    nearest = np.argmax(test @ _unit(centres).T, axis=1)
    assert figures["centroid_accuracy"] == pytest.approx(np.mean(nearest == test_labels))
    assert 0.3 < figures["accuracy"] < 1
    assert 0.3 < figures["accuracy_8_shot"] <= 1


def test_eight_texts_a_class_are_drawn_and_fewer_where_there_are_fewer():
    labels = np.repeat([0, 1, 2], [20, 30, 5])
    draws = list(classification._few(labels, np.random.default_rng(0)))
    assert len(draws) == 10
    assert all(np.bincount(labels[rows]).tolist() == [8, 8, 5] for rows in draws)
    assert all(len(set(rows)) == len(rows) for rows in draws)
    assert len({tuple(sorted(rows)) for rows in draws}) > 1


@pytest.mark.peers
def test_clustering_is_scikit_learns():
    pytest.importorskip("sklearn")
    from sklearn.cluster import KMeans
    from sklearn.metrics import v_measure_score

    vectors, labels = _blobs(3)
    found = KMeans(6, n_init=4, random_state=0).fit_predict(vectors)
    figures = clustering.evaluate_clustering(vectors, labels)
    assert figures["v_measure"] == pytest.approx(v_measure_score(labels, found))
    assert 0.1 < figures["v_measure"] < 1
    # Fewer different vectors than classes: no more clusters than can be told apart.
    same = np.repeat(vectors[:2], 3, axis=0)
    assert clustering.evaluate_clustering(same, np.arange(6))["homogeneity"] < 1


@pytest.mark.peers
def test_bitext_f1_is_scikit_learns_weighted_f1():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    source, target = _sides(4, noise=1.5)
    groups = np.repeat([0, 1], [50, 30])
    figures = bitext.evaluate_bitext(source, target, groups)
    for group in (0, 1):
        rows = groups == group
        found = np.argmax(source[rows] @ target[rows].T, axis=1)
        truth = np.arange(rows.sum())
        assert figures[f"accuracy_{group}"] == pytest.approx(np.mean(found == truth))
        assert 0.1 < figures[f"accuracy_{group}"] < 1
        f1 = sklearn_metrics.f1_score(truth, found, average="weighted", zero_division=0)
        assert figures[f"f1_{group}"] == pytest.approx(f1)
    assert figures["f1"] == pytest.approx((figures["f1_0"] + figures["f1_1"]) / 2)
    alone = bitext.evaluate_bitext(source[:50], target[:50])
    assert alone["f1"] == pytest.approx(figures["f1_0"])


def test_bitext_searches_in_blocks(monkeypatch):
    source, target = _sides(5, noise=1.5)
    whole = bitext.evaluate_bitext(source, target)
    monkeypatch.setattr(bitext, "_BLOCK", 7)
    assert bitext.evaluate_bitext(source, target) == whole


def test_reranking_by_hand():
    documents = _unit(np.array([[1.0, 0], [1, 1], [0, 1]]))
    queries = documents[[0, 2]]
    figures = reranking.evaluate_reranking(queries, documents, [[1, 0, 2], [2, 1, 0]], [1, 2])
    assert figures["map"] == pytest.approx((1 / 2 + 1) / 2)
    assert figures["mrr@10"] == pytest.approx((1 / 2 + 1) / 2)


@pytest.mark.extra("eval")
def test_bad_input_is_named():
    eye = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="second: expected shape"):
        sts.evaluate_similarity(eye, eye[:2], np.arange(3))
    with pytest.raises(ValueError, match=r"no training text of the classes \[7\]"):
        classification.evaluate_classification(eye, np.array([0, 1, 1]), eye[:1], np.array([7]))
    with pytest.raises(ValueError, match="train_labels: expected two classes or more, got 1"):
        classification.evaluate_classification(eye, np.zeros(3, int), eye, np.zeros(3, int))
    with pytest.raises(ValueError, match="labels: expected two classes or more, got 1"):
        clustering.evaluate_clustering(eye, np.zeros(3, int))
    with pytest.raises(ValueError, match="target: expected shape"):
        bitext.evaluate_bitext(eye, eye[:2])
    with pytest.raises(ValueError, match="queries: expected shape"):
        reranking.evaluate_reranking(eye, eye, [[0, 1]], [1])
