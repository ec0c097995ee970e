"""InfoNCE, from queries to documents or both ways.

The public function and its options. Masks are in gemb.losses.candidates, the
arithmetic is in `softmax`, the forms are in `forms`, and one softmax over several directions is in
`joint`.
"""

import jax

from gemb.losses import candidates as masks
from gemb.losses.contrastive import softmax
from gemb.losses.contrastive.forms import Form, softmax_loss
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import prepare

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
    form: Form = "dense",
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """InfoNCE: the cross-entropy of finding each query's positive among the candidates.

    loss_i = -log( e^{l_ip} / sum_j M_ij w_ij e^{l_ij} ),  p = positive_i,
    l_ij = query_i . document_j / t - log q_j, where log q_j is the field `log_q`, if it is given.

    M_ij = 0 for masked documents and, where document_id is given, for documents whose text is a
    positive of a query with i's text, other than p itself, and for the `known_positives` of i.

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
        form: how to compute it, with the same value and gradient: "dense", with the whole
            [batch, candidates] matrix; "blockwise", without it; "ring", over a mesh; or `Blockwise`
            or `Ring` with settings of your own.
        fields: masks, weights, query_id, document_id, in_batch, known_positives, log_q and
            temperature; see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument with the wrong shape, dtype or value; for "ring", if no mesh
            with its axes is in context or the rows do not divide among the devices.

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
    p = prepare(query, document, positive, fields, reads=softmax.READS)
    return softmax_loss(p, BOTH_WAYS if symmetric else ONE_WAY, options, temperature, form)
