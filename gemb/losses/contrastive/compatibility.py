"""Backward-compatible training: new queries that also find the documents of an older model."""

import jax

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses.contrastive import softmax
from gemb.losses.contrastive.forms import softmax_loss
from gemb.losses.contrastive.info_nce import ONE_WAY
from gemb.losses.distillation.embeddings import matching_teachers
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import prepare


def backward_compatible(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    temperature: float = 0.05,
    old_weight: float = 1.0,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """InfoNCE on the new documents plus InfoNCE of the new queries on the old model's documents.

    loss_i = L(q_i, d) + w L(q_i, d_old),  L(q, d) = -log( e^{q.d_p/t} / sum_j M_ij e^{q.d_j/t} )

    The teacher is the old model, frozen; it gets no gradient. Queries of the trained model can
    then be asked to the old index until the documents are encoded again.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        temperature: t, divides the scores.
        old_weight: w, of the part on the old model's documents.
        fields: needs teacher_query and teacher_document, the old model's, as wide as the new one's;
            reads masks, weights, query_id, document_id, in_batch and temperature; see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: naming the argument at fault; an old model of another width is one.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(4)
        >>> old = Fields(teacher_query=rows, teacher_document=rows)
        >>> loss = backward_compatible(rows, rows, jnp.arange(4), temperature=1.0, fields=old)
        >>> f"{loss[0]:.4f}"  # 2 (log(e + 3) - 1)
        '1.4873'

    Reference: Shen, Xiong, Xia and Soatto, Towards backward-compatible representation learning,
        2020, arXiv 2003.11942; here the old classifier is the old model's documents.
    """
    checks.check(old_weight >= 0, f"old_weight: expected 0 or more, got {old_weight}")
    needs = ("teacher_query", "teacher_document")
    p = prepare(query, document, positive, fields, reads=(*masks.READS, "temperature"), needs=needs)
    old = jax.lax.stop_gradient(matching_teachers(p)[1])
    options = softmax.Options()
    new = softmax_loss(p, ONE_WAY, options, temperature, "dense")
    before = softmax_loss(p._replace(document=old), ONE_WAY, options, temperature, "dense")
    return new + old_weight * before
