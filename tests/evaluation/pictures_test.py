"""Maps, the projector's files, precisions, and what one model wins from another."""

import json
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from stub_encoder import StubEncoder
from task_folders import house, write

from gemb import metrics, search
from gemb.checks import UserError
from gemb.evaluation import figures, projection, projector
from gemb.evaluation.map_figure import map_figure
from gemb.evaluation.precision import evaluate_precisions
from gemb.evaluation.tasks import read_tasks
from gemb.evaluation.wins import wins_and_losses
from gemb.reports.svg import svg

pytestmark = pytest.mark.extra("eval")

SVG = "{http://www.w3.org/2000/svg}"


def _vectors(rows=60, dim=12, seed=0):
    scales = 0.7 ** np.arange(dim)
    return (np.random.default_rng(seed).normal(size=(rows, dim)) * scales).astype(np.float32)


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def tasks(tmp_path):
    return {task.name: task for task in read_tasks([house(tmp_path / "house")])}


def test_pca_is_scikit_learns():
    from sklearn.decomposition import PCA

    vectors = _vectors()
    expected = PCA(2, svd_solver="full").fit_transform(np.float64(vectors))
    found = projection.project(vectors)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)
    assert (found[np.abs(found).argmax(axis=0), [0, 1]] > 0).all()


@pytest.mark.parametrize("rows", [2, 3])
def test_few_points_have_a_place(rows):
    for method in ("pca", "tsne")[: 4 - rows]:
        found = projection.project(_vectors(rows), method)
        assert found.shape == (rows, 2)
        assert np.isfinite(found).all()
    same = projection.project(np.ones((4, 3), np.float32))
    np.testing.assert_array_equal(same, np.zeros((4, 2)))


def test_tsne_keeps_groups_together():
    centres = np.repeat(np.eye(3, 12, dtype=np.float32) * 9, 8, axis=0)
    vectors, group = centres + _vectors(24) * 0.3, np.repeat([0, 1, 2], 8)
    found = projection.project(vectors, "tsne")
    apart = np.linalg.norm(found[:, None] - found[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (group[apart.argmin(axis=1)] == group).all()


def test_umap_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match=r"needs umap: pip install 'gemb\[maps\]'"):
        projection.project(_vectors(), "umap")
    for bad, message in (
        ({"method": "mds"}, "method: expected one of"),
        ({"vectors": np.ones((1, 3))}, "expected 2 or more, got 1"),
        ({"vectors": np.full((3, 3), np.nan)}, "expected finite values"),
    ):
        with pytest.raises(ValueError, match=message):
            projection.project(**{"vectors": _vectors(), "method": "pca"} | bad)


def test_a_map_shows_queries_answers_and_others(tasks, tmp_path):
    encoder = StubEncoder()
    plane = projection.task_map(encoder, tasks["beir"], cache=tmp_path / "cache")
    assert plane["texts"][:2] == ["query 0", "query 2"]
    assert plane["groups"] == ["query"] * 2 + ["document"] * 3
    assert {plane["texts"][b] for _, b in plane["links"]} == {"document 0", "document 2"}
    vectors = np.stack([encoder._vector(text) for text in plane["texts"]]).astype(np.float32)
    np.testing.assert_allclose(plane["places"], projection.project(vectors), atol=1e-4)
    asked = {text for kind, text in encoder.encoded if kind == "query"}
    assert asked == {"query 0", "query 2"}
    again = StubEncoder()
    read = projection.task_map(again, tasks["beir"], cache=tmp_path / "cache")
    assert read == json.loads(json.dumps(plane))
    assert again.encoded == []


def test_other_kinds_have_labels_pairs_or_no_map(tasks, tmp_path):
    made = {
        name: projection.task_map(StubEncoder(), task, cache=tmp_path)
        for name, task in tasks.items()
    }
    assert made["intents"]["groups"] == ["x", "y", "x"]
    assert made["groups"]["groups"] == ["x", "y", "x"]
    assert made["plain"]["links"] == [(0, 2), (1, 3)]
    assert {name for name, plane in made.items() if plane is None} == {"en_test", "twins", "r"}


def test_the_figure_is_sound_escaped_and_within_its_edges():
    plane = {
        "method": "pca",
        "texts": ["<b>one</b> & two", 'a "quoted" text', "third"],
        "groups": ["query", "document", "document"],
        "places": [[0.0, 0.0], [10.0, -3.0], [4.0, 8.0]],
        "links": [[0, 1]],
    }
    drawn = map_figure("a & b", plane)
    svg, legend = drawn[: drawn.index("</svg>") + 6], drawn[drawn.index("</svg>") + 6 :]
    root = ET.fromstring(svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
    titles = [title.text for title in root.iter(f"{SVG}title")]
    named = zip(plane["groups"], plane["texts"], strict=True)
    assert sorted(titles) == sorted(f"{group}: {text}" for group, text in named)
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{SVG}circle")]
    assert all(0 < x < 640 and 0 < y < 440 for x, y in circles)
    assert circles[0][1] > circles[1][1], "what is lower lies lower"
    assert "query" in legend
    many = {**plane, "groups": list("abc"), "texts": ["t"] * 3, "links": []}
    assert map_figure("m", many | {"places": [[1, 1]] * 3}).count("<circle") == 3


@pytest.mark.extra("tensorboard")
def test_the_projectors_files_are_what_tensorboard_reads(tmp_path):
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    vectors, texts = _vectors(4), ["tab\there", "line\nbreak", "plain", "x" * 999]
    named = [("a/b c", vectors, texts, list("wxyz")), ("two", vectors[:2], texts[:2], list("pq"))]
    projector.write_tables(tmp_path / "p", named)
    config = ProjectorConfig()
    text_format.Parse((tmp_path / "p" / "projector_config.pbtxt").read_text(), config)
    assert [one.tensor_name for one in config.embeddings] == ["a_b_c", "two"]
    first = config.embeddings[0]
    read = np.loadtxt(tmp_path / "p" / first.tensor_path, delimiter="\t")
    np.testing.assert_allclose(read, vectors, rtol=1e-5)
    lines = (tmp_path / "p" / first.metadata_path).read_text().splitlines()
    assert lines[0] == "text\tgroup"
    assert lines[1:3] == ["tab here\tw", "line break\tx"]
    assert len(lines) == 5


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


def test_the_front_is_what_nothing_beats():
    rng = np.random.default_rng(3)
    points = [tuple(p) for p in rng.integers(0, 12, (60, 2)).tolist()]
    for more, sign in ((True, 1), (False, -1)):
        expected = {
            p for p in points
            if not any(
                q != p and sign * q[0] >= sign * p[0] and q[1] >= p[1] for q in points
            )
        }  # fmt: skip
        assert figures.front(points, more) == sorted(expected)
    drawn = figures.trade_figure(
        "x", {"a": [(1, 0.5, "8"), (10, 0.9, "16")], "b": [(5, 0.4, "8")]}, ("cost", "q"),
        more_is_better=False,
    )  # fmt: skip
    assert drawn.startswith("<svg")
    assert ">16<" in drawn


def test_a_figures_name_is_text():
    drawn = svg('a"b<c \\d', lambda axes: axes.plot([0, 1]))
    assert 'aria-label="a&quot;b&lt;c \\d"' in drawn


def test_wins_and_losses_are_the_largest_differences(tasks):
    task = tasks["beir"]
    found = wins_and_losses(task, np.array([0.2, 1.0]), np.array([0.9, 1.0]))
    assert found["better"] == [{"text": "query 0", "left": 0.2, "right": 0.9}]
    assert found["worse"] == []
    assert found["counts"] == [1, 0, 1]
    assert wins_and_losses(tasks["en_test"], np.zeros(2), np.ones(2)) is None, "ranks are no wins"


def test_the_verb_draws_maps_and_writes_the_projector(tmp_path, monkeypatch, capsys):
    from absl import flags

    from gemb.cli.__main__ import run
    from gemb.inference.embedder import Embedder

    monkeypatch.setattr(Embedder, "load", staticmethod(lambda place: StubEncoder(seed=len(place))))
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "gemb"))
    write(tmp_path / "t" / "plain.tsv", "source\ttarget\neins\t<one>\nzwei\ttwo\n")

    def call(*more):
        with pytest.raises(SystemExit) as left:
            run("evaluate", ["--model=a,bb", f"--tasks={tmp_path / 't'}",
                             f"--output={tmp_path / 'o'}", *more])  # fmt: skip
        for name in ("model", "tasks", "output", "map", "projector"):
            flags.FLAGS[name].unparse()
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
