"""Losses for pairs with a grade of similarity: CoSENT and regression of the cosine.

Losses of (query_i, its positive, its grade), without negatives.
"""

import jax
import jax.numpy as jnp

from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import prepare


def cosent(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    scale: float = 20.0,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """CoSENT: pairs with higher grades get higher cosines.

    loss = log( 1 + sum over (i, j) with grade_i > grade_j of e^{scale (s_j - s_i)} )

    The loss belongs to the batch; each real row carries it, so that their mean is the loss.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32, the index of the document that each query is paired with.
        scale: multiplies the cosines.
        fields: needs scores, the grades, in any unit; masks and weights; see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: if `scores` is missing, or naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.ones((2, 1))
        >>> grades = Fields(scores=jnp.asarray([0.0, 1.0]))
        >>> cosent(rows, rows, jnp.arange(2), fields=grades).round(4)  # log 2
        Array([0.6931, 0.6931], dtype=float32)

    Reference: Su, CoSENT, 2022, https://kexue.fm/archives/8847; Huang et al., CoSENT: Consistent
        Sentence Embedding via Similarity Ranking, IEEE/ACM TASLP 2024.
    """
    p, cosine, grades = _pairs(query, document, positive, fields)
    higher = (grades[:, None] > grades[None, :]) & p.real[:, None] & p.real[None, :]
    gap = jnp.where(higher, scale * (cosine[None, :] - cosine[:, None]), -jnp.inf)
    return p.weighted(jax.nn.logsumexp(jnp.append(gap.ravel(), jnp.zeros(1, gap.dtype))))


def cosine_regression(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """Squared error of the cosine as a forecast of the grade: loss_i = (s_i - grade_i)^2.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32, the index of the document that each query is paired with.
        fields: needs scores in [-1, 1]; masks and weights; see `Fields`.

    Returns:
        [batch] squared errors.

    Raises:
        ValueError: if `scores` is missing, or naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> grades = Fields(scores=jnp.asarray([1.0, 0.5]))
        >>> cosine_regression(rows, rows, jnp.arange(2), fields=grades)
        Array([0.  , 0.25], dtype=float32)

    Reference: Reimers and Gurevych, Sentence-BERT, 2019, arXiv 1908.10084.
    """
    p, cosine, grades = _pairs(query, document, positive, fields)
    return p.weighted(jnp.square(cosine - grades))


def _pairs(query, document, positive, fields):
    """The arguments, and the cosine and the grade of each pair."""
    p = prepare(query, document, positive, fields, needs=("scores",))
    cosine = jnp.sum(p.query * p.document[p.positive], axis=1)
    return p, cosine, p.fields.scores.astype(cosine.dtype)
