"""Score distillation: a student that scores candidates as its teachers do.

Losses on a teacher's scores, given directly (by a cross-encoder) or computed from its
vectors. Losses on the vectors are in `embeddings`. Combine score and embedding distillation
with `weighted_sum`.
"""

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses import inputs
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import Prepared, prepare

READS = ("teacher_query", "teacher_document", "teacher_scores")


def score_mse(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    own_only: bool = False,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """Squared difference of student's and teacher's scores: loss_i = mean_j (s_ij - t_ij)^2.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        own_only: look at the query's positive and own hard negatives only, not at the whole batch.
        fields: needs teacher_scores, t, or teacher_query and teacher_document, whose products are
            then t; masks and weights; see `Fields`. Masked documents leave the mean.

    Returns:
        [batch] squared scores.

    Raises:
        ValueError: unless the teacher comes either as vectors or as scores, or naming the argument
            at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> teacher = Fields(teacher_scores=jnp.ones((2, 2)))
        >>> score_mse(rows, rows, jnp.arange(2), fields=teacher)
        Array([0.5, 0.5], dtype=float32)

    Reference: Hinton et al., Distilling the Knowledge in a Neural Network, 2015, arXiv 1503.02531,
        with scores for logits.
    """
    p = prepare(query, document, positive, fields, reads=READS)
    student, teacher = _scores(p)
    keep = _looked_at(p, own_only)
    square = jnp.where(keep, jnp.square(student - teacher), 0)
    return p.weighted(jnp.sum(square, axis=1) / jnp.sum(keep, axis=1))


def score_kl(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    temperature: float = 0.05,
    teacher_temperature: float | None = None,
    own_only: bool = False,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The student's ranking as a distribution, against the teacher's.

    loss_i = KL( softmax(t_i / teacher_temperature) || softmax(s_i / temperature) )

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        temperature: divides the student's scores.
        teacher_temperature: divides the teacher's scores; None takes `temperature`.
        own_only: look at the query's positive and own hard negatives only, not at the whole batch.
        fields: needs teacher_scores, t, or teacher_query and teacher_document, whose products are
            then t; masks, weights and temperature; see `Fields`.

    Returns:
        [batch] nats.

    Raises:
        ValueError: unless the teacher comes either as vectors or as scores, or naming the argument
            at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> teacher = Fields(teacher_scores=rows + 3.0)
        >>> score_kl(rows, rows, jnp.arange(2), fields=teacher).round(4)
        Array([0., 0.], dtype=float32)

    Reference: Hinton et al., 2015, arXiv 1503.02531, without its factor temperature^2.
    """
    p = prepare(query, document, positive, fields, reads=(*READS, "temperature"))
    student, teacher = _scores(p)
    keep, temperature = _looked_at(p, own_only), p.temperature(temperature)
    divisor = temperature if teacher_temperature is None else teacher_temperature
    aim = teacher / jax.lax.stop_gradient(divisor)
    target = jax.nn.log_softmax(jnp.where(keep, aim, -jnp.inf), axis=1)
    got = jax.nn.log_softmax(jnp.where(keep, student / temperature, -jnp.inf), axis=1)
    gap = jnp.where(keep, target, 0) - jnp.where(keep, got, 0)
    return p.weighted(jnp.sum(jnp.exp(target) * gap, axis=1))


def margin_mse(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """How far the positive leads each own hard negative, against the teacher's lead.

    loss_i = mean_n ( (s_ip - s_in) - (t_ip - t_in) )^2

    Args:
        query: [batch, dim] floats.
        document: [batch * (1 + negatives), dim] floats.
        positive: [batch] int32.
        fields: needs teacher_scores, t, or teacher_query and teacher_document, whose products are
            then t; masks and weights; see `Fields`.

    Returns:
        [batch] squared scores.

    Raises:
        ValueError: if there are no hard negatives, unless the teacher comes either as vectors or as
            scores, or naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> teacher = Fields(teacher_scores=jnp.zeros((1, 2)))
        >>> margin_mse(rows[:1], rows, jnp.zeros(1, int), fields=teacher)
        Array([1.], dtype=float32)

    Reference: Hofstaetter et al., Improving Efficient Neural Ranking Models with Cross-Architecture
        Knowledge Distillation, 2020, arXiv 2010.02666.
    """
    p = prepare(query, document, positive, fields, reads=READS)
    student, teacher = _scores(p)
    where, keep = p.own_negatives()
    excess = student - teacher
    lead = jnp.take_along_axis(excess, p.positive[:, None], axis=1)
    gap = lead - jnp.take_along_axis(excess, where, axis=1)
    square = jnp.where(keep, jnp.square(gap), 0)
    return p.weighted(jnp.sum(square, axis=1) / jnp.maximum(jnp.sum(keep, axis=1), 1))


def _scores(p: Prepared) -> tuple[jax.Array, jax.Array]:
    """[batch, candidates] scores of the student and of the teacher, these without gradient."""
    vectors, teacher = (p.fields.teacher_query, p.fields.teacher_document), p.fields.teacher_scores
    if (teacher is None) == any(v is None for v in vectors):
        raise checks.ArgumentError(
            "teacher_scores: expected either teacher_scores or both teacher_query and "
            "teacher_document in `fields`; set TEACHER"
        )
    if teacher is None:
        checks.check_shape("teacher_document", vectors[1], (None, vectors[0].shape[1]))
        teacher = inputs.dot(*(v.astype(p.query.dtype) for v in vectors))
    student = inputs.dot(p.query, p.document)
    return student, jax.lax.stop_gradient(teacher).astype(p.query.dtype)


def _looked_at(p: Prepared, own_only: bool) -> jax.Array:
    """[batch, candidates] bool: the documents that are looked at for each query."""
    own = jnp.arange(p.document.shape[0])[None, :] == p.positive[:, None]
    if not own_only:
        return own | p.real_documents[None, :]
    owner = masks.owners(p.positive, p.document.shape[0])
    mine = owner[None, :] == jnp.arange(p.query.shape[0])[:, None]
    return own | (mine & p.real_documents[None, :])
