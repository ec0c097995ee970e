"""Maps of tasks, precisions, what one model wins from another, and the verb that shows them."""

import json

import numpy as np
import pytest
from stub_encoder import StubEncoder
from task_folders import house, write

from gemb import metrics, search
from gemb.evaluation import maps
from gemb.evaluation.precision import evaluate_precisions
from gemb.evaluation.tasks import read_tasks
from gemb.evaluation.wins import wins_and_losses
from gemb.metrics.projection import project


def _vectors(rows=60, dim=12, seed=0):
    scales = 0.7 ** np.arange(dim)
    return (np.random.default_rng(seed).normal(size=(rows, dim)) * scales).astype(np.float32)


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def tasks(tmp_path):
    return {task.name: task for task in read_tasks([house(tmp_path / "house")])}


@pytest.mark.extra("eval")
def test_a_map_shows_queries_answers_and_others(tasks, tmp_path):
    encoder = StubEncoder()
    plane = maps.task_map(encoder, tasks["beir"], cache=tmp_path / "cache")
    assert plane["texts"][:2] == ["query 0", "query 2"]
    assert plane["groups"] == ["query"] * 2 + ["document"] * 3
    assert {plane["texts"][b] for _, b in plane["links"]} == {"document 0", "document 2"}
    vectors = np.stack([encoder._vector(text) for text in plane["texts"]]).astype(np.float32)
    np.testing.assert_allclose(plane["places"], project(vectors), atol=1e-4)
    asked = {text for kind, text in encoder.encoded if kind == "query"}
    assert asked == {"query 0", "query 2"}
    again = StubEncoder()
    read = maps.task_map(again, tasks["beir"], cache=tmp_path / "cache")
    assert read == json.loads(json.dumps(plane))
    assert again.encoded == []


@pytest.mark.extra("eval")
def test_other_kinds_have_labels_pairs_or_no_map(tasks, tmp_path):
    made = {
        name: maps.task_map(StubEncoder(), task, cache=tmp_path) for name, task in tasks.items()
    }
    assert made["intents"]["groups"] == ["x", "y", "x"]
    assert made["groups"]["groups"] == ["x", "y", "x"]
    assert made["plain"]["links"] == [(0, 2), (1, 3)]
    assert {name for name, plane in made.items() if plane is None} == {"en_test", "twins", "r"}


def test_precisions_are_those_of_the_searchers():
    documents, queries = (_unit(_vectors(rows, 16, seed)) for rows, seed in ((200, 0), (30, 1)))
    true = search.ExactSearcher(documents).search(queries, 3).indices
    qrels = [dict.fromkeys(row, 1) for row in true.tolist()]
    rows = evaluate_precisions(queries, documents, qrels, widths=[16])
    assert {(r["precision"], r["rescored"]): r["bytes"] for r in rows} == {
        ("float32", False): 64, ("bfloat16", False): 32, ("int8", False): 16,
        ("binary", False): 2, ("int8", True): 16, ("binary", True): 2,
    }  # fmt: skip
    found = {(r["precision"], r["rescored"]): r["ndcg@10"] for r in rows}
    binary = search.QuantizedSearcher(documents, precision="binary").search(queries, 100)
    expected = metrics.retrieval_metrics(binary.indices, qrels)["ndcg@10"].mean()
    assert found["binary", False] == pytest.approx(expected, abs=1e-6)
    assert found["float32", False] == found["int8", True] == 1.0
    assert found["binary", False] < found["binary", True]
    assert all(r["width"] == 16 and r["queries_per_second"] > 0 for r in rows)


@pytest.mark.extra("eval")
def test_wins_and_losses_are_the_largest_differences(tasks):
    task = tasks["beir"]
    found = wins_and_losses(task, np.array([0.2, 1.0]), np.array([0.9, 1.0]))
    assert found["better"] == [{"text": "query 0", "left": 0.2, "right": 0.9}]
    assert found["worse"] == []
    assert found["counts"] == [1, 0, 1]
    assert wins_and_losses(tasks["en_test"], np.zeros(2), np.ones(2)) is None, "ranks are no wins"


def test_the_verb_draws_maps_and_writes_the_projector(tmp_path, monkeypatch, capsys):
    from gemb.cli.__main__ import run
    from gemb.inference.embedder import Embedder

    monkeypatch.setattr(Embedder, "load", staticmethod(lambda place: StubEncoder(seed=len(place))))
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "gemb"))
    write(tmp_path / "t" / "plain.tsv", "source\ttarget\neins\t<one>\nzwei\ttwo\n")

    def call(*more):
        with pytest.raises(SystemExit) as left:
            run("evaluate", ["--model=a,bb", f"--tasks={tmp_path / 't'}",
                             f"--output={tmp_path / 'o'}", *more])  # fmt: skip
        assert left.value.code == 0, capsys.readouterr().err
        return (tmp_path / "o" / "report.html").read_text()

    page = call("--projector")
    assert page.count('class="map"') == 2
    assert "translation: &lt;one&gt;" in page
    assert "What narrower vectors keep" in page
    assert "<script" not in page
    assert "<img" not in page
    assert (tmp_path / "o" / "projector" / "projector_config.pbtxt").exists()
    assert 'class="map"' not in call("--map=none")
