"""Nested losses: any loss over the leading coordinates of the embeddings (Matryoshka).

Wrappers around other losses that slice widths and layers. Heads that
classify at every width are in gemb.losses.classification.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import compose
from gemb.losses.contrastive.info_nce import info_nce
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import prepare

LAYERS = ("query_layers", "document_layers")


def matryoshka(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    widths: Sequence[int],
    loss: Callable = info_nce,
    width_weights: Sequence[float] | None = None,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The sum of a loss over nested widths.

    loss_i = sum_k c_k loss( normalise(q[:, :m_k]), normalise(d[:, :m_k]) )_i

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        widths: m_k, between 1 and dim, all different.
        loss: any in-batch loss (a partial or a gin reference will do).
        width_weights: c_k in the order of `widths`; all 1 if None.
        fields: passed on to `loss` as they are.

    Returns:
        [batch] nats; where `loss` has terms (`weighted_sum`), also each term's sum over widths.

    Raises:
        ValueError: if a width is out of range or repeated, or there is not one weight per width.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)  # at width 1 the second row is zero
        >>> matryoshka(rows, rows, jnp.arange(2), widths=(2, 1), width_weights=(1.0, 0.0)).round(4)
        Array([0., 0.], dtype=float32)

    Reference: Kusupati et al., Matryoshka Representation Learning, 2022, arXiv 2205.13147.
    """
    p = prepare(query, document, positive, NO_FIELDS)
    total = jnp.zeros(p.query.shape[0], p.query.dtype), {}
    for width, weight in weighted_widths(widths, width_weights, p.query.shape[1]):
        short = truncate(p.query, width), truncate(p.document, width)
        value, terms = compose.evaluate(loss, *short, positive, fields)
        sums = {name: total[1].get(name, 0) + weight * term for name, term in terms.items()}
        total = total[0] + weight * value, sums
    return total if total[1] else total[0]


def matryoshka_2d(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    widths: Sequence[int],
    loss: Callable = info_nce,
    width_weights: Sequence[float] | None = None,
    layer_weight: float = 1.0,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The Matryoshka loss at the last layer plus the same at an earlier one.

    loss_i = matryoshka(q, d)_i + layer_weight * E_layer[ matryoshka(q_layer, d_layer)_i ]

    Args:
        query: [batch, dim] floats, unit-length rows: the embeddings of the last layer.
        document: [candidates, dim] floats, likewise.
        positive: [batch] int32.
        widths: see `matryoshka`.
        loss: see `matryoshka`.
        width_weights: see `matryoshka`.
        layer_weight: the weight of the earlier layers.
        fields: needs query_layers and document_layers; key draws one layer (an unbiased estimate),
            and without it the mean of all is taken; see `Fields`. Passed on to `loss`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: if the layers are missing or do not match, and as `matryoshka`.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> earlier = Fields(query_layers=rows[None], document_layers=rows[None])
        >>> matryoshka_2d(rows, rows, jnp.arange(2), widths=(2,), fields=earlier).round(4)
        Array([0., 0.], dtype=float32)

    Reference: Li et al., 2D Matryoshka Sentence Embeddings, 2024, arXiv 2402.14776, without its
        alignment term (weigh `embedding_distance` in for one).
    """
    p = prepare(query, document, positive, fields, reads=("key",), needs=LAYERS)
    key, queries, documents = p.fields.key, p.fields.query_layers, p.fields.document_layers
    checks.check_shape("document_layers", documents, (len(queries), None, None))
    fields = Fields.of(fields)
    if key is not None:  # a loss that draws as well gets a key of its own
        fields = fields._replace(key=jax.random.fold_in(key, 1))
    nested = {"widths": widths, "loss": loss, "width_weights": width_weights, "fields": fields}
    last = matryoshka(query, document, positive, **nested)
    drawn = range(len(queries)) if key is None else [jax.random.randint(key, (), 0, len(queries))]
    early = [matryoshka(queries[k], documents[k], positive, **nested) for k in drawn]
    share = layer_weight / len(early)
    return jax.tree.map(lambda end, *rest: end + share * sum(rest), last, *early)


def weighted_widths(widths, width_weights, dim: int) -> list[tuple[int, float]]:
    """(width, weight) pairs, widest first.

    Raises:
        ValueError: if a width is out of range or repeated, or there is not one weight per width.
    """
    widths = tuple(widths)
    ordered = checks.check_widths("widths", widths, dim)
    if width_weights is not None and len(width_weights) != len(widths):
        raise checks.ArgumentError(
            f"width_weights: expected one for each of {len(widths)} widths, "
            f"got {len(width_weights)}"
        )
    weight = dict(zip(widths, width_weights or [1.0] * len(widths), strict=True))
    return [(width, weight[width]) for width in ordered]


def truncate(array: jax.Array, width: int) -> jax.Array:
    """The first `width` coordinates of unit-length rows, made unit-length again.

    A row whose leading coordinates are all zero stays zero, with zero gradient.
    """
    if width == array.shape[-1]:
        return array
    short = array[..., :width]
    square = jnp.sum(jnp.square(short), axis=-1, keepdims=True)
    return jnp.where(square > 0, short * jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)
