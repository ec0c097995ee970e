"""Regularisers: how embeddings spread over the sphere, whatever they are paired with.

Terms to add to a loss with `weighted_sum`; wrap them in `matryoshka` to apply them
at every width. Except for `alignment` they belong to the batch: each real row carries the value, so
that the mean over the rows is the regulariser. They look at queries and at their positives apart.
"""

import jax
import jax.numpy as jnp

from gemb.losses import inputs
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import prepare


def spread_out(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The mean squared cosine of different rows, of queries plus of positives.

    loss = mean_{i != j} (q_i . q_j)^2 + mean_{i != j} (p_i . p_j)^2

    Rows drawn evenly from the sphere give 1/dim for each term.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        fields: masks and weights, see `Fields`; a pair with a masked side leaves both terms.

    Returns:
        [batch], the same value in each real row.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.ones((2, 1))
        >>> spread_out(rows, rows, jnp.arange(2))
        Array([2., 2.], dtype=float32)

    Reference: Zhang et al., Learning Spread-out Local Feature Descriptors, 2017, arXiv 1708.06320;
        Schechter Vera et al., EmbeddingGemma, 2025, arXiv 2509.20354.
    """
    p, sides = _sides(query, document, positive, fields)
    return p.weighted(sum(_mean(jnp.square(inputs.dot(rows, rows)), p.real) for rows in sides))


def global_orthogonal(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    mean_weight: float = 1.0,
    second_moment_weight: float = 1.0,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """Pulls the first two moments of the cosines to those of the evenly filled sphere.

    loss = mean over columns x of a M1(x)^2 + b max(0, M2(x) - 1/dim)
    M_k = mean_{i != j} (x_i . x_j)^k

    Columns are the queries, the positives, and each rank of hard negatives.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [batch * (1 + negatives), dim] floats, unit-length rows.
        positive: [batch] int32.
        mean_weight: a.
        second_moment_weight: b.
        fields: masks and weights; see `Fields`.

    Returns:
        [batch], the same value in each real row.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.ones((2, 2)) * 0.5 ** 0.5
        >>> global_orthogonal(rows, rows, jnp.arange(2)).round(4)  # 1 + (1 - 1/2)
        Array([1.5, 1.5], dtype=float32)

    Reference: Zhang et al., Learning Spread-out Local Feature Descriptors, 2017, arXiv 1708.06320.
    """
    p, sides = _sides(query, document, positive, fields)
    columns = [(rows, p.real) for rows in sides]
    if len(document) > len(query):
        where, keep = p.own_negatives()
        columns += [
            (p.document[at], p.real & kept) for at, kept in zip(where.T, keep.T, strict=True)
        ]
    value = 0.0
    for rows, mask in columns:
        cosine = inputs.dot(rows, rows)
        excess = _mean(jnp.square(cosine), mask) - 1 / rows.shape[1]
        value += mean_weight * jnp.square(_mean(cosine, mask))
        value += second_moment_weight * jax.nn.relu(excess)
    return p.weighted(value / len(columns))


def uniformity(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    scale: float = 2.0,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The logarithm of the mean Gaussian potential, averaged over queries and positives.

    loss = 1/2 sum over x = q, p of  log mean_{i != j} e^{-scale |x_i - x_j|^2}

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        scale: multiplies the squared distances.
        fields: masks and weights; see `Fields`.

    Returns:
        [batch], the same value in each real row; 0 where fewer than two rows are real.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> uniformity(rows, rows, jnp.arange(2))  # -2 * 2
        Array([-4., -4.], dtype=float32)

    Reference: Wang and Isola, Understanding Contrastive Representation Learning through Alignment
        and Uniformity on the Hypersphere, 2020, arXiv 2005.10242.
    """
    p, sides = _sides(query, document, positive, fields)
    value = 0.0
    for rows in sides:
        square = jnp.sum(jnp.square(rows), axis=1)
        apart = square[:, None] + square[None, :] - 2 * inputs.dot(rows, rows)
        potential = _mean(jnp.exp(-scale * apart), p.real)
        value += jnp.where(potential > 0, jnp.log(jnp.where(potential > 0, potential, 1)), 0) / 2
    return p.weighted(value)


def alignment(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The squared distance of each pair: loss_i = |q_i - p_i|^2.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        fields: masks and weights; see `Fields`.

    Returns:
        [batch] squared distances.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> alignment(rows, rows[::-1], jnp.arange(2))
        Array([2., 2.], dtype=float32)

    Reference: Wang and Isola, 2020, arXiv 2005.10242.
    """
    p, sides = _sides(query, document, positive, fields)
    return p.weighted(jnp.sum(jnp.square(sides[0] - sides[1]), axis=1))


def _sides(query, document, positive, fields):
    """The arguments, and the two sides that are looked at apart: queries and positives."""
    p = prepare(query, document, positive, fields)
    return p, (p.query, p.document[p.positive])


def _mean(cells, mask) -> jax.Array:
    """The mean over cells off the diagonal whose row and column are real; 0 if there is none."""
    keep = mask[:, None] & mask[None, :] & ~jnp.eye(mask.shape[0], dtype=bool)
    return jnp.sum(jnp.where(keep, cells, 0)) / jnp.maximum(jnp.sum(keep), 1)
