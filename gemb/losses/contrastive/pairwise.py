"""Losses over pairs and triplets of one query: sigmoid, several positives, triplet.

These losses compare a query with its candidates in other ways than by one softmax with
one target. The softmax losses are in `info_nce` and `joint`, losses on graded pairs in
gemb.losses.graded. False negatives by text are left out as described in gemb.losses.candidates.
"""

import functools

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses import inputs
from gemb.losses.contrastive import softmax
from gemb.losses.contrastive.forms import Blockwise, OneDevice, settings
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import prepare

_TO_DOCUMENTS = ((masks.QUERY_TO_DOCUMENT,),)


def sigmoid(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    scale: float = 10.0,
    bias: float = -10.0,
    form: OneDevice = "dense",
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """SigLIP: each pair is a yes-or-no question of its own.

    loss_i = -sum_j log sigmoid( z_ij (scale s_ij + bias) ),  z = +1 for the positive, -1 elsewhere

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        scale: multiplies the scores; a float or a traced scalar. A learned temperature, or that of
            a task, replaces it: 1 / temperature.
        bias: added to the logits; start it near -log(batch - 1), so that the many negatives cost
            little at first. A learned one replaces it.
        form: "dense", with the whole [batch, candidates] matrix, or "blockwise" or `Blockwise`,
            without it.
        fields: masks, weights, query_id, document_id, in_batch, temperature and bias; see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> [f"{x:.4f}" for x in sigmoid(rows, rows, jnp.arange(2), scale=0.0, bias=0.0)]  # 2 log 2
        ['1.3863', '1.3863']

    Reference: Zhai et al., Sigmoid Loss for Language Image Pre-Training, 2023, arXiv 2303.15343.
    """
    how = settings(form, known=(Blockwise,))
    reads = (*masks.READS, "temperature", "bias")
    given = prepare(query, document, positive, fields, reads=reads)
    if given.fields.temperature is not None:
        scale = 1 / given.fields.temperature
    bias = bias if given.fields.bias is None else given.fields.bias
    p = _problem(given)

    def row(vector, queries):
        one = jax.tree.map(lambda leaf: leaf[None], queries)
        keep, own = masks.to_documents(masks.QUERY_TO_DOCUMENT, one, p.documents, p.known, True)
        logit = scale * inputs.dot(vector[None], p.document) + bias
        cost = jnp.where(keep, jax.nn.softplus(jnp.where(own, -logit, logit)), 0)
        return jnp.sum(cost) * queries.weight

    if how is None:
        value = jax.vmap(row)(p.query, p.queries)
    else:
        pairs = p.query, p.queries
        value = jax.lax.map(lambda pair: jax.checkpoint(row)(*pair), pairs, batch_size=how.block)
    return jnp.where(p.queries.mask, value, 0)


def multi_positive(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    temperature: float = 0.05,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """InfoNCE for queries with several positives, each against the negatives alone.

    loss_i = mean_{p in P_i} -log( e^{s_ip/t} / (e^{s_ip/t} + sum_{n not in P_i} e^{s_in/t}) )

    P_i are the documents whose text is a positive of a query with i's text, found by their ids:
    give each label or topic one query_id. Without document_id each query has one positive, and this
    is `info_nce`.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        temperature: t, divides the scores.
        fields: masks, weights, query_id, document_id, in_batch and temperature; see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> import jax.numpy as jnp
        >>> ids, rows = jnp.zeros(2, int), jnp.eye(2)
        >>> fields = Fields(query_id=ids, document_id=jnp.arange(2))
        >>> multi_positive(rows, rows, jnp.arange(2), fields=fields)
        Array([0., 0.], dtype=float32)

    Reference: Khosla et al., Supervised Contrastive Learning, 2020, arXiv 2004.11362, L_out without
        the other positives in the denominator.
    """
    given = prepare(query, document, positive, fields, reads=(*masks.READS, "temperature"))
    p = _problem(given, temperature)
    look = functools.partial(masks.to_documents, masks.QUERY_TO_DOCUMENT, p.queries, p.documents)
    own = look(None, True)[1]
    negative = look(p.known, True)[0] & ~own
    positives = own
    if p.known is not None:
        same = masks.is_known(p.queries, p.documents.id, p.known)
        positives = own | (same & p.documents.mask[None, :])
    logit = inputs.dot(p.query, p.document) / p.temperature
    some = jnp.any(negative, axis=1, keepdims=True)
    rest = jnp.where(some, jnp.where(negative, logit, -jnp.inf), 0)
    rest = jnp.where(some, jax.nn.logsumexp(rest, axis=1, keepdims=True), -jnp.inf)
    cost = jnp.where(positives, jax.nn.softplus(rest - logit), 0)
    return given.weighted(jnp.sum(cost, axis=1) / jnp.sum(positives, axis=1))


def triplet(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    margin: float = 0.2,
    distance: str = "cosine",
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """Triplet loss: the positive nearer than each hard negative of the query, by a margin.

    loss_i = mean_n max(0, d(q_i, p_i) - d(q_i, n_in) + margin), n over the query's real negatives

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [batch * (1 + negatives), dim] floats, unit-length rows.
        positive: [batch] int32.
        margin: in units of the distance.
        distance: "cosine", 1 - q.d, or "euclidean", |q - d|.
        fields: masks and weights; see `Fields`.

    Returns:
        [batch] distances. (Not nats.)

    Raises:
        ValueError: if there are no hard negatives, or naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(3)
        >>> triplet(rows[:1], rows[:2], jnp.zeros(1, int), margin=1.5)  # 0 - 1 + 1.5
        Array([0.5], dtype=float32)

    Reference: Schroff et al., FaceNet, 2015, arXiv 1503.03832; Reimers and Gurevych, Sentence-BERT,
        2019, arXiv 1908.10084.
    """
    p = prepare(query, document, positive, fields)
    if distance not in ("cosine", "euclidean"):
        raise checks.ArgumentError(f"distance: expected 'cosine' or 'euclidean', got {distance!r}")
    where, keep = p.own_negatives()

    def away(others):
        if distance == "cosine":
            return 1 - jnp.sum(p.query[:, None] * others, axis=-1)
        square = jnp.sum(jnp.square(p.query[:, None] - others), axis=-1)
        return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)

    gap = away(p.document[p.positive][:, None]) - away(p.document[where]) + margin
    count = jnp.maximum(jnp.sum(keep, axis=1), 1)
    return p.weighted(jnp.sum(jnp.where(keep, jax.nn.relu(gap), 0), axis=1) / count)


def _problem(given: inputs.Prepared, temperature=1.0) -> softmax.Problem:
    return softmax.problem(given, _TO_DOCUMENTS, softmax.Options(), temperature)
