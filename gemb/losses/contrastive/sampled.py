"""The softmax over a catalogue, estimated from sampled candidates: the logQ correction.

The public function. The arithmetic is in `softmax`, the forms are in `forms`.
"""

import jax

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
