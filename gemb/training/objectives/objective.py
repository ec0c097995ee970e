"""The interface of objectives, and the functions with which they embed."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gemb.checks import check
from gemb.models.execution import Execution
from gemb.models.functional import Functional
from gemb.structs import Batch, Inputs
from gemb.training.watching import watch


class Outputs(NamedTuple):
    """The arrays that a loss reads.

    Attributes:
        query: [batch, dim] float32.
        document: [candidates, dim] float32.
        positive: [batch] int32.
        fields: name -> array, see `gemb.losses`.
    """

    query: jax.Array
    document: jax.Array
    positive: jax.Array
    fields: dict[str, Any]


class Encoding(NamedTuple):
    """The model's functions with their execution settings in training.

    Attributes:
        model: the model's functions.
        execution: execution settings.
        query_microbatches, document_microbatches: gradient-cached microbatches of each side.
    """

    model: Functional
    execution: Execution = Execution()
    query_microbatches: int = 1
    document_microbatches: int = 1

    def embed(self, params: dict, batch: Batch, key: jax.Array | None) -> list[jax.Array]:
        """The embeddings of both sides, gradient-cached: [batch, dim] and [candidates, dim]."""
        sides = (
            (self.model.query.embed, batch.query, self.query_microbatches),
            (self.model.document.embed, batch.document, self.document_microbatches),
        )
        return [
            embed(
                lambda part, key, apply=apply: apply(params, part, self.execution, key),
                inputs,
                microbatches=microbatches,
                key=side_key(key, number),
            )
            for number, (apply, inputs, microbatches) in enumerate(sides)
        ]

    def check_whole(self, why: str) -> None:
        """Refuses more than one microbatch.

        Raises:
            ValueError: with the setting and the reason.
        """
        for name in ("query_microbatches", "document_microbatches"):
            check(getattr(self, name) == 1, f"{name}: {why}")


class Objective:
    """Makes what the loss reads from a batch. Objectives override methods.

    Attributes:
        runs_encoder: whether the encoder runs; decides how a step's FLOPs are counted.
    """

    runs_encoder = True

    def trained(self, model, teacher) -> str | tuple[str, ...]:
        """The path prefix, or prefixes, of the trained parameters; "" trains all.

        Args:
            model: the run's `gemb.models.model.Model`.
            teacher: the run's teacher; None for none.

        Raises:
            UserError: if the model or the teacher does not fit the objective.
        """
        del model, teacher
        return ""

    def watch(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
        """Figures of a batch's embeddings to log with the loss: {name: scalar}."""
        return watch(outputs.query, outputs.document, batch)

    def outputs(
        self, encoding: Encoding, params: dict, batch: Batch, key: jax.Array | None
    ) -> Outputs:
        """Computes what the loss reads, inside the compiled step.

        Args:
            encoding: the model's functions.
            params: {path: array}.
            batch: the batch, with the fields that the data and the teacher added.
            key: PRNG key of dropout; None for none.
        """
        raise NotImplementedError


def embed(
    apply: Callable, inputs: Inputs, *, microbatches: int = 1, key: jax.Array | None = None
) -> jax.Array:
    """Embeds all rows, one microbatch at a time (gradient caching).

    The loss outside sees all embeddings. What the encoder would store for the backward pass is
    recomputed per microbatch, so memory is that of one microbatch for any batch size.
    Values and gradients equal those of a single pass.

    Args:
        apply: (Inputs, dropout key) -> [rows, dim].
        inputs: Inputs of `rows` rows.
        microbatches: how many; 1 embeds the batch in one pass and recomputes nothing.
        key: PRNG key of dropout, the same when a microbatch is recomputed; None for none.

    Returns:
        [rows, dim].

    Raises:
        ValueError: if microbatches does not divide the rows.

    Reference: Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
        (GradCache), 2021, arXiv 2101.06983; here by jax.checkpoint instead of a surrogate loss.
    """
    rows = jax.tree.leaves(inputs)[0].shape[0]
    check(rows % microbatches == 0, f"microbatches: {microbatches} does not divide {rows} rows")
    if microbatches == 1:
        return apply(inputs, key)

    def split(array):  # row i goes to microbatch i % microbatches: every device keeps its rows
        parts = array.reshape(rows // microbatches, microbatches, *array.shape[1:])
        return parts.swapaxes(0, 1)

    @jax.checkpoint
    def step(part):
        inputs, number = part
        return apply(inputs, None if key is None else jax.random.fold_in(key, number))

    parts = jax.lax.map(step, (jax.tree.map(split, inputs), jnp.arange(microbatches)))
    return parts.swapaxes(0, 1).reshape(rows, -1)


def side_key(key: jax.Array | None, number: int) -> jax.Array | None:
    """The dropout key of a side: 0 for queries, 1 for documents."""
    return None if key is None else jax.random.fold_in(key, number)


def batch_fields(batch: Batch) -> dict[str, Any]:
    """The ids and masks of a batch, and its further fields, by the names that losses use."""
    named = ("query_id", "document_id", "query_mask", "document_mask")
    fields = {name: getattr(batch, name) for name in named} | (batch.fields or {})
    if "temperature" in fields:  # a task's own, the same in every row
        fields["temperature"] = fields["temperature"][0]
    return fields
