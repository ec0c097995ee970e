"""Contrastive losses with one softmax over several directions: GTE's, and GIST with a guide.

The public functions and their options. One direction, or the average of two,
is `info_nce`. Masks are in gemb.losses.candidates, the arithmetic in `softmax`.
"""

import jax

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses.contrastive import softmax
from gemb.losses.contrastive.forms import Form, softmax_loss
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import prepare

GTE_DIRECTIONS = (
    masks.QUERY_TO_DOCUMENT,
    masks.QUERY_TO_QUERY,
    masks.DOCUMENT_TO_QUERY,
    masks.DOCUMENT_TO_DOCUMENT,
)
GUIDE = ("guide_query", "guide_document")
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
    form: Form = "dense",
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """InfoNCE with one softmax over several directions (GTE's improved contrastive loss).

    loss_i = -log( e^{s(q_i,p_i)/t} / Z_i ),  Z_i = sum over the directions of
        query_to_document: sum_j e^{s(q_i,d_j)/t};  query_to_query: sum_{j != i} e^{s(q_i,q_j)/t};
        document_to_query: sum_j e^{s(p_i,q_j)/t};  document_to_document: sum_j e^{s(p_i,d_j)/t}
        over documents of other queries; positive_to_positive: the same over their positives only.

    The pair itself counts in both query_to_document and document_to_query, as in the paper.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        directions: names of directions; query_to_document comes first.
        temperature: t, divides the scores.
        margin: subtracted from the positive's score (additive margin).
        hardness: a of w = exp(a * stop_gradient(s)) on own hard negatives in query_to_document.
        drop_margin: leave out what scores above the positive by more than this, in any direction.
        form: how to compute it, see `info_nce`.
        fields: masks, weights, query_id, document_id, in_batch, known_positives, log_q and
            temperature; see `Fields`.

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
    p = prepare(query, document, positive, fields, reads=softmax.READS)
    return softmax_loss(p, (_checked(directions),), options, temperature, form)


def gist(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    guide_margin: float = 0.0,
    guide_relative: bool = False,
    directions: tuple[str, ...] = GIST_DIRECTIONS,
    temperature: float = 0.01,
    form: Form = "dense",
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """InfoNCE whose false negatives a guide model picks out.

    As `joint_info_nce`, without the candidates c of row i where
    guide(a_i, c) > guide(q_i, p_i) - guide_margin, where a_i is the side (q_i or p_i) that the
    direction starts from.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        guide_margin: how far below its positive a candidate must score to stay.
        guide_relative: multiply the margin with |guide(q_i, p_i)|.
        directions: as in `joint_info_nce`; ("query_to_document",) is a guided `info_nce`.
        temperature: t, divides the scores.
        form: how to compute it, see `info_nce`.
        fields: needs guide_query and guide_document; masks, weights, query_id, document_id,
            in_batch, known_positives, log_q and temperature; see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: if the guide's vectors are missing, or naming the argument with the wrong shape,
            dtype or value.

    Example:
        >>> import jax.numpy as jnp
        >>> rows, same = jnp.eye(2), jnp.ones((2, 1))
        >>> guide = Fields(guide_query=same, guide_document=same)
        >>> only = ("query_to_document",)
        >>> gist(rows, rows, jnp.arange(2), directions=only, guide_margin=0.1, fields=guide)
        Array([0., 0.], dtype=float32)

    Reference: Solatorio, GISTEmbed: Guided In-sample Selection of Training Negatives, 2024,
        arXiv 2402.16829.
    """
    options = softmax.Options(guide_margin=guide_margin, guide_relative=guide_relative)
    p = prepare(query, document, positive, fields, reads=softmax.READS, needs=GUIDE)
    return softmax_loss(p, (_checked(directions),), options, temperature, form)


def _checked(directions) -> tuple[str, ...]:
    directions = tuple(directions)
    unknown = [name for name in directions if name not in masks.DIRECTIONS]
    if unknown or directions[:1] != (masks.QUERY_TO_DOCUMENT,):
        raise checks.ArgumentError(
            f"directions: expected query_to_document and then any of {masks.DIRECTIONS[1:]}, "
            f"got {directions}"
        )
    return directions
