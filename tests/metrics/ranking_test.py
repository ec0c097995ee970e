"""Ranking measures against a float64 formula written out by hand, and against pytrec_eval."""

import math

import numpy as np
import pytest

from gemb import metrics

CUTS = {"ndcg_at": (1, 5, 10), "recall_at": (1, 10, 100), "mrr_at": (1, 10)}


def _by_hand(order, grades, name):
    """One query's value, straight from the definition."""
    kind, cut = name.split("@")
    gains = [max(grades.get(document, 0), 0) for document in order[: int(cut)]]
    relevant = sorted((g for g in grades.values() if g > 0), reverse=True)
    if not relevant:
        return 0.0
    if kind == "recall":
        return sum(g > 0 for g in gains) / len(relevant)
    if kind == "mrr":
        return next((1 / rank for rank, g in enumerate(gains, 1) if g > 0), 0.0)
    dcg = math.fsum(g / math.log2(rank + 1) for rank, g in enumerate(gains, 1))
    ideal = math.fsum(g / math.log2(rank + 1) for rank, g in enumerate(relevant[: int(cut)], 1))
    return dcg / ideal


def _random_run(seed, queries=40, documents=150):
    """Ties, missing documents, grades from -1 to 3, queries without relevant documents."""
    rng = np.random.default_rng(seed)
    run, qrels = {}, {}
    for q in range(queries):
        ranked = rng.choice(documents, rng.integers(1, documents), replace=False)
        scores = rng.choice([0.1, 0.5, 0.5 + 1e-12, 2.0, -3.0, 1e6], len(ranked))
        if q % 2:
            scores = rng.normal(size=len(ranked))
        run[f"q{q}"] = {f"d{i}": float(s) for i, s in zip(ranked, scores, strict=True)}
        judged = rng.choice(documents, rng.integers(1, 30), replace=False)
        top = 1 if q % 7 == 0 else 4
        qrels[f"q{q}"] = {f"d{i}": int(rng.integers(-1, top)) for i in judged}
    return run, qrels


def test_hand_worked_example():
    ranked = np.array([[4, 2, 9]])
    values = metrics.retrieval_metrics(ranked, [{2: 3, 9: 1, 7: 2}])
    dcg = 3 / math.log2(3) + 1 / math.log2(4)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert values["ndcg@10"][0] == pytest.approx(dcg / ideal, abs=1e-12)
    assert values["recall@10"][0] == pytest.approx(2 / 3)
    assert values["mrr@10"][0] == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", range(3))
def test_indices_match_the_definition(seed):
    rng = np.random.default_rng(seed)
    ranked = np.stack([rng.permutation(80)[:60] for _ in range(20)])
    ranked[::3, 40:] = -1
    qrels = [
        {int(i): int(rng.integers(-1, 4)) for i in rng.choice(80, rng.integers(0, 12), False)}
        for _ in range(20)
    ]
    values = metrics.retrieval_metrics(ranked, qrels, **CUTS)
    assert list(values) == metrics.metric_names(**CUTS)
    for name, value in values.items():
        expected = [_by_hand(row, q, name) for row, q in zip(ranked.tolist(), qrels, strict=True)]
        np.testing.assert_allclose(value, expected, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
def test_runs_match_the_definition(seed):
    run, qrels = _random_run(seed)
    values = metrics.run_metrics(run, qrels, **CUTS)
    for query, grades in qrels.items():
        by_id = sorted(run[query], reverse=True)
        order = sorted(by_id, key=lambda d: np.float32(run[query][d]), reverse=True)
        # `reverse=True` keeps equal elements in their order, so ties stay by id, highest first.
        for name, value in values[query].items():
            assert value == pytest.approx(_by_hand(order, grades, name), abs=1e-12), (query, name)


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(5))
def test_runs_match_pytrec_eval(seed):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    run, qrels = _random_run(seed)
    tied = sum(len(set(map(np.float32, s.values()))) < len(s) for s in run.values())
    assert tied > 10, "the runs must hold ties"
    measures = {"ndcg_cut.1,5,10", "recall.1,10,100", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    ours = metrics.run_metrics(run, qrels, **CUTS)
    assert theirs.keys() == ours.keys()
    for query, expected in theirs.items():
        for cut in CUTS["mrr_at"]:  # pytrec_eval has no cut-off here: ranks after it count 0
            rank = expected["recip_rank"]
            expected[f"mrr_{cut}"] = rank if rank >= 1 / cut - 1e-9 else 0.0
        for name, value in ours[query].items():
            peer = name.replace("ndcg@", "ndcg_cut_").replace("@", "_")
            assert value == pytest.approx(expected[peer], abs=1e-6), (query, name)


def test_a_query_that_the_run_lacks_scores_zero():
    values = metrics.run_metrics({}, {"q": {"d": 1}})
    assert values == {"q": dict.fromkeys(metrics.metric_names(), 0.0)}


def test_means_leave_out_queries_without_relevant_documents():
    qrels = [{0: 1}, {0: 0}, {}, {1: 2}]
    values = metrics.retrieval_metrics(np.array([[0, 1]] * 4), qrels)
    assert metrics.mean_metrics(values, qrels)["queries"] == 2
    assert metrics.mean_metrics(values, qrels)["mrr@10"] == pytest.approx((1 + 1 / 2) / 2)


def test_nothing_found_scores_zero():
    for ranked in (np.full((1, 5), -1), np.zeros((1, 0), np.int64)):
        values = metrics.retrieval_metrics(ranked, [{0: 1}])
        assert all(value[0] == 0 for value in values.values())


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="a relevant document for at least one of 2 queries"):
        metrics.mean_metrics({"mrr@10": np.zeros(2)}, [{}, {3: 0}])
    with pytest.raises(ValueError, match="qrels: expected one mapping for each of 2 queries"):
        metrics.retrieval_metrics(np.zeros((2, 1), np.int64), [{}])
    with pytest.raises(ValueError, match="document 4 twice for query 1"):
        metrics.retrieval_metrics(np.array([[0, 1, 2], [4, 1, 4]]), [{}, {}])
    with pytest.raises(ValueError, match="ranked: expected an integer dtype"):
        metrics.retrieval_metrics(np.zeros((1, 2)), [{}])
