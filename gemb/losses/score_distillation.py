"""Score distillation: a student that scores candidates as its teachers do.

Here belong losses against a teacher's scores, which come as such (from a cross-encoder) or from its
vectors. Losses against the vectors themselves are in gemb.losses.distillation. No gradient flows to
a teacher. Score and embedding distillation combine in `weighted_sum`.
"""

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses import inputs


def score_mse(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    own_only: bool = False,
    teacher_query: jax.Array | None = None,
    teacher_document: jax.Array | None = None,
    teacher_scores: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Squared difference of student's and teacher's scores: loss_i = mean_j (s_ij - t_ij)^2.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        own_only: look at the query's positive and own hard negatives only, not at the whole batch.
        teacher_query: [batch, teacher dim] floats; t = teacher_query . teacher_document.
        teacher_document: [candidates, teacher dim] floats.
        teacher_scores: [batch, candidates] floats: t itself, instead of the teacher's vectors.
        query_mask: [batch] bool.
        document_mask: [candidates] bool; masked documents leave the mean.
        weights: [batch] floats.

    Returns:
        [batch] squared scores.

    Raises:
        ValueError: unless the teacher comes either as vectors or as scores, or naming the argument
            at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> score_mse(rows, rows, jnp.arange(2), teacher_scores=jnp.ones((2, 2)))
        Array([0.5, 0.5], dtype=float32)

    Reference: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, arXiv 1503.02531,
        with scores for logits.
    """
    student, teacher, keep, finish = _scores(
        query,
        document,
        positive,
        own_only,
        teacher_query=teacher_query,
        teacher_document=teacher_document,
        teacher_scores=teacher_scores,
        query_mask=query_mask,
        document_mask=document_mask,
        weights=weights,
    )
    square = jnp.where(keep, jnp.square(student - teacher), 0)
    return finish(jnp.sum(square, axis=1) / jnp.sum(keep, axis=1))


def score_kl(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    temperature: float = 0.05,
    teacher_temperature: float | None = None,
    own_only: bool = False,
    teacher_query: jax.Array | None = None,
    teacher_document: jax.Array | None = None,
    teacher_scores: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """The student's ranking as a distribution, against the teacher's.

    loss_i = KL( softmax(t_i / teacher_temperature) || softmax(s_i / temperature) )

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        temperature: divides the student's scores.
        teacher_temperature: divides the teacher's scores; None takes `temperature`.
        own_only: see `score_mse`, as for all further arguments.
        teacher_query: [batch, teacher dim] floats.
        teacher_document: [candidates, teacher dim] floats.
        teacher_scores: [batch, candidates] floats, instead of the teacher's vectors.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats.

    Returns:
        [batch] nats.

    Raises:
        ValueError: unless the teacher comes either as vectors or as scores, or naming the argument
            at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> score_kl(rows, rows, jnp.arange(2), teacher_scores=rows + 3.0).round(4)
        Array([0., 0.], dtype=float32)

    Reference: Hinton et al., 2015, arXiv 1503.02531, without its factor temperature^2.
    """
    student, teacher, keep, finish = _scores(
        query,
        document,
        positive,
        own_only,
        teacher_query=teacher_query,
        teacher_document=teacher_document,
        teacher_scores=teacher_scores,
        query_mask=query_mask,
        document_mask=document_mask,
        weights=weights,
    )
    divisor = temperature if teacher_temperature is None else teacher_temperature
    aim = teacher / jax.lax.stop_gradient(divisor)
    target = jax.nn.log_softmax(jnp.where(keep, aim, -jnp.inf), axis=1)
    got = jax.nn.log_softmax(jnp.where(keep, student / temperature, -jnp.inf), axis=1)
    gap = jnp.where(keep, target, 0) - jnp.where(keep, got, 0)
    return finish(jnp.sum(jnp.exp(target) * gap, axis=1))


def margin_mse(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    teacher_query: jax.Array | None = None,
    teacher_document: jax.Array | None = None,
    teacher_scores: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """How far the positive leads each own hard negative, against the teacher's lead.

    loss_i = mean_n ( (s_ip - s_in) - (t_ip - t_in) )^2

    Args:
        query: [batch, dim] floats.
        document: [batch * (1 + negatives), dim] floats.
        positive: [batch] int32.
        teacher_query: [batch, teacher dim] floats; see `score_mse`.
        teacher_document: [candidates, teacher dim] floats.
        teacher_scores: [batch, candidates] floats, instead of the teacher's vectors.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats.

    Returns:
        [batch] squared scores.

    Raises:
        ValueError: if there are no hard negatives, unless the teacher comes either as vectors or as
            scores, or naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> margin_mse(rows[:1], rows, jnp.zeros(1, int), teacher_scores=jnp.zeros((1, 2)))
        Array([1.], dtype=float32)

    Reference: Hofstaetter et al., Improving Efficient Neural Ranking Models with Cross-Architecture
        Knowledge Distillation, 2020, arXiv 2010.02666.
    """
    student, teacher, _, finish = _scores(
        query,
        document,
        positive,
        False,
        teacher_query=teacher_query,
        teacher_document=teacher_document,
        teacher_scores=teacher_scores,
        query_mask=query_mask,
        document_mask=document_mask,
        weights=weights,
    )
    where = masks.negatives_of(positive, document.shape[0])
    keep = jnp.ones(where.shape, bool) if document_mask is None else document_mask[where]
    excess = student - teacher
    lead = jnp.take_along_axis(excess, positive[:, None], axis=1)
    gap = lead - jnp.take_along_axis(excess, where, axis=1)
    square = jnp.where(keep, jnp.square(gap), 0)
    return finish(jnp.sum(square, axis=1) / jnp.maximum(jnp.sum(keep, axis=1), 1))


def _scores(query, document, positive, own_only, **fields):
    """Student's and teacher's scores, what to look at, and how to finish a row's value."""
    query, document = inputs.prepare(query, document, positive, **fields)
    vectors = fields["teacher_query"], fields["teacher_document"]
    teacher = fields["teacher_scores"]
    if (teacher is None) == any(v is None for v in vectors):
        raise checks.ArgumentError(
            "teacher_scores: expected either teacher_scores or both teacher_query and "
            "teacher_document"
        )
    if teacher is None:
        checks.check_shape("teacher_document", vectors[1], (None, vectors[0].shape[1]))
        teacher = inputs.dot(*(v.astype(query.dtype) for v in vectors))
    teacher = jax.lax.stop_gradient(teacher).astype(query.dtype)
    column = jnp.arange(document.shape[0])[None, :]
    own = column == positive[:, None]
    keep = own
    if own_only:
        owner = masks.owners(positive, document.shape[0])
        keep = keep | (owner[None, :] == jnp.arange(query.shape[0])[:, None])
    else:
        keep = jnp.ones_like(keep)
    if fields["document_mask"] is not None:
        keep = own | (keep & fields["document_mask"][None, :])
    real = inputs.real_rows(positive, fields["query_mask"], fields["document_mask"])
    weight = inputs.row_weights(real, fields["weights"], query.dtype)
    student = inputs.dot(query, document)
    return student, teacher, keep, lambda value: jnp.where(real, weight * value, 0)
