"""The checkpoints of a run as models."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax

from gemb.checks import UserError, check_widths
from gemb.models.spec import with_widths
from gemb.parallel.mesh import make_mesh
from gemb.runs.interruption import sole_run
from gemb.training.checkpoints.averaging import averaged
from gemb.training.checkpoints.storage import Checkpoints
from gemb.training.optimizers import transformation
from gemb.training.state import abstract_state, state_shardings

FOLDER = "checkpoints"


def checkpoint_models(
    workdir: Path,
    chosen: Sequence[int] = (),
    *,
    model,
    optimizer: Callable,
    steps: int,
    widths: Sequence[int] = (),
    ema_decay: float = 0.0,
    skip_bad_steps: int = 0,
    quantize: Callable | None = None,
    **unused,
) -> Iterator[tuple]:
    """Reads the models of a run's checkpoints, one at a time.

    Args:
        workdir: the run; no process may be training in it.
        chosen: steps; default all that are kept.
        model, optimizer, steps, widths, ema_decay, skip_bad_steps, quantize: what the run was
            trained with, as `gemb.training.loop.train` takes them.

    Yields:
        (step, model), oldest first; of a run that averages weights, the average.

    Raises:
        UserError: no checkpoints, a step that is not kept, a checkpoint of another model, or a run
            that is going on.
    """
    del unused  # what says nothing about the state's shape
    if not (workdir / FOLDER).is_dir():
        raise UserError(f"{workdir}: holds no {FOLDER}/; is it the folder of a run?")
    spec = with_widths(model.spec, check_widths("widths", widths or model.widths, model.spec.dim))
    transform = transformation(
        optimizer, steps=steps, ema_decay=ema_decay, skip_bad_steps=skip_bad_steps
    )
    devices = make_mesh(1, 1, 1, devices=jax.local_devices()[:1])
    abstract = abstract_state(spec, transform, state_shardings(spec, transform, devices))
    # Opening the folder clears what a live run is just writing: the lock keeps them apart.
    with sole_run(workdir), Checkpoints(workdir / FOLDER) as saved:
        for step in _wanted(workdir, saved.steps, chosen):
            state, _ = saved.restore(abstract, step)
            params = averaged(state)
            params = jax.device_get(quantize(params) if quantize else params)
            yield step, model.trained(spec, params)


def _wanted(workdir: Path, kept: Sequence[int], chosen: Sequence[int]) -> list[int]:
    if not kept:
        raise UserError(f"{workdir / FOLDER}: holds no checkpoint")
    for step in chosen:
        if step not in kept:
            raise UserError(f"{workdir / FOLDER}: no checkpoint of step {step}; kept are {kept}")
    return sorted(chosen or kept)
