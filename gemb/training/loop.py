"""The training loop: dispatches step n, then reads the metrics of step n - 1."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable
from pathlib import Path

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from gemb.models.model import Model, learned_temperature
from gemb.parallel import hosts
from gemb.parallel.placement import data_shard, place_batch
from gemb.runs.interruption import Stopped, lost_process, stop_on_sigterm
from gemb.runs.records import Records
from gemb.training.bad_steps import BadSteps
from gemb.training.checkpoints.averaging import averaged
from gemb.training.checkpoints.storage import Checkpoints
from gemb.training.evaluators import Evaluators
from gemb.training.experiment import Experiment
from gemb.training.meter import Meter
from gemb.training.optimizers import bad_steps_in_a_row
from gemb.training.profile import profiled
from gemb.training.state import TrainState, abstract_state, initial_state, state_shardings
from gemb.training.step import by_shape


def train(
    experiment: Experiment, workdir: Path, *, profile_steps: tuple[int, int] | None = None
) -> tuple[Model | None, dict]:
    """Trains, or resumes training, until all steps are done.

    Every process of a run calls it with the same arguments.

    Args:
        experiment: what to train, and how.
        workdir: the run's folder, the same for all hosts: checkpoints/, metrics.jsonl,
            tensorboard/.
        profile_steps: (first, last) step to record for TensorBoard's profiler.

    Returns:
        The model with trained parameters and the experiment's widths (None in all processes but the
        first), and a summary of the run.

    Raises:
        UserError: for a workdir, checkpoint, mesh, batch or teacher that does not fit, or a loss
            that is not finite: the batch is then in bad_batches/, by its step.
        Stopped: after SIGTERM in any process, when the state is saved; the same call resumes.
        LostProcess: if another process of the run has ended; the same call in all of them resumes
            from the last checkpoint.
    """
    e, model, spec, devices = experiment, experiment.model, experiment.spec, experiment.mesh()
    places = state_shardings(spec, e.transform, devices)
    abstract = abstract_state(spec, e.transform, places)
    batches = e.batches(data_shard(devices))
    for warning in getattr(batches, "warnings", ()) if hosts.is_first() else ():
        print(f"warning: {warning}", file=sys.stderr)
    frozen = e.teacher.join(spec, e.loss, batches, devices, workdir) if e.teacher else None
    judged = Evaluators(e.evaluators or {}, e.evaluate_steps, e.keep_best, model, spec)
    checkpoints = Checkpoints(
        workdir / "checkpoints", e.keep_checkpoints, e.keep_every, int(bool(e.keep_best))
    )
    with lost_process(), checkpoints, jax.set_mesh(devices):
        if checkpoints.latest is None:
            state = initial_state(spec, e.transform, devices, params=model.params, seed=e.seed)
        else:
            state, position = checkpoints.restore(abstract)
            batches.set_state(position)
            if hosts.is_first():
                print(f"resuming from step {int(state.step)} of {e.steps}")
        bad = BadSteps(workdir, e.skip_bad_steps, bad_steps_in_a_row(state.optimizer))
        step = functools.partial(by_shape(e.step(places)), frozen=frozen)
        run = _Run(e, step, batches, devices, judged, checkpoints, bad)
        begun = int(state.step)
        with (
            _records(workdir, begun, e.trackers) as records,
            profiled(workdir, profile_steps) as at,
        ):
            state = run.go(state, records, at)
        checkpoints.wait()
        if e.keep_best:
            state, _ = checkpoints.restore(abstract, checkpoints.best)
        params = hosts.gather(averaged(state), wanted=hosts.is_first())
    if e.quantize and hosts.is_first():
        params = jax.device_get(e.quantize(params))
    trained = model.trained(spec, params) if hosts.is_first() else None
    summary = {
        "steps": e.steps,
        "seed": e.seed,
        "started_from": str(model.folder) if model.folder else None,
        **({"resumed_from": begun} if begun else {}),
        **learned_temperature(params if trained else {}),
        **({"best_step": int(state.step), "best_by": e.keep_best} if e.keep_best else {}),
        "data": batches.description,
        "devices": f"{devices.size} x {devices.devices.flat[0].device_kind}",
    }
    return trained, summary


@dataclasses.dataclass(frozen=True)
class _Run:
    """The parts of a run that do not change between steps."""

    experiment: Experiment
    step: Callable
    batches: object
    devices: Mesh
    evaluators: Evaluators
    checkpoints: Checkpoints
    bad: BadSteps

    def go(self, state: TrainState, records: Records | None, at_step: Callable) -> TrainState:
        """Runs all steps; metrics are read one step late, so the device never waits for them."""
        start, pending, agreement = int(state.step), None, hosts.Agreement(self.devices)
        steps, runs_encoder = self.experiment.steps, self.experiment.trained_by.runs_encoder
        progress = tqdm(
            total=steps, initial=start, desc="train", unit="step", mininterval=1,
            disable=not hosts.is_first(),
        )  # fmt: skip
        with progress as bar, stop_on_sigterm() as stopped:
            spec = self.experiment.spec if runs_encoder else None
            meter = Meter(bar, records, self.bad, spec, self.devices)
            for done in range(start + 1, steps + 1):
                at_step(done, state)
                batch = meter.wait_for(self.batches)
                state, metrics = self.step(state, place_batch(batch, self.devices))
                if pending:
                    meter.write(pending[0], meter.read(*pending))
                pending = (done, batch, metrics)
                stop, last = agreement.vote(stopped()), done == steps
                due, judge = self.evaluators.due(done, last), self.evaluators.judge
                if stop or last or due or done % self.experiment.checkpoint_steps == 0:
                    row, pending = meter.read(*pending), None
                    scores = judge(self._returned(averaged(state))) if due else {}
                    meter.write(done, row | scores)
                    best_by = scores.get(self.evaluators.best_by)
                    self.checkpoints.save(state, self.batches.get_state(), best_by)
                    meter.restart()
                if stop and not last:
                    self.checkpoints.wait()
                    raise Stopped(
                        f"stopped by SIGTERM after step {done} of {steps}; the state is saved. The "
                        "same command resumes from there"
                    )
        return state

    def _returned(self, params: dict) -> dict:
        """The parameters in the form that the run returns."""
        quantize = self.experiment.quantize
        return quantize(params) if quantize else params


@contextlib.contextmanager
def _records(workdir: Path, step: int, trackers: tuple):
    """The records of the process that writes; None in the others."""
    records, ok = Records(workdir, step, trackers) if hosts.is_first() else None, False
    try:
        yield records
        ok = True
    finally:
        if records:
            records.close(ok)
