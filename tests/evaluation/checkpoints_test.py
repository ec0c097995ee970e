"""Checkpoints measured over the steps: each model's own weights, the cache, the page, the verb."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from task_folders import house

from gemb.checks import UserError
from gemb.cli.__main__ import run
from gemb.evaluation import comparison
from gemb.evaluation.checkpoints import evaluate_checkpoints, report_checkpoints
from gemb.evaluation.suite import evaluate_model
from gemb.evaluation.tasks import read_tasks
from gemb.inference.embedder import Embedder
from gemb.models.model import two_towers
from gemb.models.scratch import from_scratch
from gemb.parallel.mesh import make_mesh
from gemb.processors.text import TextProcessor
from gemb.reports import write_checkpoints_page
from gemb.runs.interruption import sole_run
from gemb.training import optimizers, schedules
from gemb.training.checkpoints.averaging import with_ema
from gemb.training.checkpoints.models import checkpoint_models as read_models
from gemb.training.checkpoints.storage import Checkpoints
from gemb.training.experiment import Experiment
from gemb.training.state import initial_state

STEPS = (2, 4, 6)
OPTIMIZER = partial(optimizers.adamw, schedule=partial(schedules.warmup_linear, peak_rate=0.1))


def checkpoint_models(workdir, chosen=(), **settings):
    experiment = Experiment(**{"data": None, "loss": None} | settings)
    return ((step, Embedder(model)) for step, model in read_models(workdir, experiment, chosen))


def _processor():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz0123456789"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.enable_padding(pad_id=0, pad_token="[PAD]")
    return TextProcessor(made.to_str(), 64)


def _run(workdir, transform=lambda optimizer: optimizer):
    """A workdir with three checkpoints of random weights, and what it was trained with."""
    model = from_scratch(_processor(), layers=0, width=16)
    trained_with = {"model": model, "optimizer": OPTIMIZER, "steps": 6, "widths": (16, 8)}
    made, params = transform(OPTIMIZER(steps=6)), {}
    spec = model.spec.with_widths((16, 8))
    with Checkpoints(workdir / "checkpoints", keep=9) as saved:
        for step in STEPS:
            state = initial_state(spec, made, make_mesh(8, 1, 1), seed=step)
            params[step] = jax.device_get(state.params)
            saved.save(state._replace(step=state.step + step), {"batches": step})
    return trained_with, {step: Embedder(model.trained(spec, p)) for step, p in params.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "tried"
    return workdir, *_run(workdir)


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "_DRAWS", 100)
    monkeypatch.setattr(comparison, "_COSTLY_DRAWS", 100)
    found = read_tasks([house(tmp_path / "house")])
    return [task for task in found if task.name in ("beir", "en_test")]


def test_each_checkpoint_is_the_model_of_its_step(made):
    workdir, trained_with, expected = made
    texts = ["document 1", "query 0"]
    found = dict(checkpoint_models(workdir, loss=None, checkpoint_steps=2, **trained_with))
    assert list(found) == list(STEPS)
    for step, embedder in found.items():
        assert embedder.widths == (16, 8)
        assert embedder.fingerprint == expected[step].fingerprint
        np.testing.assert_allclose(embedder.encode(texts), expected[step].encode(texts), atol=1e-6)
    assert len({embedder.fingerprint for embedder in found.values()}) == 3
    assert list(dict(checkpoint_models(workdir, [6, 2], **trained_with))) == [2, 6]


def test_the_average_is_what_is_measured(tmp_path):
    trained_with, expected = _run(tmp_path, lambda optimizer: with_ema(optimizer, 0.9))
    settings = trained_with | {"ema_decay": 0.9}
    ((_, embedder),) = checkpoint_models(tmp_path, [4], **settings)
    assert embedder.fingerprint == expected[4].fingerprint  # an average starts at the weights
    with pytest.raises(UserError, match="the checkpoint is of another model"):
        list(checkpoint_models(tmp_path, [4], **trained_with))


def test_two_towers_take_a_tasks_prompts(made):
    """Each side's prompt goes to its own tower, as if it stood in front of the text."""

    from gemb.inference.encoded_once import with_prompts

    _, _, models = made
    towers = Embedder(two_towers(models[2].model, models[4].model))
    prompted = with_prompts(towers, {"query": "q", "document": "d"})
    for kind, letter, model in (("query", "q", models[2]), ("document", "d", models[4])):
        expected = model.encode([f"{letter}xyz"], kind=kind)
        np.testing.assert_allclose(prompted.encode(["xyz"], kind=kind), expected, atol=1e-6)
        assert not np.allclose(towers.encode(["xyz"], kind=kind), expected, atol=1e-3)
    assert prompted.fingerprint != towers.fingerprint
    assert with_prompts(towers, {"query": ""}) is towers


@pytest.mark.long
@pytest.mark.extra("eval")
def test_figures_over_the_steps_and_the_cache(made, tasks, tmp_path):
    workdir, trained_with, expected = made
    models = checkpoint_models(workdir, **trained_with)
    tree = evaluate_checkpoints(models, tasks, cache=tmp_path / "cache")
    assert tree["steps"] == list(STEPS)
    for step in STEPS:
        alone = evaluate_model(expected[step], tasks, cache=tmp_path / "other")
        for task in tasks:
            for width, measured in alone.tasks[task.name].items():
                found = tree["results"][task.name][str(step)][str(width)]
                assert found == pytest.approx(measured.figures, abs=1e-6)
    means = {step: tree["averages"][str(step)]["16"]["tasks"] for step in STEPS}
    assert tree["best"] == max(means, key=means.get)
    compared = {tuple(row["models"]) for row in tree["comparisons"]}
    assert ("2", "6") in compared
    assert compared <= {("2", "6"), ("6", str(tree["best"]))}
    (tmp_path / "<run>").mkdir()
    again = report_checkpoints(
        tmp_path / "<run>",
        checkpoint_models(workdir, **trained_with),
        tasks,
        cache=tmp_path / "cache",
    )
    assert {x for one in again["models"].values() for x in one["seconds"].values()} == {0.0}
    assert again["results"] == tree["results"]
    assert json.loads((tmp_path / "<run>" / "checkpoints.json").read_text()) == again
    title = "<title>gemb: checkpoints of &lt;run&gt;</title>"
    assert title in (tmp_path / "<run>" / "checkpoints.html").read_text()
    write_checkpoints_page(tmp_path / "page.html", "gemb: <run>", tree)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 1 + len(tasks)
    for text in ("width 8", "Figures during training", "best checkpoint", "gemb: &lt;run&gt;"):
        assert text in page


def test_what_cannot_be_measured_is_told(made, tmp_path):
    workdir, trained_with, _ = made
    with pytest.raises(UserError, match=r"no checkpoint of step 3; the kept steps are \[2, 4, 6\]"):
        list(checkpoint_models(workdir, [3], **trained_with))
    with pytest.raises(UserError, match="has no checkpoints"):
        list(checkpoint_models(tmp_path, **trained_with))
    other = trained_with | {"model": from_scratch(_processor(), layers=0, width=32)}
    with pytest.raises(UserError, match="the checkpoint is of another model"):
        list(checkpoint_models(workdir, **other))
    with sole_run(workdir), pytest.raises(UserError, match="is in use by a live run"):
        list(checkpoint_models(workdir, **trained_with))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--checkpoints=all",), "--checkpoints needs --workdir"),
        (
            ("--checkpoints=all", "--workdir={tmp}", "--model=m"),
            "cannot be combined with --model and --mteb",
        ),
        (("--checkpoints=all", "--workdir={tmp}"), "has no config.gin"),
        (("--checkpoints=late", "--workdir={tmp}"), "--checkpoints: expected whole numbers"),
    ],
)
def test_mistakes_at_the_terminal_end_in_one_line(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as left:
        run("evaluate", [argument.format(tmp=tmp_path) for argument in arguments])
    error = capsys.readouterr().err
    assert left.value.code == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_verb_measures_a_runs_checkpoints(tmp_path):
    """A run of twelve steps as the terminal starts it, then its checkpoints."""
    import subprocess
    import sys
    from pathlib import Path

    from gemb.datasets import python_code

    root = Path(__file__).parents[2]
    python_code.harvest(
        {"gemb": root / "gemb"}, tmp_path / "data", undocumented=True, progress=False
    )

    def gemb(*arguments):
        command = [sys.executable, "-m", "gemb.cli", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    trained = gemb(
        "train", "--gin_file=configs/experiments/quickstart.gin", "--gin_file=configs/debug.gin",
        f"--gin_param=pipeline.pairs.folder = '{tmp_path / 'data'}'",
        "--gin_param=pipeline.pairs.rates = {'train_stdlib': 1}", "--gin_param=STEPS = 12",
        "--gin_param=experiment.Experiment.checkpoint_steps = 4",
        "--gin_param=experiment.Experiment.keep_checkpoints = 9",
        f"--workdir={tmp_path / 'run'}",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    result = gemb("evaluate", f"--workdir={tmp_path / 'run'}", "--checkpoints=all")
    assert result.returncode == 0, result.stderr
    tree = json.loads((tmp_path / "run" / "checkpoints.json").read_text())
    assert tree["steps"] == [4, 8, 12]
    assert set(tree["averages"]["4"]) == {"32", "16", "8"}
    assert "best by mean of tasks: step" in result.stdout
    assert (tmp_path / "run" / "checkpoints.html").stat().st_size > 10_000
