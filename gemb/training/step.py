"""One step: gradient-cached embedding of the batch, loss over all of it, update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from gemb import losses
from gemb.checks import check
from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec, PairSpec
from gemb.parallel import hosts
from gemb.structs import Batch, Tokens
from gemb.training.state import TrainState
from gemb.training.watching import watch


def embed(
    apply: Callable, tokens: Tokens, *, microbatches: int = 1, key: jax.Array | None = None
) -> jax.Array:
    """Embeds all rows, a microbatch at a time (gradient caching).

    The loss outside sees every embedding; what the encoder would store for the backward pass is
    recomputed microbatch by microbatch, so memory is that of one microbatch whatever the batch.
    Values and gradients are those of one pass.

    Args:
        apply: (Tokens, dropout key) -> [rows, dim].
        tokens: Tokens of [batch, length].
        microbatches: how many; 1 embeds the batch in one pass and recomputes nothing.
        key: PRNG key of dropout, the same when a microbatch is recomputed; None for none.

    Returns:
        [batch, dim].

    Raises:
        ValueError: if microbatches does not divide the rows.

    Reference: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
        (GradCache), 2021, arXiv 2101.06983; here by jax.checkpoint instead of a surrogate loss.
    """
    rows = tokens.ids.shape[0]
    check(rows % microbatches == 0, f"microbatches: {microbatches} does not divide {rows} rows")
    if microbatches == 1:
        return apply(tokens, key)

    def split(array):  # row i goes to microbatch i % microbatches: every device keeps its rows
        parts = array.reshape(rows // microbatches, microbatches, *array.shape[1:])
        return parts.swapaxes(0, 1)

    @jax.checkpoint
    def step(part):
        tokens, number = part
        return apply(tokens, None if key is None else jax.random.fold_in(key, number))

    parts = jax.lax.map(step, (jax.tree.map(split, tokens), jnp.arange(microbatches)))
    return parts.swapaxes(0, 1).reshape(rows, -1)


def batch_loss(
    spec: ModelSpec | PairSpec,
    loss: Callable,
    params: dict,
    batch: Batch,
    *,
    key: jax.Array | None = None,
    loss_key: jax.Array | None = None,
    query_microbatches: int = 1,
    document_microbatches: int = 1,
    head_only: bool = False,
    execution: Execution = Execution(),
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean loss over the real rows of a batch, and what to log beside it.

    Args:
        spec: the model, or the pair of models.
        loss: an in-batch loss (see gemb.losses); a learned temperature is its `temperature`.
        params: {path: array}.
        batch: the pairs.
        key: PRNG key of dropout; None for none.
        loss_key: PRNG key of losses that draw, which get it as `key`.
        query_microbatches, document_microbatches: gradient-cached parts of each side.
        head_only: whether the head reads the teacher's vectors, and no encoder runs.
        execution: how to compute the model.

    Returns:
        (scalar, {"loss", each named term, what `watch` tells: scalars}).
    """
    model = functional(spec)
    fields = _loss_fields(batch) | {"key": loss_key}

    def encode(name, apply, tokens, microbatches, side):
        if head_only:
            check(microbatches == 1, f"{name}_microbatches: with head_only no encoder runs")
            return model.head(params, fields[f"teacher_{name}"], execution)
        dropout_key = None if key is None else jax.random.fold_in(key, side)
        if f"teacher_{name}_states" not in fields:
            return embed(
                lambda tokens, key: apply(params, tokens, execution, key),
                tokens,
                microbatches=microbatches,
                key=dropout_key,
            )
        check(microbatches == 1, f"{name}_microbatches: a teacher of layers sees whole batches")
        vectors, states = model.every_layer(params, tokens, execution, dropout_key)
        goal = fields.pop(f"teacher_{name}_states")
        fields[f"{name}_layerwise"] = losses.hidden_state_distance(states, goal, tokens.mask)
        return vectors

    query = encode("query", model.query, batch.query, query_microbatches, 0)
    document = encode("document", model.apply, batch.document, document_microbatches, 1)
    if model.temperature is not None:
        check(
            "temperature" not in fields,
            "temperature: the model learns one and the tasks bind theirs; bind only one of these",
        )
        fields["temperature"] = model.temperature(params)
    values, terms = losses.evaluate(loss, query, document, batch.positive, fields)
    real = batch.query_mask.astype(jnp.float32)

    def mean(x):
        return (x * real).sum() / jnp.maximum(real.sum(), 1)

    total = mean(values)
    metrics = {name: mean(value) for name, value in terms.items()}
    if model.temperature is not None:
        metrics["temperature"] = fields["temperature"]
    return total, metrics | {"loss": total} | watch(query, document, batch)


def _loss_fields(batch: Batch) -> dict:
    named = ("query_id", "document_id", "query_mask", "document_mask")
    fields = {name: getattr(batch, name) for name in named} | (batch.fields or {})
    if "temperature" in fields:  # a task's own, the same in every row
        fields["temperature"] = fields["temperature"][0]
    return fields


def make_step(
    spec: ModelSpec | PairSpec,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    *,
    out_shardings=None,
    execution: Execution = Execution(),
    seed: int = 0,
    teacher=None,
    quantize: Callable | None = None,
    **options,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict]]:
    """The compiled training step; the old state's buffers are donated.

    Args:
        spec: the model, or the pair of models.
        loss: an in-batch loss (see gemb.losses); a learned temperature is its `temperature`.
        optimizer: the optimizer.
        out_shardings: TrainState of shardings, from state_shardings.
        execution: how to compute the model.
        seed: of dropout and of losses that draw, anew at each step, the same after a resume.
        teacher: see gemb.training.distillation.teachers; its frozen parameters are the step's
            third argument.
        quantize: params -> params as the forward pass sees them.
        **options: of `batch_loss`: microbatches, head_only.

    Returns:
        (state, batch) -> (state, {name: scalar}), with "gradient_norm" and "parameter_norm" among
        the metrics.
    """

    def step(state: TrainState, batch: Batch, frozen=None):
        if teacher is not None:
            batch = batch._replace(fields=teacher.compute(frozen, batch))
        drawn = jax.random.fold_in(jax.random.key(seed), state.step)
        keys = {"key": drawn if execution.dropout else None}
        keys["loss_key"] = jax.random.fold_in(drawn, 2)  # the sides' are 0 and 1

        def objective(params):
            params = quantize(params) if quantize else params
            return batch_loss(spec, loss, params, batch, **keys, execution=execution, **options)

        (_, metrics), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics["gradient_norm"] = optax.tree.norm(gradients)
        metrics["parameter_norm"] = optax.tree.norm(params)
        return TrainState(state.step + 1, params, moments), metrics

    # Metrics lie whole on every device, as the step's number does, so that all hosts can read them.
    places = None if out_shardings is None else (out_shardings, out_shardings.step)
    return jax.jit(step, donate_argnums=0, out_shardings=places)


def by_shape(step: Callable) -> Callable:
    """The step, compiled once for each shape of batch, by all processes before one runs it.

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
