"""Figures about the embeddings of a batch that a step reports with its loss."""

import jax
import jax.numpy as jnp

from gemb.losses import Fields, inputs, regularizers
from gemb.structs import Batch

ROWS = 512  # at most this many queries are compared, to avoid the logits of a large batch


def watch(query: jax.Array, document: jax.Array, batch: Batch) -> dict[str, jax.Array]:
    """Figures about a batch's embeddings; large batches use every n-th query.

    Args:
        query: [batch, dim], unit-length rows.
        document: [candidates, dim], likewise.
        batch: the batch of these embeddings.

    Returns:
        Scalars: "accuracy", the share of queries whose positive (or a duplicate of it) scores
        highest among all candidates; "alignment", "uniformity" and "spread", see
        gemb.losses.regularizers.
    """
    every = -(-query.shape[0] // ROWS)
    query, document = jax.lax.stop_gradient((query[::every], document))
    positive, real = batch.positive[::every], batch.query_mask[::every]
    scores = jnp.where(batch.document_mask, inputs.dot(query, document), -jnp.inf)
    total = jnp.maximum(real.sum(), 1)
    texts = jnp.asarray(batch.document_id)
    best = texts[jnp.argmax(scores, axis=1)]
    found = {"accuracy": (real & (best == texts[positive])).sum() / total}
    pairs = Fields(query_mask=real, document_mask=batch.document_mask[positive])
    arguments = (query, document[positive], jnp.arange(len(query)))
    for name, figure in _FIGURES.items():
        found[name] = figure(*arguments, fields=pairs).sum() / total
    return found


_FIGURES = {
    "alignment": regularizers.alignment,
    "uniformity": regularizers.uniformity,
    "spread": regularizers.spread_out,
}
