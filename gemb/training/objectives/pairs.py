"""The default objective: embeds the queries and the documents of a batch."""

import jax

from gemb.structs import Batch
from gemb.training.objectives.objective import Encoding, Objective, Outputs, batch_fields


class Pairs(Objective):
    """See `pairs`."""

    def outputs(
        self, encoding: Encoding, params: dict, batch: Batch, key: jax.Array | None
    ) -> Outputs:
        """The embeddings of both sides."""
        return Outputs(*encoding.embed(params, batch, key), batch.positive, batch_fields(batch))


def pairs() -> Objective:
    """Embeds both sides, gradient-cached in microbatches; the loss sees all embeddings at once."""
    return Pairs()
