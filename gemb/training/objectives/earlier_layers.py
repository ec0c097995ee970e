"""Embeds a batch at earlier layers too, for losses that train them (2-D Matryoshka)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gemb.checks import check
from gemb.structs import SIDES, Batch
from gemb.training.objectives.objective import Encoding, Objective, Outputs, batch_fields, side_key


class EarlierLayers(Objective):
    """See `earlier_layers`."""

    def __init__(self, layers: tuple[int, ...]):
        self._layers = layers

    def outputs(
        self, encoding: Encoding, params: dict, batch: Batch, key: jax.Array | None
    ) -> Outputs:
        """The embeddings of the last layer, and those of earlier ones as fields."""
        encoding.check_whole("the objective earlier_layers embeds whole batches; it must be 1")
        fields, made = batch_fields(batch), []
        for number, side in enumerate(SIDES):
            embed_layers, inputs = getattr(encoding.model, side).embed_layers, getattr(batch, side)
            every = embed_layers(params, inputs, None, encoding.execution, side_key(key, number))
            earlier = [layer - 1 for layer in self._chosen(len(every))]
            fields[f"{side}_layers"] = every[jnp.array(earlier)]
            made.append(every[-1])
        return Outputs(*made, batch.positive, fields)

    def _chosen(self, count: int) -> tuple[int, ...]:
        layers = self._layers or tuple(range(1, count))
        check(
            bool(layers) and all(1 <= layer < count for layer in layers),
            f"layers: expected layers from 1 to {count - 1} (before the last), got {layers}",
        )
        return layers


def earlier_layers(layers: Sequence[int] = ()) -> Objective:
    """Also embeds with earlier layers as the last one, for `losses.matryoshka_2d`.

    Args:
        layers: which layers, counted from 1; empty for all but the last.

    Reference: Li et al., 2D Matryoshka Sentence Embeddings, 2024, arXiv 2402.14776.
    """
    return EarlierLayers(tuple(layers))
