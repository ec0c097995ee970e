"""Contrastive losses with one softmax over several directions: GTE's, and GIST with a guide.

Here belong the public functions and what their options mean. One direction, or the average of two,
is gemb.losses.contrastive; masks live in gemb.losses.candidates, the softmax itself in
gemb.losses.softmax.
"""

import jax

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses import softmax
from gemb.losses.blockwise import softmax_loss

GTE_DIRECTIONS = (
    masks.QUERY_TO_DOCUMENT,
    masks.QUERY_TO_QUERY,
    masks.DOCUMENT_TO_QUERY,
    masks.DOCUMENT_TO_DOCUMENT,
)
GIST_DIRECTIONS = (masks.QUERY_TO_DOCUMENT, masks.QUERY_TO_QUERY, masks.POSITIVE_TO_POSITIVE)


def joint_info_nce(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    directions: tuple[str, ...] = GTE_DIRECTIONS,
    temperature: float = 0.05,
    margin: float = 0.0,
    hardness: float = 0.0,
    drop_margin: float | None = None,
    block: int | None = None,
    query_id: jax.Array | None = None,
    document_id: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    in_batch: jax.Array | None = None,
) -> jax.Array:
    """InfoNCE with one softmax over several directions (GTE's improved contrastive loss).

    loss_i = -log( e^{s(q_i,p_i)/t} / Z_i ),  Z_i = sum over the directions of
        query_to_document: sum_j e^{s(q_i,d_j)/t};  query_to_query: sum_{j != i} e^{s(q_i,q_j)/t};
        document_to_query: sum_j e^{s(p_i,q_j)/t};  document_to_document: sum_j e^{s(p_i,d_j)/t}
        over documents of other queries; positive_to_positive: the same over their positives only.

    The pair itself stands in both query_to_document and document_to_query, as in the paper.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        directions: names of directions; query_to_document comes first.
        temperature: t, divides the scores.
        margin: see `info_nce`, as are all further arguments.
        hardness: a of w = exp(a * stop_gradient(s)) on own hard negatives in query_to_document.
        drop_margin: leave out what scores above the positive by more than this, in any direction.
        block: rows worked on at a time; None is dense.
        query_id: [batch] integers.
        document_id: [candidates] integers; None masks nothing.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats.
        in_batch: [batch] bool.

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument with the wrong shape, dtype or value.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> loss = joint_info_nce(rows, rows, jnp.arange(2), temperature=1.0)
        >>> f"{loss[0]:.4f}"  # log(2e + 4) - 1
        '1.2446'

    Reference: Li et al., Towards General Text Embeddings with Multi-stage Contrastive Learning,
        2023, arXiv 2308.03281.
    """
    options = softmax.Options(margin=margin, hardness=hardness, drop_margin=drop_margin)
    fields = {
        "temperature": temperature,
        "query_id": query_id,
        "document_id": document_id,
        "query_mask": query_mask,
        "document_mask": document_mask,
        "weights": weights,
        "in_batch": in_batch,
    }
    return softmax_loss(query, document, positive, (_checked(directions),), options, block, fields)


def gist(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    guide_query: jax.Array | None = None,
    guide_document: jax.Array | None = None,
    guide_margin: float = 0.0,
    guide_relative: bool = False,
    directions: tuple[str, ...] = GIST_DIRECTIONS,
    temperature: float = 0.01,
    block: int | None = None,
    query_id: jax.Array | None = None,
    document_id: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    in_batch: jax.Array | None = None,
) -> jax.Array:
    """InfoNCE whose false negatives a guide model picks out.

    As `joint_info_nce`, without the candidates c of row i where
    guide(a_i, c) > guide(q_i, p_i) - guide_margin, a_i = q_i or p_i: where the direction starts.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        guide_query: [batch, guide dim] floats, the guide's unit-length vectors; required.
        guide_document: [candidates, guide dim] floats, likewise.
        guide_margin: how far below its positive a candidate must score to stay.
        guide_relative: multiply the margin with |guide(q_i, p_i)|.
        directions: as in `joint_info_nce`; ("query_to_document",) is a guided `info_nce`.
        temperature: t, divides the scores.
        block: rows worked on at a time; None is dense.
        query_id: [batch] integers, as in `info_nce`, as are all further arguments.
        document_id: [candidates] integers; None masks nothing by text.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats.
        in_batch: [batch] bool.

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument with the wrong shape, dtype or value.

    Example:
        >>> import jax.numpy as jnp
        >>> rows, same = jnp.eye(2), jnp.ones((2, 1))
        >>> only = ("query_to_document",)
        >>> gist(rows, rows, jnp.arange(2), guide_query=same, guide_document=same,
        ...      directions=only, guide_margin=0.1, temperature=1.0)
        Array([0., 0.], dtype=float32)

    Reference: Solatorio, GISTEmbed: Guided In-sample Selection of Training Negatives, 2024,
        arXiv 2402.16829.
    """
    if guide_query is None or guide_document is None:
        raise checks.ArgumentError(
            "guide_query, guide_document: expected the guide's vectors, got None; let the training "
            "step compute them, or use info_nce"
        )
    options = softmax.Options(guide_margin=guide_margin, guide_relative=guide_relative)
    fields = {
        "temperature": temperature,
        "guide_query": guide_query,
        "guide_document": guide_document,
        "query_id": query_id,
        "document_id": document_id,
        "query_mask": query_mask,
        "document_mask": document_mask,
        "weights": weights,
        "in_batch": in_batch,
    }
    return softmax_loss(query, document, positive, (_checked(directions),), options, block, fields)


def _checked(directions) -> tuple[str, ...]:
    directions = tuple(directions)
    unknown = [name for name in directions if name not in masks.DIRECTIONS]
    if unknown or directions[:1] != (masks.QUERY_TO_DOCUMENT,):
        raise checks.ArgumentError(
            f"directions: expected query_to_document and then any of {masks.DIRECTIONS[1:]}, "
            f"got {directions}"
        )
    return directions
