"""Sweeps: lists, commands, submission, resume and table, with a stand-in for training."""

import csv
import itertools
import json
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import gin
import numpy as np
import pytest

from gemb import config
from gemb.runs.sweeps import gin_params, grid, log_uniform, product, random, uniform

ROOT = Path(__file__).parents[1]
SHIPPED = sorted((ROOT / "configs" / "sweeps").glob("*.py"))
# Trains in no time: a loss that follows from the learning rate; the rate 0.5 fails, 0.25 waits.
PYTHON = """#!PYTHON
import json, os, pathlib, signal, sys, time
flags = [a.split("=", 1) for a in sys.argv[4:]]
workdir = pathlib.Path(dict(flags)["--workdir"])
params = dict(v.split(" = ", 1) for n, v in flags if n == "--gin_param")
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
rate = float(params["LEARNING_RATE"])
workdir.mkdir(parents=True, exist_ok=True)
(workdir / "config.gin").touch()
if rate == 0.5 and not (workdir / "mended").exists():
    sys.exit("boom")
if rate == 0.25:
    signal.signal(signal.SIGTERM, lambda *_: (workdir.joinpath("saved").touch(), sys.exit(75)))
    time.sleep(60)
(workdir / "metrics.jsonl").write_text(json.dumps({"step": 7, "loss": 10 * rate}) + "\\n")
(workdir / "model").mkdir()
(workdir / "model" / "gemb.json").write_text("{}")
""".replace("PYTHON", sys.executable)
TOOL = """#!/bin/bash
{ printf '%s ' "$(basename "$0")"; printf '%s\\n' "${@@Q}" | tr '\\n' ' '; echo; } >>"$TOOLS"
"""
FOUR = {"LEARNING_RATE": [0.125, 0.5], "LOSS": ["@a('it', \"$HOME\")", "%B"]}


@pytest.fixture
def sweep(tmp_path):
    """Runs launch/sweep.py on a file of the given text."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("python", PYTHON), *((n, TOOL) for n in ("sbatch", "gcloud", "kubectl"))):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tools}:{Path(sys.executable).parent}:/usr/bin:/bin",
        "CALLS": str(tmp_path / "calls"),
        "TOOLS": str(tmp_path / "used"),
    }

    def start(text, *arguments):
        (tmp_path / "mine.py").write_text(text)
        words = ["launch/sweep.py", tmp_path / "mine.py", "--gin_file=some.gin"]
        words += [f"--workdir={tmp_path}/sweep", *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [sys.executable, *map(str, words)], cwd=ROOT, env=environment, **pipes
        )

    def run(text, *arguments):
        (tmp_path / "calls").write_text("")
        process = start(text, *arguments)
        process.out, process.error = process.communicate(timeout=60)
        lines = (tmp_path / "calls").read_text().splitlines()
        process.calls = [json.loads(line) for line in lines]
        return process

    run.start, run.environment, run.folder = start, environment, tmp_path / "sweep"
    run.python = f"--launch_option=--python={tools}/python"
    run.used = lambda: (tmp_path / "used").read_text().splitlines()
    return run


def file_of(members) -> str:
    return f"def sweep():\n    return {members!r}\n"


def test_a_grid_is_every_combination():
    members = grid({"a": [1, 2], "b.c": "xyz"})
    assert [(m["a"], m["b.c"]) for m in members] == list(itertools.product([1, 2], "xyz"))
    joined = product([{"n": 0}, {"n": 1}], members)
    assert len(joined) == 2 * len(members)
    assert joined[-1] == {"n": 1} | members[-1]
    with pytest.raises(ValueError, match="a is bound by two"):
        product(members, [{"a": 3}])


def test_random_draws_are_repeatable_and_within_bounds():
    choices = {"r": log_uniform(1e-5, 1e-1), "u": uniform(-1, 1), "c": ["x", "y"]}
    members = random(400, choices)
    assert members[:9] == random(9, choices)
    assert members != random(400, choices, seed=1)
    logs = np.log10([m["r"] for m in members])
    assert -5 <= logs.min() < logs.max() <= -1
    # a uniform variable over 4 decades: mean -3, standard error 4 / sqrt(12 n)
    assert abs(logs.mean() + 3) < 4 * 4 / np.sqrt(12 * 400)
    assert all(-1 <= m["u"] <= 1 for m in members)
    assert {m["c"] for m in members} == {"x", "y"}
    with pytest.raises(ValueError, match="0 < low <= high"):
        log_uniform(0, 1)


@pytest.mark.parametrize(
    "value",
    [1, 1e-4, -2.5, True, None, 'it\'s "quoted"', (384, 96), [1.0], {"a": (1, "b")}],
)
def test_gin_reads_the_bindings_back(value):
    (param,) = gin_params({"x.y": value})
    name, text = param.split(" = ", 1)
    assert name == "x.y"
    assert gin.config.parse_value(text) == value


def test_values_of_numpy_and_references_are_written_for_gin():
    assert gin_params({"a": np.float64(0.5), "b": np.int32(3)}) == ["a = 0.5", "b = 3"]
    assert gin_params({"a": "@f.g()", "b": "%M"}) == ["a = @f.g()", "b = %M"]
    for value in (float("nan"), object(), np.zeros(2)):
        with pytest.raises(ValueError, match="a: expected numbers"):
            gin_params({"a": value})


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_sweeps_are_pure_and_bind_what_exists(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    function = runpy.run_path(str(path))["sweep"]
    members = function()
    assert members == function()
    command = re.search(r"--gin_file=(\S+)", path.read_text())
    for member in (members[0], members[-1]):
        config.load([command[1]], gin_params(member))
    gin.clear_config()


def test_commands_are_printed_and_run_nothing(sweep):
    done = sweep(file_of(grid(FOUR)), sweep.python, "--gin_param=STEPS = 3")
    assert done.returncode == 0, done.error
    assert done.calls == []
    commands = done.out.splitlines()
    manifest = json.loads((sweep.folder / "sweep.json").read_text())
    assert [m["command"] for m in manifest["members"]] == commands
    assert os.listdir(sweep.folder) == ["sweep.json"]
    (sweep.folder.parent / "calls").write_text("")
    subprocess.run(["bash", "-c", done.out], cwd=ROOT, env=sweep.environment, check=False)
    calls = [json.loads(x) for x in (sweep.folder.parent / "calls").read_text().splitlines()]
    expected = [
        ["-m", "gemb.cli", "train", "--gin_file=some.gin", "--gin_param=STEPS = 3"]
        + [f"--gin_param={name} = {value}" for name, value in member.items()]
        + [f"--workdir={planned['workdir']}"]
        for member, planned in zip(grid(FOUR), manifest["members"], strict=True)
    ]
    assert calls == expected
    assert len({m["workdir"] for m in manifest["members"]}) == 4


def test_members_keep_their_folders_when_others_are_added(sweep):
    names = []
    for rates in ([0.125], [0.0625, 0.125]):
        seed = {"experiment.Experiment.seed": [1]}
        sweep(file_of(grid({"LEARNING_RATE": rates} | seed | {"WIDTHS": [(384, 96)]})))
        manifest = json.loads((sweep.folder / "sweep.json").read_text())
        names.append([member["name"] for member in manifest["members"]])
    assert names[0] == ["LEARNING_RATE=0.125,seed=1,WIDTHS=384_96"]
    assert names[0][0] in names[1]


def test_runs_without_a_number_stand_last():
    rank = runpy.run_path(str(ROOT / "launch" / "sweep_table.py"))["_rank"]
    losses = [3.0, float("nan"), 1.0, ""]
    rows = sorted([["name", loss, ""] for loss in losses], key=rank)
    assert [str(loss) for _, loss, _ in rows] == ["1.0", "3.0", "nan", ""]


def test_submit_resume_and_the_table(sweep):
    members = file_of([{"LEARNING_RATE": rate} for rate in (0.125, 0.5, 0.0625)])
    first = sweep(members, sweep.python, "--submit=local", "--jobs=2")
    assert first.returncode == 1
    assert len(first.calls) == 3
    assert "1 failed: LEARNING_RATE=0.5" in first.error
    assert "boom" in (sweep.folder / "logs" / "LEARNING_RATE=0.5.log").read_text()
    assert "2 of 3 members finished" in first.out

    again = sweep(members, sweep.python, "--submit=local")
    assert again.returncode == 2
    assert "--resume" in again.error
    assert again.calls == []

    (sweep.folder / "LEARNING_RATE=0.5" / "mended").touch()
    results = {"retrieval": {"trained": {"8": {"ndcg@10": 0.1}, "16": {"ndcg@10": 0.75}}}}
    (sweep.folder / "LEARNING_RATE=0.125" / "results.json").write_text(json.dumps(results))
    resumed = sweep(members, sweep.python, "--submit=local", "--resume")
    assert resumed.returncode == 0, resumed.error
    assert [call[-1] for call in resumed.calls] == [f"--workdir={sweep.folder}/LEARNING_RATE=0.5"]

    with open(sweep.folder / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["LEARNING_RATE"] for row in rows] == ["0.125", "0.0625", "0.5"]  # best first
    assert [float(row["loss"]) for row in rows] == [10 * 0.125, 10 * 0.0625, 10 * 0.5]
    assert {(row["state"], row["step"]) for row in rows} == {("finished", "7")}
    assert (rows[0]["metric"], rows[0]["result"]) == ("ndcg@10 at 16", "0.75")
    assert rows[1]["result"] == ""
    printed = resumed.out.splitlines()
    start = next(i for i, line in enumerate(printed) if line.startswith("LEARNING_RATE  "))
    assert printed[start + 1].split() == [
        "0.125", "finished", "ndcg@10", "at", "16", "7", "1.2500", "0.7500",
    ]  # fmt: skip
    html = (sweep.folder / "results.html").read_text()
    assert "0.7500" in html
    assert not re.search(r"(src|href)\s*=\s*.(?!data:)", html)  # nothing is fetched


def test_the_table_alone_runs_nothing_and_escapes(sweep):
    done = sweep(file_of([{"LOSS": "<b>"}]), "--table")
    assert done.returncode == 0, done.error
    assert done.calls == []
    assert "not started" in done.out
    assert "&lt;b&gt;" in (sweep.folder / "results.html").read_text()


def test_sigterm_lets_the_members_save_themselves(sweep):
    members = file_of([{"LEARNING_RATE": 0.25}, {"LEARNING_RATE": 0.125}])
    process = sweep.start(members, sweep.python, "--submit=local")
    deadline = time.monotonic() + 20
    while not (sweep.folder / "LEARNING_RATE=0.25" / "config.gin").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert (sweep.folder / "LEARNING_RATE=0.25" / "saved").exists()
    assert not (sweep.folder / "LEARNING_RATE=0.125").exists()


@pytest.mark.parametrize(
    ("launcher", "options", "tool"),
    [
        ("slurm", ["--nodes=2", "--logs=/tmp"], "sbatch"),
        ("k8s", ["--image=i", "--volume=v", "--accelerator=a", "--chips=8"], "kubectl"),
        ("tpu_pod", ["--pod=p", "--zone=z", "--stop"], "gcloud"),
    ],
)
def test_any_launcher_takes_the_members(sweep, launcher, options, tool):
    options = [f"--launch_option={option}" for option in options]
    done = sweep(file_of(grid(FOUR)), f"--submit={launcher}", *options)
    assert done.returncode == 0, done.out + done.error
    used = sweep.used()
    assert [line.split()[0] for line in used] == [tool] * 4
    manifest = json.loads((sweep.folder / "sweep.json").read_text())
    words = [shlex.split(member["command"]) for member in manifest["members"]]
    assert {line[0] for line in words} == {f"launch/{launcher}.sh"}
    if launcher != "tpu_pod":  # jobs of their own names
        names = {next(w for w in line if w.startswith("--name=")) for line in words}
        assert len(names) == 4


def test_a_sweep_that_has_run_is_not_forgotten(sweep):
    done = sweep(file_of([{"LEARNING_RATE": 0.125}]), sweep.python, "--submit=local")
    assert done.returncode == 0, done.error
    other = sweep(file_of([{"LEARNING_RATE": 0.0625}]), sweep.python)
    assert other.returncode == 2
    assert "LEARNING_RATE=0.125 has run and is not in this one" in other.error
    again = (file_of([{"LEARNING_RATE": 0.125}]), sweep.python, "--submit=local", "--resume")
    assert sweep(*again).returncode == 0
    longer = sweep(*again, "--gin_param=STEPS = 3")
    assert longer.returncode == 2
    assert "LEARNING_RATE=0.125 has run with other bindings" in longer.error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "defines no function sweep()"),
        ("def sweep(:\n", "SyntaxError"),
        ("def sweep():\n    return 1 / 0\n", "ZeroDivisionError"),
        ("def sweep(rate):\n    return []\n", "TypeError"),
        ("def sweep():\n    return []\n", "must return a list of dicts, got []"),
        ("def sweep():\n    return {'a': 1}\n", "must return a list of dicts, got {'a': 1}"),
        ("def sweep():\n    return [('a', 1)]\n", "a member must be a dict of gin bindings"),
        ("def sweep():\n    return [{'a b': 1}]\n", "a member must be a dict of gin bindings"),
        ("def sweep():\n    return [{'a': 1}, {'a': 1}]\n", "two members are both a=1"),
        ("def sweep():\n    return [{'a': object()}]\n", "a: expected numbers"),
        ("import nowhere_at_all\n", "nowhere_at_all"),
    ],
)
def test_a_bad_sweep_file_is_one_line(sweep, text, message):
    done = sweep(text)
    assert done.returncode == 2
    assert message in done.error
    assert len(done.error.splitlines()) == 1
    assert done.error.startswith("sweep.py: error: ")
    assert not sweep.folder.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--submit=moon"], "moon"), (["--jobs=0"], "--jobs"), (["--rate=1"], "--rate=1")],
)
def test_bad_arguments_are_one_line(sweep, arguments, message):
    done = sweep(file_of([{"a": 1}]), *arguments)
    assert done.returncode == 2
    assert message in done.error
    assert len(done.error.splitlines()) == 1
