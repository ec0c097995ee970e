"""InfoNCE, from queries to documents or both ways, on one device or over a mesh.

Here belong the public functions and what their options mean; masks live in gemb.losses.candidates,
the softmax in gemb.losses.softmax. One softmax over several directions is gemb.losses.joint; losses
for graded pairs, triplets and sigmoids do not belong here either.

All take unit-length rows, and give the loss of each query in nats, float32 (float64 for float64
inputs). A row whose query or positive is masked gives exactly 0 and sends no gradient.
"""

from collections.abc import Sequence

import jax

from gemb.losses import candidates as masks
from gemb.losses import softmax
from gemb.losses.blockwise import softmax_loss
from gemb.losses.ring import ring

ONE_WAY = ((masks.QUERY_TO_DOCUMENT,),)
BOTH_WAYS = (*ONE_WAY, (masks.DOCUMENT_TO_QUERY,))


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
    return softmax_loss(query, document, positive, softmaxes, options, block, fields)


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
        ...     loss = ring_info_nce(rows, rows, jnp.arange(4), axis_names=("fsdp",))
        >>> bool(jnp.allclose(loss, info_nce(rows, rows, jnp.arange(4))))
        True

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
    problem = softmax.problem(query, document, positive, softmaxes, options, **fields)
    return ring(problem, softmaxes, options, block, axis_names, exchange)
