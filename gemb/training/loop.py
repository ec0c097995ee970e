"""The training loop: dispatches step n, then reads the metrics of step n - 1."""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import optax
from tqdm import tqdm

from gemb.checks import check_widths
from gemb.models.execution import Execution
from gemb.models.pretrained.folder import Pretrained
from gemb.models.pretrained.pair import Pair, learned_temperature
from gemb.models.spec import with_widths
from gemb.parallel.mesh import make_mesh
from gemb.parallel.placement import place_batch
from gemb.structs import Batch
from gemb.training.bad_steps import BadSteps
from gemb.training.checkpoint import Checkpoints
from gemb.training.interruption import Stopped, stop_on_sigterm
from gemb.training.records import Records
from gemb.training.state import TrainState, abstract_state, initial_state, state_shardings
from gemb.training.step import make_step


def train(
    workdir: Path,
    *,
    model: Pretrained | Pair,
    data: Callable,
    loss: Callable,
    optimizer: Callable,
    steps: int,
    widths: tuple[int, ...] = (),
    mesh: Callable = make_mesh,
    seed: int = 0,
    checkpoint_steps: int = 50,
    keep_checkpoints: int = 2,
    query_microbatches: int = 1,
    document_microbatches: int = 1,
    execution: Execution = Execution(),
    skip_bad_steps: int = 0,
) -> tuple[Pretrained, dict]:
    """Trains, or goes on training, until `steps` are done.

    Args:
        workdir: the run's folder: checkpoints/, metrics.jsonl, tensorboard/.
        model: spec, starting parameters (None: random) and tokenizer; of one model or of a pair.
        data: (tokenizer_json, seed, shard) -> iterator of numpy Batch with get_state and set_state.
        loss: an in-batch loss, see gemb.losses.
        optimizer: (steps) -> optax transformation.
        steps: steps of the whole run.
        widths: nested widths to record in the trained model; default those of `model`.
        mesh: () -> mesh.
        seed: of random parameters, of the data's order and of dropout.
        checkpoint_steps: steps between checkpoints; one is always written at the end.
        keep_checkpoints: newest checkpoints kept.
        query_microbatches, document_microbatches: gradient-cached parts of each side of a batch.
        execution: how to compute the model: dtype, looped or unrolled layers, what is recomputed,
            attention, dropout.
        skip_bad_steps: steps in a row whose loss or gradient is not finite that are passed over,
            weights and moments as they were; one more stops the run.

    Returns:
        The model with trained parameters and `widths` in its spec, and a summary of the run.

    Raises:
        UserError: for a workdir, checkpoint, mesh or batch that does not fit, or a loss that is not
            finite: the batch is then in bad_batches/, by its step.
        Stopped: after SIGTERM, when the state is saved; the same call goes on.
    """
    widths = check_widths("widths", widths or model.widths, model.spec.dim)
    spec = with_widths(model.spec, widths)
    devices, transform = mesh(), optimizer(steps=steps)
    if skip_bad_steps:
        transform = optax.apply_if_finite(transform, skip_bad_steps)
    places = state_shardings(spec, transform, devices)
    shard = (jax.process_index(), jax.process_count())
    batches = data(model.tokenizer_json, seed, shard)
    step = make_step(
        spec,
        loss,
        transform,
        out_shardings=places,
        query_microbatches=query_microbatches,
        document_microbatches=document_microbatches,
        execution=execution,
        seed=seed,
    )
    with Checkpoints(workdir / "checkpoints", keep_checkpoints) as saved, jax.set_mesh(devices):
        if saved.latest is None:
            state = initial_state(spec, transform, devices, params=model.params, seed=seed)
        else:
            state, position = saved.restore(abstract_state(spec, transform, places))
            batches.set_state(position)
            print(f"resuming from step {int(state.step)} of {steps}")
        records = Records(workdir, int(state.step))
        try:
            bad = BadSteps(workdir, skip_bad_steps)
            state = _run(
                state, step, batches, devices, steps, checkpoint_steps, records, saved, bad
            )
        finally:
            records.close()
        saved.save(state, batches.get_state())
    trained = model.trained(spec, jax.device_get(state.params))
    summary = {
        "steps": steps,
        "seed": seed,
        "started_from": str(model.folder) if model.folder else None,
        **learned_temperature(state.params),
        "data": batches.description,
        "devices": f"{devices.size} x {devices.devices.flat[0].device_kind}",
    }
    return trained, summary


def _run(state, step, batches, devices, steps, checkpoint_steps, records, saved, bad) -> TrainState:
    """Steps until done; metrics are read one step late, so that the device never waits for them."""
    start, pending = int(state.step), None
    progress = tqdm(total=steps, initial=start, desc="train", unit="step", mininterval=1)
    with progress as bar, stop_on_sigterm() as stopped:
        meter = _Meter(bar, records, bad)
        for done in range(start + 1, steps + 1):
            batch = next(batches)
            state, metrics = step(state, place_batch(batch, devices))
            if pending:
                meter.read(*pending)
            pending = (done, batch, metrics)
            stop = stopped()
            if (stop or done % checkpoint_steps == 0) and done < steps:
                meter.read(*pending)
                pending = None
                saved.save(state, batches.get_state())
            if stop and done < steps:
                raise Stopped(
                    f"stopped by SIGTERM after step {done} of {steps}, all saved; the same command "
                    "goes on from there"
                )
        if pending:
            meter.read(*pending)
    return state


class _Meter:
    """Turns one step's device metrics into a row, a point and a moving bar."""

    def __init__(self, bar: tqdm, records: Records, bad: BadSteps):
        self._bar, self._records, self._bad = bar, records, bad
        self._clock = time.perf_counter()

    def read(self, step: int, batch: Batch, metrics: dict) -> None:
        row = {name: float(value) for name, value in jax.device_get(metrics).items()}
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        tokens = int(batch.query.mask.sum() + batch.document.mask.sum())
        row["pairs_per_second"] = len(batch.positive) / seconds * jax.process_count()
        row["tokens_per_second"] = tokens / seconds * jax.process_count()
        self._bad.look_at(step, batch, row)
        self._records.write(step, row)
        self._bar.set_postfix(
            loss=f"{row['loss']:.3f}",
            pairs_s=f"{row['pairs_per_second']:.1f}",
            tokens_s=f"{row['tokens_per_second']:.0f}",
            refresh=False,
        )
        self._bar.update(1)
