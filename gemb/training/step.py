"""One training step: embeddings by the objective, the loss over the whole batch, the update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from gemb import losses
from gemb.checks import check
from gemb.parallel import hosts
from gemb.parallel.mesh import make_mesh
from gemb.structs import Batch
from gemb.training.objectives.objective import Encoding, Objective
from gemb.training.objectives.pairs import Pairs
from gemb.training.row_optimizers import WithRows
from gemb.training.state import TrainState

PAIRS = Pairs()


def batch_loss(
    encoding: Encoding,
    loss: Callable,
    params: dict,
    batch: Batch,
    *,
    objective: Objective = PAIRS,
    key: jax.Array | None = None,
    loss_key: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean loss over the real rows of a batch, and the metrics to log.

    Args:
        encoding: the model's functions.
        loss: an in-batch loss (see gemb.losses); a learned temperature and bias are its fields.
        params: {path: array}.
        batch: the pairs.
        objective: makes embeddings and fields from the batch.
        key: PRNG key of dropout; None for none.
        loss_key: PRNG key for losses that draw random numbers; passed as `key`.

    Returns:
        (scalar, {"loss", each named term, the figures of the objective's `watch`: scalars}).
    """
    outputs = objective.outputs(encoding, params, batch, key)
    query, document, positive, fields = outputs
    fields = fields | {"key": loss_key}
    temperature = encoding.model.temperature
    if temperature is not None:
        check(
            "temperature" not in fields,
            "temperature: bind it in the model (learned) or in the tasks, not in both",
        )
        fields["temperature"] = temperature(params)
    if encoding.model.bias is not None:
        fields["bias"] = encoding.model.bias(params)
    values, terms = losses.evaluate(loss, query, document, positive, fields)
    real = batch.query_mask.astype(jnp.float32)

    def mean(x):
        return (x * real).sum() / jnp.maximum(real.sum(), 1)

    total = mean(values)
    metrics = {name: mean(value) for name, value in terms.items()}
    learned = {"temperature": temperature, "bias": encoding.model.bias}
    metrics |= {name: fields[name] for name, value in learned.items() if value is not None}
    return total, metrics | {"loss": total} | objective.watch(outputs, batch)


def make_step(
    encoding: Encoding,
    loss: Callable,
    optimizer: optax.GradientTransformation | WithRows,
    *,
    objective: Objective = PAIRS,
    teacher=None,
    quantize: Callable | None = None,
    seed: int = 0,
    out_shardings: TrainState | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict]]:
    """The compiled training step; the old state's buffers are donated.

    Args:
        encoding: the model's functions.
        loss: an in-batch loss (see gemb.losses).
        optimizer: the optimizer; a `WithRows` trains tables by rows.
        objective: makes embeddings and fields from a batch.
        teacher: see gemb.training.distillation.teachers; its parameters are the step's third
            argument.
        quantize: params -> params for the forward pass.
        seed: seed of dropout and of random losses: new draws in each step, the same after a resume.
        out_shardings: TrainState of shardings, from state_shardings.

    Returns:
        (state, batch, the teacher's parameters or None) -> (state, {name: scalar}), with
        "gradient_norm" and "parameter_norm" (without tables by rows) among the metrics.
    """
    by_rows = optimizer if isinstance(optimizer, WithRows) else None
    mesh = make_mesh() if out_shardings is None else out_shardings.step.mesh

    def step(state: TrainState, batch: Batch, frozen=None):
        if teacher is not None:
            batch = batch._replace(fields=teacher.compute(frozen, batch))
        drawn = jax.random.fold_in(jax.random.key(seed), state.step)
        keys = {"key": drawn if encoding.execution.dropout else None}
        keys["loss_key"] = jax.random.fold_in(drawn, 2)  # 0 and 1 are the keys of the sides
        params, taken = state.params, {}
        if by_rows:
            params, batch, taken = by_rows.taken(params, batch, mesh)

        def value(params):
            params = quantize(params) if quantize else params
            return batch_loss(encoding, loss, params, batch, objective=objective, **keys)

        (_, metrics), gradients = jax.value_and_grad(value, has_aux=True)(params)
        if by_rows:
            params, moments = by_rows.updated(state.params, state.optimizer, gradients, taken, mesh)
        else:
            updates, moments = optimizer.update(gradients, state.optimizer, state.params)
            params = optax.apply_updates(state.params, updates)
        if encoding.model.limited is not None:
            params = encoding.model.limited(params)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        dense = {path: value for path, value in params.items() if path not in taken}
        metrics["parameter_norm"] = optax.tree.norm(dense)
        return TrainState(state.step + 1, params, moments), metrics

    # Metrics and the step number are replicated, so that all hosts can read them.
    places = None if out_shardings is None else (out_shardings, out_shardings.step)
    return jax.jit(step, donate_argnums=0, out_shardings=places)


def by_shape(step: Callable) -> Callable:
    """The step, compiled once per batch shape, by all processes before any of them runs it.

    Args:
        step: from `make_step`.

    Returns:
        A function with the same arguments.
    """
    programs = {}

    def run(state: TrainState, batch: Batch, frozen=None):
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(batch))
        if shapes not in programs:
            programs[shapes] = step.lower(state, batch, frozen).compile()
            hosts.meet()
        return programs[shapes](state, batch, frozen)

    return run
