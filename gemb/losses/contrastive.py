"""Contrastive losses with a softmax: InfoNCE in one direction, both, or jointly, and GIST.

Here belong the public functions and what their options mean; masks live in gemb.losses.candidates,
the softmax in gemb.losses.softmax. Losses for graded pairs, triplets and sigmoids do not.

All take unit-length rows, and give the loss of each query in nats, float32 (float64 for float64
inputs). A row whose query or positive is masked gives exactly 0 and sends no gradient.
"""

from collections.abc import Sequence

import jax

from gemb.losses import candidates as masks
from gemb.losses import softmax
from gemb.losses.blockwise import blockwise
from gemb.losses.ring import ring

ONE_WAY = ((masks.QUERY_TO_DOCUMENT,),)
BOTH_WAYS = (*ONE_WAY, (masks.DOCUMENT_TO_QUERY,))
GTE_DIRECTIONS = (
    masks.QUERY_TO_DOCUMENT,
    masks.QUERY_TO_QUERY,
    masks.DOCUMENT_TO_QUERY,
    masks.DOCUMENT_TO_DOCUMENT,
)
GIST_DIRECTIONS = (masks.QUERY_TO_DOCUMENT, masks.QUERY_TO_QUERY, masks.POSITIVE_TO_POSITIVE)
NO_GUIDE = {"guide_query": None, "guide_document": None}


def info_nce(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    temperature: float = 0.05,
    symmetric: bool = False,
    margin: float = 0.0,
    label_smoothing: float = 0.0,
    hardness: float = 0.0,
    drop_margin: float | None = None,
    share_negatives: bool = True,
    block: int | None = None,
    query_id: jax.Array | None = None,
    document_id: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    in_batch: jax.Array | None = None,
) -> jax.Array:
    """InfoNCE: the cross-entropy of finding each query's positive among the candidates.

    loss_i = -log( e^{s_ip/t} / sum_j M_ij w_ij e^{s_ij/t} ),  s = query . document, p = positive_i

    M_ij = 0 for masked documents and, where `document_id` is given, for documents whose text is
    some positive of a query with i's text, other than p itself.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32, the index of each query's positive among the candidates.
        temperature: t, divides the scores; a float or a traced scalar (it receives a gradient).
        symmetric: average in the other direction, each positive against all queries; hard
            negatives take no part as its rows.
        margin: subtracted from the positive's score (additive margin).
        label_smoothing: the fraction of the target spread evenly over all that competes.
        hardness: a in w = exp(a * stop_gradient(s)) on the query's own hard negatives.
        drop_margin: leave out negatives with s > s_ip + drop_margin; None leaves all in.
        share_negatives: whether hard negatives of other queries compete; if not, only their
            positives do. Negatives belong to queries in order: see `candidates.owners`.
        block: rows worked on at a time, without the [batch, candidates] matrix and with the same
            value and gradient (gemb.losses.blockwise); None is dense.
        query_id: [batch] integers, equal for equal texts.
        document_id: [candidates] integers, equal for equal texts; None masks nothing.
        query_mask: [batch] bool, True where a query is real.
        document_mask: [candidates] bool, True where a document is real.
        weights: [batch] floats that multiply the losses; no gradient flows to them.
        in_batch: [batch] bool, False for queries that compete with their own hard negatives alone
            (classification-style tasks).

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument with the wrong shape, dtype or value.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(4)
        >>> loss = info_nce(rows, rows, jnp.arange(4), temperature=1.0)
        >>> loss.shape, f"{loss[0]:.4f}"  # log(e + 3) - 1
        ((4,), '0.7437')

    Reference: van den Oord et al., Representation Learning with Contrastive Predictive Coding,
        2018, arXiv 1807.03748. Hardness: Lan et al., LLaVE, 2025, arXiv 2503.04812. Score margin:
        Zhang et al., Qwen3 Embedding, 2025, arXiv 2506.05176.
    """
    options = softmax.Options(
        margin=margin,
        label_smoothing=label_smoothing,
        hardness=hardness,
        drop_margin=drop_margin,
        share_negatives=share_negatives,
    )
    fields = {
        "temperature": temperature,
        "query_id": query_id,
        "document_id": document_id,
        "query_mask": query_mask,
        "document_mask": document_mask,
        "weights": weights,
        "in_batch": in_batch,
    }
    softmaxes = BOTH_WAYS if symmetric else ONE_WAY
    return _loss(query, document, positive, softmaxes, options, block, fields)


def ring_info_nce(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    axis_names: Sequence[str] = ("replica", "fsdp"),
    exchange: str = "ring",
    block: int = 1024,
    temperature: float = 0.05,
    symmetric: bool = False,
    margin: float = 0.0,
    label_smoothing: float = 0.0,
    hardness: float = 0.0,
    drop_margin: float | None = None,
    share_negatives: bool = True,
    query_id: jax.Array | None = None,
    document_id: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
    in_batch: jax.Array | None = None,
) -> jax.Array:
    """`info_nce` over a mesh: the queries stay on their devices, the documents travel.

    The value and the gradient are those of `info_nce`. Logits on a device never exceed
    block * (batch / devices). Call it under `jax.set_mesh`.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        axis_names: the mesh axes that the rows are split over; their devices divide both the batch
            and the candidates.
        exchange: "ring" passes the documents on from device to device; "gather" collects them all
            on each device first: more memory, fewer and larger messages.
        block: candidates worked on at a time.
        temperature: see `info_nce`, as are all further arguments.
        symmetric: average in the direction from positives to queries.
        margin: subtracted from the positive's score.
        label_smoothing: the fraction of the target spread over all that competes.
        hardness: weighs the query's own hard negatives.
        drop_margin: leave out negatives that score above the positive by more than this.
        share_negatives: whether hard negatives of other queries compete.
        query_id: [batch] integers.
        document_id: [candidates] integers; None masks nothing.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats.
        in_batch: [batch] bool.

    Returns:
        [batch] nats, split over the axes.

    Raises:
        ValueError: if no mesh with these axes is in context, if the rows do not divide among the
            devices, or naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows, auto = jnp.eye(4), (jax.sharding.AxisType.Auto,)
        >>> with jax.set_mesh(jax.make_mesh((1,), ("fsdp",), axis_types=auto)):
        ...     loss = ring_info_nce(rows, rows, jnp.arange(4), temperature=1.0, axis_names=("fsdp",))
        >>> f"{loss[0]:.4f}"  # log(e + 3) - 1
        '0.7437'

    Reference: Liu et al., Ring Attention with Blockwise Transformers, 2023, arXiv 2310.01889, with
        candidates for keys.
    """
    options = softmax.Options(
        margin=margin,
        label_smoothing=label_smoothing,
        hardness=hardness,
        drop_margin=drop_margin,
        share_negatives=share_negatives,
    )
    fields = NO_GUIDE | {
        "temperature": temperature,
        "query_id": query_id,
        "document_id": document_id,
        "query_mask": query_mask,
        "document_mask": document_mask,
        "weights": weights,
        "in_batch": in_batch,
    }
    softmaxes = BOTH_WAYS if symmetric else ONE_WAY
    problem = softmax.problem(query, document, positive, softmaxes, options, **fields)
    return ring(problem, softmaxes, options, block, axis_names, exchange)


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
    return _loss(query, document, positive, (_checked(directions),), options, block, fields)


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
    guide(a_i, c) > guide(q_i, p_i) - guide_margin, a_i being q_i or p_i, where the direction starts.

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
        raise ValueError(
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
    return _loss(query, document, positive, (_checked(directions),), options, block, fields)


def _checked(directions) -> tuple[str, ...]:
    directions = tuple(directions)
    unknown = [name for name in directions if name not in masks.DIRECTIONS]
    if unknown or directions[:1] != (masks.QUERY_TO_DOCUMENT,):
        raise ValueError(
            f"directions: expected query_to_document and then any of {masks.DIRECTIONS[1:]}, "
            f"got {directions}"
        )
    return directions


def _loss(query, document, positive, softmaxes, options, block, fields) -> jax.Array:
    fields = NO_GUIDE | fields
    problem = softmax.problem(query, document, positive, softmaxes, options, **fields)
    if block is None:
        return softmax.dense(problem, softmaxes, options)
    return blockwise(problem, softmaxes, options, block)
