"""The interface of encoders."""

from typing import Protocol

import jax

from gemb.models.execution import Execution
from gemb.structs import Inputs


class Encoder(Protocol):
    """A Flax NNX module that encodes the Inputs of one modality; built by its EncoderSpec."""

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
            execution: execution settings.
            key: PRNG key of dropout; None for none.
            every_layer: return the output of each layer; an encoder without layers raises
                ValueError.

        Returns:
            [batch, positions, width], or [layers, batch, positions, width] for every_layer.
        """

    def pooled(self, inputs: Inputs) -> jax.Array:
        """[batch, positions] bool: the positions that the pooler sees."""
