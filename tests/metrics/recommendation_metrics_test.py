"""Measures of recommendation against plain loops, scikit-learn and trec_eval."""

import math

import numpy as np
import pytest

from gemb.metrics import catalogue_metrics, part_recall, recommendation_metrics, top_items

CUTS = (1, 3, 10)


@pytest.fixture(scope="module")
def case():
    """Lists of 20 of 60 items for 25 users, and 1 to 6 targets each."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(25, 60)).astype(np.float32)
    ranked = np.argsort(-scores, axis=1)[:, :20]
    targets = [rng.choice(60, rng.integers(1, 7), replace=False) for _ in range(25)]
    user = np.repeat(np.arange(25), [len(own) for own in targets])
    return scores, ranked, targets, user, np.concatenate(targets)


def test_against_plain_loops(case):
    _, ranked, targets, user, item = case
    found = recommendation_metrics(ranked, user, item, at=CUTS)
    for row, own in enumerate(targets):
        for cut in CUTS:
            places = [n for n, i in enumerate(ranked[row][:cut].tolist(), 1) if i in own]
            ideal = sum(1 / math.log2(n + 1) for n in range(1, min(cut, len(own)) + 1))
            expected = {
                "hr": float(bool(places)),
                "recall": len(places) / len(own),
                "ndcg": sum(1 / math.log2(n + 1) for n in places) / ideal,
                "mrr": 1 / places[0] if places else 0.0,
            }
            for name, value in expected.items():
                assert found[f"{name}@{cut}"][row] == pytest.approx(value, abs=1e-12)


@pytest.mark.peers
def test_against_scikit_learn_and_trec_eval(case):
    ndcg_score = pytest.importorskip("sklearn.metrics").ndcg_score
    pytrec_eval = pytest.importorskip("pytrec_eval")
    scores, ranked, targets, user, item = case
    found = recommendation_metrics(ranked, user, item, at=(10,))
    relevant = np.zeros(scores.shape)
    relevant[user, item] = 1
    qrels = {str(u): {str(i): 1 for i in own} for u, own in enumerate(targets)}
    run = {str(u): {str(i): float(scores[u, i]) for i in ranked[u]} for u in range(len(scores))}
    measures = {"ndcg_cut.10", "recall.10", "success.10"}
    judged = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    for row in range(len(scores)):
        library = ndcg_score(relevant[row : row + 1], scores[row : row + 1], k=10)
        assert found["ndcg@10"][row] == pytest.approx(library, abs=1e-6)
        trec = judged[str(row)]
        assert found["ndcg@10"][row] == pytest.approx(trec["ndcg_cut_10"], abs=1e-6)
        assert found["recall@10"][row] == pytest.approx(trec["recall_10"], abs=1e-6)
        assert found["hr@10"][row] == trec["success_10"]


@pytest.mark.parametrize("k", [1, 5, 12])
def test_top_items_is_a_stable_sort(k):
    rng = np.random.default_rng(1)
    scores = rng.integers(-2, 3, (40, 12)).astype(np.float32)  # many ties
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    scores[0, 3], scores[1] = np.nan, -np.inf
    clean = np.where(np.isnan(scores), -np.inf, scores)
    expected = np.argsort(-clean, axis=1, kind="stable")[:, :k]
    expected = np.where(np.take_along_axis(clean, expected, 1) == -np.inf, -1, expected)
    np.testing.assert_array_equal(top_items(scores, k), expected)


def test_seen_items_are_left_out_and_scores_kept():
    scores = np.array([[3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    ranked = top_items(scores, 3, (np.array([0, 1, 1]), np.array([0, 0, 1])))
    assert ranked.tolist() == [[1, 2, -1], [2, -1, -1]]
    assert scores[0, 0] == 3.0


def test_constant_scores_gain_nothing():
    """In other libraries a model that scores all alike was the best of all."""
    scores = np.zeros((50, 100))
    user, item = np.arange(50), np.random.default_rng(0).integers(10, 100, 50)
    found = recommendation_metrics(top_items(scores, 10), user, item, at=(10,))
    assert found["hr@10"].sum() == 0


def test_catalogue_measures_against_loops(case):
    _, ranked, *_ = case
    counts = np.random.default_rng(2).integers(0, 20, 60)
    found = catalogue_metrics(ranked, counts, 200)
    times = [int((ranked == item).sum()) for item in range(60)]
    apart = sum(abs(a - b) for a in times for b in times)
    assert found["gini"] == pytest.approx(apart / (2 * 60 * sum(times)))
    assert found["coverage"] == sum(map(bool, times)) / 60
    rare = [-math.log2(max(counts[i], 0.5) / 200) for i in ranked.ravel()]
    assert found["novelty"] == pytest.approx(sum(rare) / len(rare))


def test_part_recall_counts_only_its_items():
    ranked = np.array([[0, 1], [2, -1]])
    part = np.array([True, False, False, True])
    assert part_recall(ranked, [0, 0, 1], [0, 1, 3], part) == 0.5
    assert part_recall(ranked, [0], [1], part) is None


def test_bad_arguments():
    with pytest.raises(ValueError, match="occurs twice"):
        recommendation_metrics(np.array([[1]]), [0, 0], [1, 1], at=(1,))
    with pytest.raises(ValueError, match="at least 1"):
        top_items(np.zeros((1, 3)), 0)
    with pytest.raises(ValueError, match="2 dimensions"):
        top_items(np.zeros(3), 1)
