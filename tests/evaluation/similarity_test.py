"""One similarity for a model everywhere: saved, evaluated, indexed, searched and mined by it."""

import json

import numpy as np
import pytest
from stub_encoder import StubEncoder
from task_folders import write

from gemb import metrics
from gemb.checks import UserError
from gemb.evaluation import suite
from gemb.evaluation.tasks import read_tasks
from gemb.metrics.similarity import SIMILARITIES, prepared, similarities
from gemb.reports.terminal import tasks_table
from gemb.search import ExactSearcher, load_index, save_index


class DotEncoder(StubEncoder):
    """Vectors of different lengths: by dot product a long one wins, by cosine a near one."""

    similarity_name = "dot"

    def _vector(self, text):
        return super()._vector(text) * (10 if "long" in text else 1)


@pytest.fixture
def folder(tmp_path):
    """A retrieval set whose answers are the first by dot product."""
    texts = [f"word{i} other{i % 3}" for i in range(12)] + ["long word1 other2", "long word2"]
    queries = [f"word{i}" for i in range(6)]
    encoder = DotEncoder()
    asked, found = (np.array([encoder._vector(t) for t in each]) for each in (queries, texts))
    best = np.argmax(asked @ found.T, axis=1)
    corpus = [{"_id": f"d{i}", "text": text} for i, text in enumerate(texts)]
    rows = [{"_id": f"q{i}", "text": text} for i, text in enumerate(queries)]
    write(tmp_path / "beir" / "corpus.jsonl", "\n".join(map(json.dumps, corpus)))
    write(tmp_path / "beir" / "queries.jsonl", "\n".join(map(json.dumps, rows)))
    judged = "".join(f"q{i}\td{row}\t1\n" for i, row in enumerate(best))
    write(tmp_path / "beir" / "qrels" / "test.tsv", judged)
    return tmp_path / "beir"


def figures(encoder, tasks, tmp_path):
    results = suite.evaluate_model(encoder, tasks, widths=[encoder.dim], cache=tmp_path / "cache")
    return results, results.tasks[tasks[0].name][encoder.dim].figures


def test_a_dot_model_is_evaluated_by_dot_product(folder, tmp_path):
    tasks = read_tasks([folder])
    cosine, other = figures(StubEncoder(), tasks, tmp_path)
    results, values = figures(DotEncoder(), tasks, tmp_path)
    assert other["ndcg@10"] < values["ndcg@10"] == 1.0
    tree = suite.summary(tasks, {"m": results, "n": cosine}, tmp_path / "cache")
    assert tree["models"]["m"]["similarity"] == "dot"
    assert "m is compared by dot product" in tasks_table(tree)
    assert "n is compared" not in tasks_table(tree)


def test_figures_of_one_similarity_are_not_taken_for_those_of_another(folder, tmp_path):
    tasks = read_tasks([folder])
    encoder = DotEncoder()
    _, values = figures(encoder, tasks, tmp_path)
    encoder.similarity_name = "cosine"
    _, other = figures(encoder, tasks, tmp_path)
    assert values != other


@pytest.mark.parametrize("similarity", ["euclidean", "manhattan"])
def test_what_no_inner_product_is_is_refused_by_name(folder, tmp_path, similarity):
    encoder = DotEncoder()
    encoder.similarity_name = similarity
    with pytest.raises(UserError, match=f"compares vectors by '{similarity}'"):
        suite.evaluate_model(encoder, read_tasks([folder]), cache=tmp_path)


def test_pairs_of_a_dot_model_are_scored_by_dot_product(tmp_path):
    rows = "long a\ta\t5\nb\tb\t3\nc c2\td\t1\nlong e\tlong e\t9\n"
    write(tmp_path / "sts" / "t.tsv", "sentence1\tsentence2\tscore\n" + rows)
    tasks = read_tasks([tmp_path / "sts"])
    _, values = figures(DotEncoder(), tasks, tmp_path)
    left, right, scores = zip(*(row.split("\t") for row in rows.splitlines()), strict=True)
    encoder = DotEncoder()
    dots = [encoder._vector(a) @ encoder._vector(b) for a, b in zip(left, right, strict=True)]
    expected = metrics.pearson(np.array(dots), np.array(scores, float))
    assert values["pearson"] == pytest.approx(expected, abs=1e-5)


def test_an_index_of_another_similarity_is_refused(tmp_path):
    made = ExactSearcher(np.eye(3))
    save_index(tmp_path / "i", made, model="aaaa", similarity="dot")
    assert load_index(tmp_path / "i", model="aaaa", similarity="dot").documents == 3
    with pytest.raises(UserError, match="an index by dot, but the model compares"):
        load_index(tmp_path / "i", model="aaaa")


@pytest.mark.peers
def test_similarities_are_those_of_sentence_transformers():
    util = pytest.importorskip("sentence_transformers.util")
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(4, 7)).astype("f"), rng.normal(size=(5, 7)).astype("f")
    left[1] = 0
    for name in SIMILARITIES:
        theirs = util.SimilarityFunction.to_similarity_fn(name)(left, right).numpy()
        np.testing.assert_allclose(similarities(left, right, name), theirs, rtol=1e-5, atol=1e-5)


def test_prepared_rows_have_the_similarity_as_inner_product():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(4, 9)), rng.normal(size=(5, 9))
    for name in ("cosine", "dot"):
        ours = prepared(left, 6, name) @ prepared(right, 6, name).T
        theirs = similarities(left[:, :6], right[:, :6], name)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_ties_are_ranked_as_trec_eval_does(tmp_path):
    """Texts of few words tie often; the ids are not in the order of the file."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    rng = np.random.default_rng(2)
    texts = [" ".join(rng.choice(["a", "b", "c"], 2)) for _ in range(40)] + [""]
    ids = [f"d{i}" for i in rng.permutation(len(texts))]
    queries = {f"q{i}": text for i, text in enumerate(["a b", "b", "c c", "a c"])}
    corpus = [{"_id": name, "text": text} for name, text in zip(ids, texts, strict=True)]
    qrels = {q: {ids[row]: int(rng.integers(0, 3)) for row in range(0, 41, 4)} for q in queries}
    write(tmp_path / "b" / "corpus.jsonl", "\n".join(map(json.dumps, corpus)))
    rows = [{"_id": name, "text": text} for name, text in queries.items()]
    write(tmp_path / "b" / "queries.jsonl", "\n".join(map(json.dumps, rows)))
    lines = [f"{q}\t{d}\t{grade}\n" for q, grades in qrels.items() for d, grade in grades.items()]
    write(tmp_path / "b" / "qrels" / "test.tsv", "".join(lines))
    encoder, run = StubEncoder(), {}
    vectors = {text: encoder._vector(text) for text in {*texts, *queries.values()}}
    for name, query in queries.items():
        scored = {
            text: similarities(vectors[query][None], vectors[text][None])[0, 0] for text in {*texts}
        }
        scored[""] = -2.0  # no direction: behind all others
        run[name] = {d: float(scored[text]) for d, text in zip(ids, texts, strict=True)}
    measures = {"ndcg_cut.10", "recall.10", "recall.100", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(run)
    (task,) = read_tasks([tmp_path / "b"])
    results = suite.evaluate_model(encoder, [task], widths=[16], cache=tmp_path)
    ours = results.tasks[task.name][16]
    for name, measure in (("ndcg@10", "ndcg_cut_10"), ("recall@10", "recall_10")):
        assert ours.figures[name] == pytest.approx(np.mean([v[measure] for v in theirs.values()]))
    assert ours.details["without_direction"] == {"documents": 1}
