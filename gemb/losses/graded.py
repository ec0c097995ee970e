"""Losses for pairs with a grade of similarity: CoSENT and regression of the cosine.

Here belong losses of (query_i, its positive, scores_i). Whatever has negatives does not.
"""

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import inputs


def cosent(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    scores: jax.Array | None = None,
    scale: float = 20.0,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """CoSENT: pairs with higher grades get higher cosines.

    loss = log( 1 + sum over (i, j) with scores_i > scores_j of e^{scale (s_j - s_i)} )

    The loss belongs to the batch; each real row carries it, so that their mean is the loss.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32, the index of the document that each query is paired with.
        scores: [batch] floats, the grades, in any unit; required.
        scale: multiplies the cosines.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats that multiply the rows' values.

    Returns:
        [batch] nats.

    Raises:
        ValueError: if `scores` is missing, or naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.ones((2, 1))
        >>> cosent(rows, rows, jnp.arange(2), scores=jnp.asarray([0.0, 1.0])).round(4)  # log 2
        Array([0.6931, 0.6931], dtype=float32)

    Reference: Su, CoSENT, 2022, https://kexue.fm/archives/8847; Huang et al., CoSENT: Consistent
        Sentence Embedding via Similarity Ranking, IEEE/ACM TASLP 2024.
    """
    cosine, scores, real = _pairs(query, document, positive, scores, query_mask, document_mask)
    higher = (scores[:, None] > scores[None, :]) & real[:, None] & real[None, :]
    gap = jnp.where(higher, scale * (cosine[None, :] - cosine[:, None]), -jnp.inf)
    value = jax.nn.logsumexp(jnp.append(gap.ravel(), jnp.zeros(1, gap.dtype)))
    return jnp.where(real, value * inputs.row_weights(real, weights, cosine.dtype), 0)


def cosine_regression(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    scores: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Squared error of the cosine as a forecast of the grade: loss_i = (s_i - scores_i)^2.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32, the index of the document that each query is paired with.
        scores: [batch] floats in [-1, 1]; required.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats.

    Returns:
        [batch] squared errors.

    Raises:
        ValueError: if `scores` is missing, or naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> cosine_regression(rows, rows, jnp.arange(2), scores=jnp.asarray([1.0, 0.5]))
        Array([0.  , 0.25], dtype=float32)

    Reference: Reimers and Gurevych, Sentence-BERT, 2019, arXiv 1908.10084.
    """
    cosine, scores, real = _pairs(query, document, positive, scores, query_mask, document_mask)
    value = jnp.square(cosine - scores)
    return jnp.where(real, value * inputs.row_weights(real, weights, cosine.dtype), 0)


def _pairs(query, document, positive, scores, query_mask, document_mask):
    if scores is None:
        raise checks.ArgumentError(
            "scores: expected a grade for each pair, got None; give [batch] floats"
        )
    fields = {"scores": scores, "query_mask": query_mask, "document_mask": document_mask}
    query, document = inputs.prepare(query, document, positive, **fields)
    cosine = jnp.sum(query * document[positive], axis=1)
    return (
        cosine,
        scores.astype(cosine.dtype),
        inputs.real_rows(positive, query_mask, document_mask),
    )
