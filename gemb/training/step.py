"""One step: gradient-cached embedding of the batch, loss over all of it, update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from gemb import losses
from gemb.checks import check
from gemb.models.embedder import ModelSpec
from gemb.models.functional import functional
from gemb.structs import Batch, Tokens
from gemb.training.state import TrainState

REMAT = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "none": jax.checkpoint_policies.everything_saveable,
}


def embed(apply: Callable, tokens: Tokens, *, microbatches: int = 1, remat: str = "full"):
    """Embeds all rows, a microbatch at a time (gradient caching).

    The loss outside sees every embedding; what the encoder would store for the backward pass is
    recomputed microbatch by microbatch, so memory is that of one microbatch whatever the batch.
    Values and gradients are those of one pass.

    Args:
        apply: (ids, mask) -> [rows, dim].
        tokens: Tokens of [batch, length].
        microbatches: how many; 1 embeds the batch in one pass and recomputes nothing.
        remat: what the backward pass recomputes: "full" (everything; least memory), "dots" (all but
            matrix products) or "none".

    Returns:
        [batch, dim].

    Raises:
        ValueError: if microbatches does not divide the rows.

    Reference: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
        (GradCache), 2021, arXiv 2101.06983; here by jax.checkpoint instead of a surrogate loss.
    """
    rows = tokens.ids.shape[0]
    check(rows % microbatches == 0, f"microbatches: {microbatches} does not divide {rows} rows")
    check(remat in REMAT, f"remat: expected one of {sorted(REMAT)}, got {remat!r}")
    if microbatches == 1:
        return apply(*tokens)

    def split(array):  # row i goes to microbatch i % microbatches: every device keeps its rows
        return array.reshape(rows // microbatches, microbatches, -1).swapaxes(0, 1)

    step = jax.checkpoint(lambda part: apply(*part), policy=REMAT[remat])
    parts = jax.lax.map(step, Tokens(split(tokens.ids), split(tokens.mask)))
    return parts.swapaxes(0, 1).reshape(rows, -1)


def batch_loss(
    spec: ModelSpec,
    loss: Callable,
    params: dict,
    batch: Batch,
    *,
    query_microbatches: int = 1,
    document_microbatches: int = 1,
    remat: str = "full",
    dtype=jnp.float32,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean loss over the real rows of a batch, and what to log beside it.

    Returns:
        (scalar, {"loss", "accuracy", each named term: scalars}); accuracy is the share of queries
        whose positive scores highest among the candidates.
    """
    apply = functional(spec).apply

    def encode(tokens, microbatches):
        return embed(
            lambda ids, mask: apply(params, ids, mask, dtype),
            tokens,
            microbatches=microbatches,
            remat=remat,
        )

    query = encode(batch.query, query_microbatches)
    document = encode(batch.document, document_microbatches)
    values, terms = losses.evaluate(loss, query, document, batch.positive, _loss_fields(batch))
    real = batch.query_mask.astype(jnp.float32)

    def mean(x):
        return (x * real).sum() / jnp.maximum(real.sum(), 1)

    best = jnp.argmax(
        jnp.where(batch.document_mask, jax.lax.stop_gradient(query @ document.T), -2.0), axis=1
    )
    total = mean(values)
    metrics = {name: mean(value) for name, value in terms.items()}
    return total, metrics | {"loss": total, "accuracy": mean(best == batch.positive)}


def _loss_fields(batch: Batch) -> dict:
    named = ("query_id", "document_id", "query_mask", "document_mask")
    return {name: getattr(batch, name) for name in named} | (batch.fields or {})


def make_step(
    spec: ModelSpec,
    loss: Callable,
    optimizer: optax.GradientTransformation,
    *,
    out_shardings=None,
    **options,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict]]:
    """The compiled training step; the old state's buffers are donated.

    Args:
        spec: the model.
        loss: an in-batch loss (see gemb.losses).
        optimizer: the optimizer.
        out_shardings: TrainState of shardings, from state_shardings.
        **options: of `batch_loss`: microbatches, remat, dtype.

    Returns:
        (state, batch) -> (state, {name: scalar}), with "gradient_norm" among the metrics.
    """

    def step(state: TrainState, batch: Batch):
        def objective(params):
            return batch_loss(spec, loss, params, batch, **options)

        (_, metrics), gradients = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, moments = optimizer.update(gradients, state.optimizer, state.params)
        metrics["gradient_norm"] = optax.global_norm(gradients)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, moments), metrics

    places = None if out_shardings is None else (out_shardings, None)
    return jax.jit(step, donate_argnums=0, out_shardings=places)
