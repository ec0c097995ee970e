"""Runs an experiment in its folder: locks, checks, trains, saves. It may be killed at any time."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

from gemb.parallel import hosts
from gemb.pretrained.publishing.card import write_card
from gemb.runs.interruption import sole_run
from gemb.runs.records import CONFIG_FILE, check_workdir, claim_workdir
from gemb.training import loop
from gemb.training.experiment import Experiment

MODEL_FOLDER = "model"


def train_run(
    make: Callable[[], Experiment],
    workdir: Path,
    *,
    config: str,
    save: Callable,
    force: bool = False,
    profile_steps: tuple[int, int] | None = None,
) -> Path:
    """Trains an experiment in a folder and saves its model there; a repeated call resumes.

    Args:
        make: makes the experiment after the folder is locked; it may load a large model.
        workdir: the run's folder.
        config: the text of config.gin; a folder with a different config is refused.
        save: (model, folder, training=summary) writes the model's folder.
        force: delete the folder's run and start again.
        profile_steps: (first, last) step to record for TensorBoard's profiler.

    Returns:
        The model's folder.

    Raises:
        UserError: if the folder belongs to another experiment or a live run; and as `loop.train`.
    """
    model = workdir / MODEL_FOLDER
    if force and hosts.on_first((workdir / CONFIG_FILE).exists):
        with sole_run(workdir):
            hosts.on_first(lambda: shutil.rmtree(workdir))
    hosts.on_first(lambda: check_workdir(workdir, config))
    if hosts.on_first(model.exists):
        if hosts.is_first():
            print(f"{model} exists: the run is finished; --force starts again")
        return model
    start = time.perf_counter()
    with sole_run(workdir):
        hosts.on_first(lambda: claim_workdir(workdir, config))
        trained, summary = loop.train(make(), workdir, profile_steps=profile_steps)
        if "resumed_from" not in summary:  # otherwise they would cover only its last part
            summary["seconds"] = round(time.perf_counter() - start, 1)
        if trained:
            save(trained, model, training=summary)
            write_card(model, config=config)
            print(f"trained {summary['steps']} steps: {model}")
    return model
