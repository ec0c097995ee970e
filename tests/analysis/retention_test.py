"""What students keep of a teacher: the shares, the same pairs for all, the page."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from stub_encoder import StubEncoder
from task_folders import house

from gemb.analysis import retention
from gemb.evaluation import suite
from gemb.evaluation.tasks import read_tasks, sample_texts
from gemb.reports.terminal import retention_lines

pytestmark = pytest.mark.extra("eval")

PARAMS = {"teacher": 1000, "student": 250}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    house(folder)
    tasks = read_tasks([folder])
    encoders = {"teacher": StubEncoder(widths=(16,)), "student": StubEncoder(noise=0.4)}
    for name, encoder in encoders.items():
        params = {"w": np.zeros((10, PARAMS[name] // 10))}
        encoder.model = dataclasses.make_dataclass(
            "Weighed", ["params"], bases=(type(encoder.model),), frozen=True,
        )(**vars(encoder.model), params=params)  # fmt: skip
    models = {n: suite.evaluate_model(e, tasks, cache=folder / "c") for n, e in encoders.items()}
    tree = suite.summary(tasks, models, folder / "c")
    texts = sample_texts(tasks)
    return tree, encoders, texts, retention.measure_retention(tree, encoders, "teacher", texts)


def test_shares_are_of_the_teacher_at_full_width(measured):
    tree, _, _, kept = measured
    assert kept["teacher"] == "teacher"
    assert set(kept["kept"]) == {*tree["tasks"], "mean of tasks"}
    for task, info in tree["tasks"].items():
        full = tree["results"][task]["teacher"]["16"][info["main"]]
        row = kept["kept"][task]
        assert set(row) == {"student"}
        assert set(row["student"]) == {"16", "8"}
        for width, share in row["student"].items():
            figure = tree["results"][task]["student"][width][info["main"]]
            assert share == (pytest.approx(figure / full) if full > 0 else None)


def test_scores_are_cosines_of_the_same_pairs(measured):
    _, encoders, texts, kept = measured
    assert len(texts) == len(set(texts)) > 10
    pair = kept["scores"]["student"]
    for name in ("teacher", "student"):
        rows = np.float64(encoders[name].encode(texts, kind="document"))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        every = (rows @ rows.T)[np.triu_indices(len(rows), 1)]
        assert len(pair[name]) == min(len(every), 1000)
        assert np.isin(np.round(pair[name], 4), np.round(every, 4)).mean() > 0.99
    expected = scipy.stats.spearmanr(pair["teacher"], pair["student"]).statistic
    assert 0.3 < pair["spearman"] < 1
    assert pair["spearman"] == pytest.approx(expected)


def test_size_and_page(measured, tmp_path):
    *given, before = measured
    kept = retention.report_retention(tmp_path, *given[:2], "teacher", given[2])
    assert kept["kept"] == before["kept"]
    assert json.loads((tmp_path / "retention.json").read_text()) == kept
    assert kept["bytes"] == {name: 4 * size for name, size in PARAMS.items()}
    assert all(rate > 0 for rate in kept["speed"].values())
    text = (tmp_path / "retention.html").read_text()
    for word in ("distilled from teacher", "What students keep", "Spearman 0.", "0.25", "<svg"):
        assert word in text
    (line,) = retention_lines(kept).splitlines()
    mean = kept["kept"]["mean of tasks"]["student"]["16"]
    assert line.startswith(f"student keeps {mean:.1%} of teacher")
    assert "0.25 of its size" in line
