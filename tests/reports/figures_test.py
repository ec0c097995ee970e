"""Plots, maps and the projector's files, as text."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from gemb.reports import figures, projector
from gemb.reports.map_figure import map_figure
from gemb.reports.svg import svg

SVG = "{http://www.w3.org/2000/svg}"


def _vectors(rows=60, dim=12, seed=0):
    scales = 0.7 ** np.arange(dim)
    return (np.random.default_rng(seed).normal(size=(rows, dim)) * scales).astype(np.float32)


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
