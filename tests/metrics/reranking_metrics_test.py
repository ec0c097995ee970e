"""Average precision and reciprocal rank of short lists against pytrec_eval, ties included."""

import numpy as np
import pytest

from gemb import metrics


@pytest.mark.peers
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_pytrec_eval(seed):
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(seed)
    scores, relevant, run, qrels, ties = [], [], {}, {}, 0
    for query in range(30):
        values = rng.normal(size=rng.integers(2, 40)).round(1)
        right = rng.random(len(values)) < 0.3
        right[0] = True
        ties += len(set(values)) < len(values)
        scores.append(values)
        relevant.append(right)
        # trec_eval puts the highest id first among equals: here those not relevant.
        names = [f"{'a' if one else 'z'}{i}" for i, one in enumerate(right)]
        run[f"q{query}"] = dict(zip(names, map(float, values), strict=True))
        qrels[f"q{query}"] = dict(zip(names, map(int, right), strict=True))
    assert ties > 10
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {"map", "recip_rank"}).evaluate(run)
    ours = metrics.reranking_metrics(scores, relevant)
    for query in range(30):
        expected = theirs[f"q{query}"]
        rank = expected["recip_rank"]
        assert ours["map"][query] == pytest.approx(expected["map"], abs=1e-6)
        first = rank if rank >= 1 / 10 - 1e-9 else 0.0
        assert ours["mrr@10"][query] == pytest.approx(first, abs=1e-6)


def test_scoring_all_alike_earns_nothing_by_order():
    right = np.array([True, False, False])
    values = metrics.reranking_metrics([np.zeros(3)] * 2, [right, right[::-1]])
    assert values["map"].tolist() == values["mrr@10"].tolist() == [1 / 3, 1 / 3]


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"relevant\[1\]: expected a relevant candidate"):
        metrics.reranking_metrics([np.zeros(1)] * 2, [np.ones(1, bool), np.zeros(1, bool)])
    with pytest.raises(ValueError, match=r"scores\[0\]: expected finite values"):
        metrics.reranking_metrics([np.full(1, np.nan)], [np.ones(1, bool)])
    with pytest.raises(ValueError, match="relevant: expected one list for each of 1 queries"):
        metrics.reranking_metrics([np.zeros(1)], [])
