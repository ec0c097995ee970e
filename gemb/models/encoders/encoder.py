"""What every encoder is to the rest of a model."""

from typing import Protocol

import jax

from gemb.models.execution import Execution
from gemb.structs import Inputs


class Encoder(Protocol):
    """A Flax NNX module that makes vectors of one modality's Inputs; built by its EncoderSpec."""

    def __call__(
        self,
        inputs: Inputs,
        execution: Execution,
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
    ) -> jax.Array:
        """Encodes.

        Args:
            inputs: of `batch` rows.
            execution: how to compute it.
            key: PRNG key of dropout; None for none.
            every_layer: return what each layer gives; an encoder without layers raises ValueError.

        Returns:
            [batch, positions, width], or [layers, batch, positions, width] of every layer.
        """

    def pooled(self, inputs: Inputs) -> jax.Array:
        """[batch, positions] bool: the positions that the pooler sees."""
