"""The training loop: dispatches step n, then reads the metrics of step n - 1."""

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from gemb.checks import UserError, check, check_widths
from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec, PairSpec, with_widths
from gemb.parallel import hosts
from gemb.parallel.mesh import make_mesh
from gemb.parallel.placement import data_shard, place_batch
from gemb.pretrained.folder import Pretrained
from gemb.pretrained.pair import Pair, learned_temperature
from gemb.runs.interruption import Stopped, lost_process, stop_on_sigterm
from gemb.runs.records import Records
from gemb.training.bad_steps import BadSteps
from gemb.training.checkpoints.averaging import averaged
from gemb.training.checkpoints.storage import Checkpoints
from gemb.training.evaluators import Evaluators
from gemb.training.head import head_of
from gemb.training.meter import Meter
from gemb.training.optimizers import bad_steps_in_a_row, transformation
from gemb.training.profile import profiled
from gemb.training.state import TrainState, abstract_state, initial_state, state_shardings
from gemb.training.step import by_shape, make_step


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
    keep_every: int = 0,
    keep_best: str = "",
    evaluators: Mapping[str, Callable] | None = None,
    evaluate_steps: int = 0,
    ema_decay: float = 0.0,
    query_microbatches: int = 1,
    document_microbatches: int = 1,
    execution: Execution = Execution(),
    skip_bad_steps: int = 0,
    profile_steps: tuple[int, int] | None = None,
    teacher=None,
    head_only: bool = False,
    quantize: Callable | None = None,
) -> tuple[Pretrained | Pair | None, dict]:
    """Trains, or goes on training, until `steps` are done.

    Every process of a run calls it alike.

    Args:
        workdir: the run's folder, the same one for all hosts: checkpoints/, metrics.jsonl,
            tensorboard/.
        model: spec, starting parameters (None: random) and tokenizer; of one model or of a pair.
        data: (tokenizer_json, seed, shard, prompts) -> iterator of numpy Batch with get_state and
            set_state.
        loss: an in-batch loss, see gemb.losses.
        optimizer: (steps) -> optax transformation.
        steps: steps of the whole run.
        widths: nested widths to record in the trained model; default those of `model`.
        mesh: () -> mesh.
        seed: of random parameters, of the data's order and of dropout.
        checkpoint_steps: steps between checkpoints; one is always written at the end.
        keep_checkpoints: newest checkpoints kept.
        keep_every: checkpoints of steps that this divides are kept as well; 0 for none.
        keep_best: a score of the evaluators, such as "sts/spearman": the checkpoint with its
            highest value is kept as well, and is the model that is returned.
        evaluators: name -> (model) -> {score: number}, see gemb.evaluation.in_training.
        evaluate_steps: steps between evaluations; there is one at the end too. 0: only that.
        ema_decay: where above 0, an average of the weights with this decay is what is evaluated
            and returned.
        query_microbatches, document_microbatches: gradient-cached parts of each side of a batch.
        execution: how to compute the model: dtype, looped or unrolled layers, what is recomputed,
            attention, dropout.
        skip_bad_steps: steps in a row whose loss or gradient is not finite that are passed over,
            weights and moments as they were; one more stops the run.
        profile_steps: (first, last) step to record for TensorBoard's profiler.
        teacher: adds fields to the batches, see gemb.training.distillation.teachers; None for none.
        head_only: trains the last linear layer alone, which reads the teacher's vectors in place of
            its encoder's; the teacher must be that encoder. No encoder runs, so that thousands of
            texts go into a step. For a model of `gemb.training.distillation.students.reduced`.
        quantize: params -> params as the forward pass sees them and as the model is returned, such
            as gemb.training.quantisation.int8_weights; None for the weights as they are.

    Returns:
        The model with trained parameters and `widths` in its spec, None in all processes but the
        first; and a summary of the run.

    Raises:
        UserError: for a workdir, checkpoint, mesh, batch or teacher that does not fit, or a loss
            that is not finite: the batch is then in bad_batches/, by its step.
        Stopped: after SIGTERM in any process, when the state is saved; the same call goes on.
        LostProcess: when another process of the run is gone; the same call in all of them goes on
            from the last checkpoint.
    """
    widths = check_widths("widths", widths or model.widths, model.spec.dim)
    for name, value in {
        "checkpoint_steps": checkpoint_steps,
        "keep_checkpoints": keep_checkpoints,
        "query_microbatches": query_microbatches,
        "document_microbatches": document_microbatches,
    }.items():
        check(value >= 1, f"{name}: expected 1 or more, got {value}")
    spec = with_widths(model.spec, widths)
    devices = mesh()
    transform = transformation(
        optimizer,
        steps=steps,
        ema_decay=ema_decay,
        skip_bad_steps=skip_bad_steps,
        trained=head_of(model, teacher) if head_only else "",
    )
    places = state_shardings(spec, transform, devices)
    abstract = abstract_state(spec, transform, places)
    if quantize and any(path.endswith("/lora_a") for path in functional(spec).shapes):
        raise UserError("quantize: LoRA is merged after training, which leaves the trained grid")
    batches = data(model.tokenizer_json, seed, data_shard(devices), model.prompts)
    _warn_of_prompts(spec, getattr(batches, "prompts", {}))
    frozen = teacher.join(spec, loss, batches, devices, workdir) if teacher else None
    step = make_step(
        spec,
        loss,
        transform,
        out_shardings=places,
        query_microbatches=query_microbatches,
        document_microbatches=document_microbatches,
        head_only=head_only,
        execution=execution,
        seed=seed,
        teacher=teacher,
        quantize=quantize,
    )
    judged = Evaluators(evaluators or {}, evaluate_steps, keep_best, model, spec)
    checkpoints = Checkpoints(
        workdir / "checkpoints", keep_checkpoints, keep_every, int(bool(keep_best))
    )
    with lost_process(), checkpoints, jax.set_mesh(devices):
        if checkpoints.latest is None:
            state = initial_state(spec, transform, devices, params=model.params, seed=seed)
        else:
            state, position = checkpoints.restore(abstract)
            batches.set_state(position)
            if hosts.is_first():
                print(f"resuming from step {int(state.step)} of {steps}")
        bad = BadSteps(workdir, skip_bad_steps, bad_steps_in_a_row(state.optimizer))
        step = functools.partial(by_shape(step), frozen=frozen)
        run = _Run(
            step, batches, None if head_only else spec, devices, steps, checkpoint_steps, judged,
            checkpoints, bad, quantize or (lambda params: params),
        )  # fmt: skip
        begun = int(state.step)
        with _records(workdir, begun) as records, profiled(workdir, profile_steps) as at:
            state = run.go(state, records, at)
        checkpoints.wait()
        if keep_best:
            state, _ = checkpoints.restore(abstract, checkpoints.best)
        params = hosts.gather(averaged(state), wanted=hosts.is_first())
    if quantize and hosts.is_first():
        params = jax.device_get(quantize(params))
    trained = model.trained(spec, params) if hosts.is_first() else None
    summary = {
        "steps": steps,
        "seed": seed,
        "started_from": str(model.folder) if model.folder else None,
        **({"resumed_from": begun} if begun else {}),
        **learned_temperature(params if trained else {}),
        **({"best_step": int(state.step), "best_by": keep_best} if keep_best else {}),
        "data": batches.description,
        "devices": f"{devices.size} x {devices.devices.flat[0].device_kind}",
    }
    return trained, summary


@dataclasses.dataclass(frozen=True)
class _Run:
    """What stays the same from step to step."""

    step: Callable
    batches: object
    spec: ModelSpec | PairSpec | None
    devices: Mesh
    steps: int
    checkpoint_steps: int
    evaluators: Evaluators
    checkpoints: Checkpoints
    bad: BadSteps
    as_returned: Callable

    def go(self, state: TrainState, records: Records | None, at_step: Callable) -> TrainState:
        """Steps until done; metrics are read one late, so that the device never waits for them."""
        start, pending, agreement = int(state.step), None, hosts.Agreement(self.devices)
        progress = tqdm(
            total=self.steps, initial=start, desc="train", unit="step", mininterval=1,
            disable=not hosts.is_first(),
        )  # fmt: skip
        with progress as bar, stop_on_sigterm() as stopped:
            meter = Meter(bar, records, self.bad, self.spec, self.devices)
            for done in range(start + 1, self.steps + 1):
                at_step(done, state)
                batch = meter.wait_for(self.batches)
                state, metrics = self.step(state, place_batch(batch, self.devices))
                if pending:
                    meter.write(pending[0], meter.read(*pending))
                pending = (done, batch, metrics)
                stop, last = agreement.vote(stopped()), done == self.steps
                due, judge = self.evaluators.due(done, last), self.evaluators.judge
                if stop or last or due or done % self.checkpoint_steps == 0:
                    row, pending = meter.read(*pending), None
                    scores = judge(self.as_returned(averaged(state))) if due else {}
                    meter.write(done, row | scores)
                    best_by = scores.get(self.evaluators.best_by)
                    self.checkpoints.save(state, self.batches.get_state(), best_by)
                    meter.restart()
                if stop and not last:
                    self.checkpoints.wait()
                    raise Stopped(
                        f"stopped by SIGTERM after step {done} of {self.steps}, all saved; the "
                        "same command goes on from there"
                    )
        return state


def _warn_of_prompts(spec: ModelSpec | PairSpec, trained: Mapping[str, set[str]]) -> None:
    """Tells the user where the model will embed texts otherwise than it was trained on them."""
    for side, prompts in trained.items():
        own = getattr(spec, side, spec).prompt(side)
        if own not in prompts and hosts.is_first():
            print(
                f"warning: the model embeds each {side} behind {own!r}, training reads it behind "
                f"{' or '.join(map(repr, sorted(prompts)))}: a {side} prompt of the data goes "
                f"before the model's; unbind it, or make adapt.load.{side}_prompt the same",
                file=sys.stderr,
            )


@contextlib.contextmanager
def _records(workdir: Path, step: int):
    """Of the process that writes; None in the others."""
    records = Records(workdir, step) if hosts.is_first() else None
    try:
        yield records
    finally:
        if records:
            records.close()
