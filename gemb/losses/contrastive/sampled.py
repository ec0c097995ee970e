"""Losses over a catalogue of which the candidates are a sample: logQ correction, gSASRec's.

The softmax' arithmetic is in `softmax`, its forms are in `forms`.
"""

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses.contrastive import softmax
from gemb.losses.contrastive.forms import Form, softmax_loss
from gemb.losses.contrastive.info_nce import ONE_WAY
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import prepare


def sampled_softmax(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    temperature: float = 0.1,
    log_q_positive: bool = True,
    form: Form = "dense",
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """Cross-entropy over a whole catalogue of which the candidates are a sample (logQ correction).

    loss_i = -log( e^{l_ip} / sum_j M_ij e^{l_ij} ),  l_ij = query_i . document_j / t - log q_j,
    with p = positive_i and the masks M of `info_nce`.

    Documents that are drawn often, as popular items are in batches of interactions, would otherwise
    be pushed away as negatives more often than the softmax over the catalogue pushes them.

    Args:
        query: [batch, dim] floats.
        document: [candidates, dim] floats.
        positive: [batch] int32, the index of each query's positive among the candidates.
        temperature: t, divides the scores.
        log_q_positive: whether the positive is corrected as well (the usual form). If not, the loss
            is sg(1 - P) (-s_ip / t + log Z_i), with P = e^{s_ip / t} / (e^{s_ip / t} + Z_i) and Z_i
            the mean of e^{l_ij} over the competing j other than p: the positive is no sample. Then
            log_q must be the logarithm of probabilities, without another constant.
        form: how to compute it, see `info_nce`.
        fields: needs log_q; masks, weights, query_id, document_id, in_batch, known_positives and
            temperature; see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument with the wrong shape, dtype or value.

    Example:
        >>> import jax.numpy as jnp
        >>> rows, log_q = jnp.eye(2), jnp.log(jnp.asarray([0.8, 0.2]))
        >>> loss = sampled_softmax(
        ...     rows, rows, jnp.arange(2), temperature=1.0, fields=Fields(log_q=log_q)
        ... )
        >>> [f"{value:.3f}" for value in loss]  # log(1 + e^-1 .8/.2) and log(1 + e^-1 .2/.8)
        ['0.905', '0.088']

    Reference: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
        Recommendations, RecSys 2019. Without log_q_positive: Khrylchenko et al., 2025,
        arXiv 2507.09331.
    """
    options = softmax.Options(log_q_positive=log_q_positive)
    p = prepare(query, document, positive, fields, reads=softmax.READS, needs=("log_q",))
    return softmax_loss(p, ONE_WAY, options, temperature, form)


def generalized_bce(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    catalogue: int,
    calibration: float = 0.75,
    temperature: float = 1.0,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """Binary cross-entropy of the positive and of sampled negatives (SASRec, gSASRec).

    loss_i = -( beta log sigmoid(s_ip / t) + sum_j log sigmoid(-s_ij / t) ),  j: negatives of i,
    beta = a (c (1 - 1/a) + 1/a),  a = k / (catalogue - 1),  k: negatives of each query

    With few of a catalogue's items as negatives, usual cross-entropy (c = 0) learns scores that are
    too high; beta below 1 takes that back.

    Args:
        query: [batch, dim] floats.
        document: [candidates, dim] floats: each query's own negatives, drawn evenly, in addition to
            the positives (`links.batches.uniform`).
        positive: [batch] int32.
        catalogue: items from which the negatives are drawn.
        calibration: c, from 0 (SASRec's loss) to 1 (as the softmax over the catalogue).
        temperature: t, divides the scores.
        fields: masks, weights, temperature, and to leave out positives among the negatives
            document_id and known_positives; see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument with the wrong shape, dtype or value.

    Example:
        >>> import jax.numpy as jnp
        >>> items = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])  # the positive and one negative
        >>> loss = generalized_bce(
        ...     items[:1], items, jnp.arange(1), catalogue=2, fields=Fields()
        ... )
        >>> f"{loss[0]:.3f}"  # a = 1, so beta = 1: log(1 + e^-1) + log 2
        '1.006'

    Reference: Petrov and Macdonald, gSASRec: Reducing Overconfidence in Sequential Recommendation
        Trained with Negative Sampling, RecSys 2023, arXiv 2308.07192. SASRec: Kang and McAuley,
        Self-Attentive Sequential Recommendation, ICDM 2018, arXiv 1808.09781.
    """
    checks.check(catalogue >= 2, f"catalogue: expected at least 2 items, got {catalogue}")
    checks.check(0 <= calibration <= 1, f"calibration: expected 0 to 1, got {calibration}")
    reads = ("document_id", "known_positives", "temperature")
    p = prepare(query, document, positive, fields, reads=reads)
    places, real = p.own_negatives()
    share = places.shape[1] / (catalogue - 1)
    beta = share * (calibration * (1 - 1 / share) + 1 / share)
    scale = 1 / p.temperature(temperature)
    if p.fields.document_id is not None:
        ids = p.fields.document_id[places]
        real = real & (ids != p.fields.document_id[p.positive][:, None])
        if p.fields.known_positives is not None:
            known = p.fields.known_positives
            real = real & ~(ids[:, :, None] == known[:, None, :]).any(axis=2)
    own = scale * jnp.sum(p.query * p.document[p.positive], axis=1)
    others = scale * jnp.einsum("bd,bkd->bk", p.query, p.document[places])
    cost = jnp.where(real, jax.nn.softplus(others), 0).sum(axis=1)
    return p.weighted(beta * jax.nn.softplus(-own) + cost)
