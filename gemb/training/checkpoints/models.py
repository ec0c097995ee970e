"""Reads the checkpoints of a run as models."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import jax

from gemb.checks import UserError
from gemb.models.model import Model
from gemb.parallel.mesh import make_mesh
from gemb.runs.interruption import sole_run
from gemb.training.checkpoints.averaging import averaged
from gemb.training.checkpoints.storage import Checkpoints
from gemb.training.experiment import Experiment
from gemb.training.state import abstract_state, state_shardings

FOLDER = "checkpoints"


def checkpoint_models(
    workdir: Path, experiment: Experiment, chosen: Sequence[int] = ()
) -> Iterator[tuple[int, Model]]:
    """Reads the models of a run's checkpoints, one at a time.

    Args:
        workdir: the run's folder; no process may be training in it.
        experiment: the experiment of the run.
        chosen: steps to read; default all that are kept.

    Yields:
        (step, model), oldest first; the averaged weights if the run averages them.

    Raises:
        UserError: if there are no checkpoints, a step is not kept, a checkpoint is of another
            model, or the run is still training.
    """
    if not (workdir / FOLDER).is_dir():
        raise UserError(f"{workdir}: has no {FOLDER}/; give the workdir of a run")
    spec, transform, quantize = experiment.spec, experiment.transform, experiment.quantize
    devices = make_mesh(1, 1, 1, devices=jax.local_devices()[:1])
    abstract = abstract_state(spec, transform, state_shardings(spec, transform, devices))
    # Opening the folder deletes unfinished checkpoints, so a live run must not be writing one.
    with sole_run(workdir), Checkpoints(workdir / FOLDER) as saved:
        for step in _wanted(workdir, saved.steps, chosen):
            state, _ = saved.restore(abstract, step)
            params = averaged(state)
            params = jax.device_get(quantize(params) if quantize else params)
            yield step, experiment.model.trained(spec, params)


def _wanted(workdir: Path, kept: Sequence[int], chosen: Sequence[int]) -> list[int]:
    if not kept:
        raise UserError(f"{workdir / FOLDER}: has no checkpoint")
    for step in chosen:
        if step not in kept:
            raise UserError(
                f"{workdir / FOLDER}: no checkpoint of step {step}; the kept steps are {kept}"
            )
    return sorted(chosen or kept)
