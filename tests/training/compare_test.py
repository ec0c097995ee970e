"""Runs compared: figures by formula, the page, and mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.reports import write_comparison_page
from gemb.runs import comparison as comparing
from gemb.runs.comparison import POINTS, compare
from gemb.runs.curves import main_result, read_config

ROOT = Path(__file__).parents[2]
CONFIG = "# Macros:\nSTEPS = {}\n\n# Parameters for loop.train:\nloop.train.steps = %STEPS\n"


def make_run(folder, rows, *, steps=60, model=None, results=None):
    folder.mkdir(parents=True)
    (folder / "config.gin").write_text(CONFIG.format(steps))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if model is not None:
        (folder / "model").mkdir()
        (folder / "model" / "gemb.json").write_text(json.dumps({"training": model}))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))
    return folder


def rows_of(values, **more):
    return [
        {"step": i + 1, "loss": v, "gradient_norm": 2 * v, **more} for i, v in enumerate(values)
    ]


@pytest.fixture
def two(tmp_path):
    first = make_run(
        tmp_path / "a",
        rows_of([3.0, 1.0, 2.0, 4.0], accuracy=0.5),
        model={"seconds": 12.5},
        results={"retrieval": {"trained": {"8": {"ndcg@10": 0.25}, "32": {"ndcg@10": 0.75}}}},
    )
    second = make_run(tmp_path / "b", rows_of([5.0, 4.0]), steps=2)
    return [first, second]


def test_last_and_best_are_of_the_running_mean(two):
    tree = compare(two, smoothing=2)
    # running means of 3 1 2 4: 3, 2, 1.5, 3
    assert tree["curves"]["loss"]["a"]["smooth"] == [3.0, 2.0, 1.5, 3.0]
    assert tree["curves"]["loss"]["a"]["raw"] == [3.0, 1.0, 2.0, 4.0]
    a, b = tree["runs"]["a"], tree["runs"]["b"]
    assert a["best"]["loss"] == {"value": 1.5, "step": 3}
    assert a["last"]["loss"] == 3.0
    assert "gradient_norm" not in a["best"]  # less is not better there
    assert (a["steps"], a["of"], a["finished"], a["seconds"]) == (4, 60, True, 12.5)
    assert a["result"] == {"ndcg@10 at 32": 0.75}
    assert (b["of"], b["finished"], b["seconds"], b["result"]) == (2, False, None, None)
    assert tree["config"] == {"STEPS": {"a": "60", "b": "2"}}
    assert list(tree["curves"]) == ["loss", "gradient_norm", "accuracy"]
    assert list(tree["curves"]["accuracy"]) == ["a"]


def test_what_is_logged_now_and_then_is_averaged_over_steps_too(tmp_path):
    rows = [{"step": step, "loss": 1.0} for step in range(1, 201)]
    for step in range(10, 201, 10):
        rows[step - 1]["sts/spearman"] = step / 200
    tree = compare([make_run(tmp_path / "a", rows)], smoothing=20)
    run = tree["runs"]["a"]
    assert run["last"]["sts/spearman"] == pytest.approx((190 + 200) / 2 / 200)
    assert run["best"]["sts/spearman"] == {"value": run["last"]["sts/spearman"], "step": 200}
    assert compare([tmp_path / "a"])["runs"]["a"]["last"]["sts/spearman"] == 1.0  # of 10 steps


def test_numbers_that_are_not_finite_are_left_out(tmp_path):
    run = make_run(tmp_path / "a", rows_of([1.0, float("nan"), 3.0]))
    curve = compare([run], smoothing=1)["curves"]["loss"]["a"]
    assert curve == {"step": [1, 3], "raw": [1.0, 3.0], "smooth": [1.0, 3.0]}


def test_long_curves_are_averaged_and_keep_their_end(tmp_path):
    values = np.random.default_rng(0).normal(size=2 * POINTS + 1)
    run = make_run(tmp_path / "a", rows_of(values.tolist()))
    curve = compare([run], smoothing=5)["curves"]["loss"]["a"]
    assert len(curve["step"]) <= POINTS
    assert curve["step"][-1] == len(values)
    assert curve["raw"][0] == pytest.approx(values[: curve["step"][0]].mean())
    assert curve["smooth"][-1] == pytest.approx(values[-5:].mean())


@pytest.mark.extra("eval")
def test_the_page_stands_alone(two, tmp_path):
    page = tmp_path / "out" / "report.html"
    write_comparison_page(page, compare(two))
    text = page.read_text()
    assert text.count("<svg") == 3
    assert "b has no accuracy" in text
    for word in ("http://", "https://", "<script", '<link rel="stylesheet'):
        assert word not in text.replace("http://www.w3.org/", ""), word
    assert "1 @ 2" in text  # the best loss, of the second step
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


def test_the_verb_writes_both_and_prints_a_table(two, tmp_path):
    output = tmp_path / "out"
    command = [sys.executable, "-m", "gemb.cli.compare", *map(str, two), f"--output={output}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((output / "results.json").read_text())["runs"]["b"]["last"]["loss"] == 4.0
    assert (output / "report.html").stat().st_size > 5_000
    assert "4 of 60" in done.stdout
    refused = subprocess.run(
        [*command[:-1], f"--output={two[0]}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "is a run" in refused.stderr


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    runs = [make_run(tmp_path / place / "run", rows_of([1.0])) for place in "xy"]
    assert list(compare(runs)["runs"]) == [str(run) for run in runs]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: [], "no runs are given"),
        (lambda p: [p / "none"], "not a folder"),
        (lambda p: [p], "is not a run"),
        (lambda p: [make_run(p / "a", rows_of([1.0]), model={}) / "model"], "did you mean .*a?"),
        (lambda p: [make_run(p / "a", [])], "no rows"),
        (lambda p: [make_run(p / "a", [{"loss": 1.0}])], "a row without a step"),
        (lambda p: [make_run(p / "a", [{"step": 1, "note": "x"}])], "holds no numbers to compare"),
        (lambda p: [make_run(p / "a", rows_of([1.0])), p / "a" / ".." / "a"], "twice"),
    ],
)
def test_mistakes_are_told(tmp_path, make, message):
    with pytest.raises(UserError, match=message):
        compare(make(tmp_path))


def test_results_of_a_suite_and_of_nothing(tmp_path):
    run = make_run(tmp_path / "a", [], results={"averages": {"m": {"8": {"tasks": 0.5}}}})
    assert main_result(run) == ("mean of tasks at 8", 0.5)
    (run / "results.json").write_text("[1")
    assert main_result(run) is None
    assert read_config(run / "no.gin") == {}


def test_a_spike_leaves_the_running_mean_with_its_window():
    values = np.array([1e20, 1.0, 1.0, 1.0, 4.0])
    found = comparing._running_mean(np.arange(5), values, 2)
    np.testing.assert_allclose(found, [1e20, 5e19, 1, 1, 2.5])
