"""The mains as a user calls them: --help, mistakes, a killed run that goes on."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gemb.checks import installed
from gemb.cli.__main__ import VERBS

ROOT = Path(__file__).parents[1]


def environment(**more):
    one_device = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"}
    return {**one_device, "PYTHONPATH": str(ROOT), **more}


def gemb(*arguments, cwd=ROOT, **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "gemb.cli", *map(str, arguments)],
        cwd=cwd, env=environment(), capture_output=True, text=True, check=False, **kwargs
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small BEIR folder with training pairs, of this checkout's own source."""
    from gemb.datasets import python_code

    output = tmp_path_factory.mktemp("harvest") / "gemb"
    python_code.harvest({"gemb": ROOT / "gemb"}, output, undocumented=True, progress=False)
    return output


def debug_run(folder, workdir, *more):
    return (
        "train", "--gin_file=configs/experiments/quickstart.gin", "--gin_file=configs/debug.gin",
        f"--gin_param=pipeline.pairs.folder = '{folder}'",
        "--gin_param=pipeline.pairs.rates = {'train_stdlib': 1}",
        f"--workdir={workdir}", *more,
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    result = gemb(*debug_run(folder, workdir, *LONGER))
    assert result.returncode == 0, result.stderr
    return workdir


LONGER = ("--gin_param=STEPS = 12", "--gin_param=experiment.Experiment.checkpoint_steps = 3")


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"], row["gradient_norm"]) for row in rows]


@pytest.mark.long
def test_help_teaches_and_is_quick():
    def cpu_seconds(*command):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = subprocess.run(
            [sys.executable, *command], cwd=ROOT, env=environment(), capture_output=True, text=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime, result.stdout

    jax_seconds = min(cpu_seconds("-c", "import jax")[0] for _ in range(2))
    for verb in (None, *VERBS):
        arguments = ["-m", "gemb.cli", *([verb] if verb else []), "--help"]
        seconds, text = cpu_seconds(*arguments)
        assert seconds < 1.5 * jax_seconds
        assert "gemb" in text
        assert ("Flags:" in text) == (verb is not None)


def test_module_form_is_the_same_as_the_verb():
    result = subprocess.run(
        [sys.executable, "-m", "gemb.cli.train", "--help"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout == gemb("train", "--help").stdout


@pytest.mark.long
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown verb 'trian'"),
        (["train", "--worklad=x"], "worklad"),
        (["train"], "--gin_file is required"),
        (["train", "--gin_file=configs/experiments/quickstart.gin"], "--workdir is required"),
        (["train", "--gin_file=none.gin", "--workdir=x"], "none.gin does not exist"),
        (["evaluate", "--workdir=no/such/run"], "holds no trained model"),
        (["search", "--workdir=no/such/run", "   "], "the query is empty"),
        (["search", "--workdir=x", "--count=0", "q"], "count"),
        (["fetch", "no-such-model"], "no-such-model"),
        (["convert", "x.bin", "y"], "opens no pickle"),
        (["convert", "x.onnx"], "expected SOURCE and OUTPUT"),
        (["index", "--corpus=x", "--output=y", "--kind=foo"], "unknown 'foo'"),
        (["index", "--output=y"], "--corpus is required"),
        (["embed", "--model=m", "--output=y"], "--input is required"),
        (["soup", "out", "a"], "expected OUTPUT and two or more models"),
        (["compare"], "no runs are given"),
        (["cache"], "--gin_file is required"),
        (["cache", "--gin_file=x.gin"], "--output_cache_dir is required"),
        (["teach"], "--gin_file is required"),
        (["train", "--gin_file=configs/experiments/quickstart.gin", "--chips=v5e:8"], "--dry_run"),
        (["mine", "--model=m", "--output=y"], "--pairs is required"),
        (["filter", "--pairs=none.jsonl", "--model=m", "--output=y"], "no such file"),
        (["dedup", "--input=x", "--output=y"], "--model is required"),
        (["split", "--input=x", "--output=y", "--parts=a"], "expected NAME:SHARE"),
        (["evaluate", "--workdir=x", "--checkpoints=all"], "has no config.gin"),
        (["evaluate", "--model=a", "--tasks=b", "--mteb=c"], "--tasks is measured by gemb"),
        (["evaluate", "--model=a", "--model=b", "--tasks=c"], "--model is given 2 times"),
        (["configs", "experiments/quikstart.gin"], "Did you mean experiments/quickstart.gin?"),
        (["configs", "debug.gin", "x"], "expected one name at most"),
        (["train", "--gin_file=quickstart.gin"], "Did you mean experiments/quickstart.gin?"),
        (["push", "folder"], "expected FOLDER and OWNER/NAME"),
        (["push", "folder", "name"], "expected OWNER/NAME on the hub, got 'name'"),
        (["push", "no/folder", "me/name"], "no/folder: no such folder"),
        (["soup", "--weights=1", "--weights=2", "out", "a", "b"], "--weights is given 2 times"),
    ],
)
def test_mistakes_end_in_one_line(arguments, message):
    result = gemb(*arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_configs_are_listed_and_printed(tmp_path):
    listed = gemb("configs", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert lines[2] == "experiments/"
    (quickstart,) = (line for line in lines if line.split()[:1] == ["quickstart.gin"])
    assert "semantic code search: fine-tune all-MiniLM-L6-v2" in quickstart
    shown = {line.split()[0] for line in lines if ".gin" in line}
    assert shown == {path.name for path in (ROOT / "configs").rglob("*.gin")}
    assert all(len(line) <= 160 for line in lines[1:])
    for name in ("mesh/fsdp.gin", "configs/mesh/fsdp.gin"):
        printed = gemb("configs", name, cwd=tmp_path)
        assert printed.stdout == (ROOT / "configs" / "mesh" / "fsdp.gin").read_text()


def test_a_run_leaves_its_results(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.gin", "metrics.jsonl", "model", "checkpoints"} <= names
    assert ("tensorboard" in names) == installed("tensorboard")
    assert [step for step, *_ in losses(finished)] == list(range(1, 13))
    manifest = json.loads((finished / "model" / "gemb.json").read_text())
    assert manifest["widths"] == [32, 16, 8]
    assert len(manifest["fingerprint"]) == 32


@pytest.mark.long
@pytest.mark.parametrize("kill_at", [5])
def test_a_killed_run_goes_on_bit_for_bit(folder, finished, tmp_path, kill_at):
    workdir, command = tmp_path / "killed", debug_run(folder, tmp_path / "killed", *LONGER)
    process = subprocess.Popen(
        [sys.executable, "-m", "gemb.cli", *command],
        cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        path = workdir / "metrics.jsonl"
        rows = path.read_text().count("\n") if path.exists() else 0
        if rows >= kill_at and (workdir / "checkpoints" / "3").exists():
            process.send_signal(signal.SIGKILL)
        time.sleep(0.005)
    assert process.wait() == -signal.SIGKILL
    result = gemb(*command)
    assert result.returncode == 0, result.stderr
    assert "resuming from step" in result.stdout
    assert losses(workdir) == losses(finished)
    assert (workdir / "model" / "model.safetensors").read_bytes() == (
        finished / "model" / "model.safetensors"
    ).read_bytes()


@pytest.mark.long
def test_force_deletes_nothing_for_a_config_that_cannot_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.gin").write_text("kept")
    half = tmp_path / "half.gin"
    lines = ("from __gin__ import dynamic_registration", "from gemb.training import experiment")
    half.write_text("\n".join([*lines, "experiment.Experiment.steps = 3", ""]))
    result = gemb("train", f"--gin_file={half}", f"--workdir={tmp_path / 'run'}", "--force")
    assert result.returncode == 2
    assert "the config does not bind experiment.Experiment" in result.stderr
    assert (tmp_path / "run" / "config.gin").read_text() == "kept"


@pytest.mark.long
def test_a_finished_run_is_not_repeated_nor_overwritten(folder, finished):
    again = gemb(*debug_run(folder, finished, *LONGER))
    assert again.returncode == 0
    assert "the run is finished" in again.stdout
    other = gemb(*debug_run(folder, finished, "--gin_param=STEPS = 5"))
    assert other.returncode == 2
    assert "holds another experiment" in other.stderr


@pytest.mark.long
def test_evaluate_and_search(folder, finished):
    result = gemb("evaluate", f"--workdir={finished}")
    assert result.returncode == 0, result.stderr
    results = json.loads((finished / "results.json").read_text())["retrieval"]
    assert set(results) == {"bm25", "trained"}  # it started from no weights
    assert set(results["trained"]) == {"32", "16", "8"}
    assert 0 < results["trained"]["32"]["ndcg@10"] < 1
    assert ("scann_ndcg@10" in results["trained"]["32"]) == installed("scann")
    note = "without the figures of ScaNN: approximate search (on Linux only) needs scann: pip"
    assert (note in result.stdout) == (not installed("scann"))
    assert (finished / "report.html").stat().st_size > 10_000
    again = gemb("evaluate", f"--workdir={finished}")
    assert "results.json exists" in again.stdout
    found = gemb("search", f"--workdir={finished}", "--count=3", "round a number up")
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.strip().splitlines()) == 3
    scores = [float(line.split()[0]) for line in found.stdout.strip().splitlines()]
    assert scores == sorted(scores, reverse=True)
    narrow = gemb("search", f"--workdir={finished}", "--dim=7", "round")
    assert "no nested width 7; choose one of [32, 16, 8]" in narrow.stderr
    prompt = gemb("search", f"--workdir={finished}", "--dim=8", input="pad a list\n\n")
    assert prompt.returncode == 0
    assert "gemb/" in prompt.stdout


def test_vectors_do_not_depend_on_company(finished):
    from gemb import Embedder

    embedder = Embedder.load(finished / "model")
    texts = ["a", "a much longer text than the first one", ""]
    together = embedder.encode(texts)
    alone = np.stack([embedder.encode(text) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
