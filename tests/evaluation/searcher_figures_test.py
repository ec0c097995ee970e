"""Retrieval by vectors and by BM25: figures by hand, bad input, and no TensorFlow anywhere."""

import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from gemb import evaluation, metrics, search
from gemb.metrics.geometry import truncate
from gemb.search import scann

NAMES = [*metrics.metric_names(), "queries_per_second", "queries"]
PREFIXED = [f"scann_{name}" for name in NAMES if name != "queries"]


def _unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _set(texts, queries, qrels, metadata=()):
    return SimpleNamespace(
        corpus_ids=[f"c{i}" for i in range(len(texts))],
        corpus_texts=texts,
        corpus_metadata=list(metadata),
        query_ids=[f"q{i}" for i in range(len(queries))],
        query_texts=queries,
        qrels=qrels,
    )


def test_figures_by_hand_at_each_width():
    # At width 3 query 0 finds document 0 first; its first 2 coordinates alone prefer document 1.
    documents = _unit(np.array([[1.0, 0.4, 1.0], [1.0, 0.0, -0.1], [-1.0, 0.0, 0.5]]))
    queries = _unit(np.array([[1.0, 0.0, 1.0], [-1.0, 0.1, 0.4]]))
    results = evaluation.evaluate_vectors(
        queries, documents, [{0: 1}, {2: 2, 0: 1}], widths=(2, 3), approximate=False
    )
    assert list(results) == ["3", "2"]
    for values in results.values():
        assert list(values) == NAMES
        assert all(type(value) in (float, int) for value in values.values())
        assert values["queries"] == 2
        assert values["recall@10"] == 1
        assert values["queries_per_second"] > 0
    assert results["3"]["mrr@10"] == 1
    assert results["2"]["mrr@10"] == pytest.approx((1 / 2 + 1) / 2)
    ideal = 2 / math.log2(2) + 1 / math.log2(3)
    for width, first in {"3": 1.0, "2": 1 / math.log2(3)}.items():
        order = np.argsort(-truncate(documents, int(width)) @ queries[1, : int(width)])
        rank = int(np.flatnonzero(order == 0)[0]) + 1
        second = (2 + 1 / math.log2(rank + 1)) / ideal
        assert results[width]["ndcg@10"] == pytest.approx((first + second) / 2)


@pytest.mark.skipif(not scann.available(), reason="scann ships for Linux only")
def test_scann_stands_beside_exact_search():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, 32))
    documents = _unit(centres[rng.integers(0, 60, 2_000)] + 0.5 * rng.normal(size=(2_000, 32)))
    queries = _unit(documents[:200] + 0.1 * rng.normal(size=(200, 32)))
    qrels = [{i: 1} for i in range(200)]
    (values,) = evaluation.evaluate_vectors(queries, documents, qrels, widths=[32]).values()
    assert set(values) == {*NAMES, *PREFIXED, "scann_agreement@10"}
    assert 0.3 < values["ndcg@10"] <= 1, "neither trivial nor lost"
    assert values["scann_ndcg@10"] == pytest.approx(values["ndcg@10"], abs=0.005)
    assert 0.97 < values["scann_agreement@10"] <= 1


def test_without_scann_only_exact_figures(monkeypatch):
    monkeypatch.setattr(scann, "available", lambda: False)
    eye = np.eye(3, dtype=np.float32)
    results = evaluation.evaluate_vectors(eye, eye, [{0: 1}, {1: 1}, {}], widths=[3])
    assert list(results["3"]) == NAMES
    assert results["3"]["queries"] == 2


def test_bm25_figures():
    texts = ["read a file", "write a file", "open the socket"]
    retrieval_set = _set(texts, ["readFile", "the socket", "nothing"], [{0: 1}, {2: 1}, {1: 1}])
    results = evaluation.evaluate_bm25(retrieval_set)
    assert list(results) == ["text"]
    assert list(results["text"]) == NAMES
    assert results["text"]["mrr@10"] == pytest.approx(2 / 3)


def test_top_hits_and_examples_describe_documents():
    texts = [f"t{i}" for i in range(6)]
    metadata = [{"name": f"f{i}", "path": "a/b.py", "line": i} for i in range(6)]
    qrels = [{i: 1, 5: 0} for i in range(5)] + [{5: 0}]
    retrieval_set = _set(texts, [f"query {i}" for i in range(6)], qrels, metadata)
    eye = np.eye(6, dtype=np.float32)
    worse = np.roll(eye, 1, axis=0) + 0.5 * eye
    examples = evaluation.example_queries(retrieval_set, (worse, eye), (eye, eye), count=3, hits=2)
    assert [e["query"] for e in examples] == ["query 0", "query 2", "query 4"]
    for example, i in zip(examples, (0, 2, 4), strict=True):
        assert example["relevant"] == f"f{i}"
        assert (example["before_rank"], example["after_rank"]) == (2, 1)
        assert [hit["relevant"] for hit in example["before"]] == [False, True]
        best = {"name": f"f{i}", "path": "a/b.py", "line": i, "score": 1.0, "relevant": True}
        assert example["after"][0] == best
    retrieval_set.corpus_metadata = []
    hits = search.Hits(np.array([[1.0, -np.inf]], np.float32), np.array([[4, -1]]))
    (described,) = evaluation.top_hits(retrieval_set, hits, [4])
    bare = {"name": "c4", "path": None, "line": None, "score": 1.0, "relevant": True}
    assert described == [bare | {"text": "t4"}]


def test_bad_input_is_named():
    eye = np.eye(3, dtype=np.float32)
    good = [{0: 1}, {1: 1}, {2: 1}]

    def evaluate(queries=eye, documents=eye, qrels=good, widths=(3,)):
        return evaluation.evaluate_vectors(queries, documents, qrels, widths=widths)

    with pytest.raises(ValueError, match=r"query_vectors: expected shape \(any, 3\), got \(3, 2\)"):
        evaluate(queries=eye[:, :2])
    with pytest.raises(ValueError, match="corpus: expected at least one document"):
        evaluate(documents=eye[:0])
    with pytest.raises(ValueError, match="qrels: expected one mapping for each of 3 queries"):
        evaluate(qrels=good[:2])
    with pytest.raises(ValueError, match="expected document indices below 3, got 7 for query 1"):
        evaluate(qrels=[{0: 1}, {7: 1}, {}])
    with pytest.raises(ValueError, match="a relevant document for at least one of 3 queries"):
        evaluate(qrels=[{0: 0}, {}, {}])
    with pytest.raises(ValueError, match="widths: expected widths between 1 and 3, got 4"):
        evaluate(widths=(4,))
    with pytest.raises(ValueError, match="document_vectors: every row is zero in its first 3"):
        evaluate(documents=0 * eye)
    with pytest.raises(ValueError, match="corpus: expected at least one document"):
        evaluation.evaluate_bm25(_set([], ["q"], [{}]))


@pytest.mark.long
def test_evaluates_with_tensorflow_blocked_and_imports_nothing_heavy():
    code = (
        "import sys; sys.modules['tensorflow'] = None\n"
        "from gemb import evaluation\n"
        "heavy = [m for m in ('jax', 'matplotlib', 'bm25s', 'scann') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
        "import numpy as np\n"
        "v = np.random.default_rng(0).normal(size=(1200, 8)).astype(np.float32)\n"
        "r = evaluation.evaluate_vectors(v[:20], v, [{i: 1} for i in range(20)], widths=[8])\n"
        "assert sys.modules['tensorflow'] is None\n"
        "print(r['8']['mrr@10'], 'scann_mrr@10' in r['8'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1.0", str(scann.available())]


def test_intervals_hold_the_mean_of_the_counted_queries():
    rng = np.random.default_rng(0)
    documents = _unit(rng.normal(size=(500, 8)))
    queries = _unit(documents[:40] + 0.4 * rng.normal(size=(40, 8)))
    qrels = [{i: 1} if i < 30 else {} for i in range(40)]  # ten queries count for nothing
    made = {"widths": (8,), "approximate": False}
    values = evaluation.evaluate_vectors(queries, documents, qrels, intervals=True, **made)["8"]
    plain = evaluation.evaluate_vectors(queries, documents, qrels, **made)["8"]
    assert {name for name in values if not name.endswith(("_low", "_high"))} == set(plain)
    each = metrics.retrieval_metrics((-queries @ documents.T).argsort(axis=1)[:, :100], qrels)
    for name in NAMES[:4]:
        low, high = values[f"{name}_low"], values[f"{name}_high"]
        assert 0 <= low < values[name] < high
        error = np.std(each[name][:30]) / np.sqrt(30)  # a normal interval is much the same
        assert (low, high) == pytest.approx(
            values[name] + np.array([-1.96, 1.96]) * error, abs=0.04
        )
