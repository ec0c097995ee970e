"""Distillation of every layer: a student whose token vectors are its teacher's, layer by layer.

This module has the distance of token vectors, which the training step computes, and the
in-batch loss of those distances. Losses on embeddings are in `embeddings`.
"""

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import inputs
from gemb.losses.distillation.embeddings import of_each_query
from gemb.losses.fields import NO_FIELDS, Fields


def hidden_state_distance(states: jax.Array, teacher: jax.Array, mask: jax.Array) -> jax.Array:
    """How far token vectors are from a teacher's: 0 for the same, about 1 for their mean alone.

    D(x) = mean_l mean_t |s_lt - t_lt|^2 / v_l

    over the layers l and the real tokens t of text x, with v_l the mean of |t_lt - mean(t_l)|^2
    over the real tokens of all texts, so that all layers count the same.

    Args:
        states: [layers, rows, length, width] floats, the student's.
        teacher: the same shape; no gradient flows to it.
        mask: [rows, length] bool, True where a token is real.

    Returns:
        [rows] distances; 0 for a row without tokens.

    Raises:
        ValueError: naming the argument whose shape or dtype does not fit.

    Example:
        >>> import jax.numpy as jnp
        >>> teacher = jnp.asarray([[[[1.0], [3.0]]]])
        >>> hidden_state_distance(teacher + 0.5, teacher, jnp.ones((1, 2), bool))
        Array([0.25], dtype=float32)

    Reference: Jiao et al., "TinyBERT", 2020, arXiv 1909.10351, equation 8, here over v_l.
    """
    checks.check_rank("states", states, 4)
    checks.check_shape("teacher", teacher, states.shape)
    checks.check_shape("mask", mask, states.shape[1:3])
    for name, array in (("states", states), ("teacher", teacher)):
        checks.check_floating(name, array)
    checks.check_bool("mask", mask)
    dtype = inputs.compute_dtype(states)
    states, teacher = states.astype(dtype), jax.lax.stop_gradient(teacher).astype(dtype)
    real = mask[..., None].astype(dtype)
    count = jnp.maximum(real.sum(), 1)
    mean = (teacher * real).sum((1, 2), keepdims=True) / count
    spread = (jnp.square(teacher - mean) * real).sum((1, 2, 3)) / count
    far = (jnp.square(states - teacher) * real).sum((2, 3)) / jnp.maximum(real.sum((1, 2)), 1)
    return (far / jnp.where(spread > 0, spread, 1)[:, None]).mean(0)


def layerwise_distance(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The student's token vectors against its teacher's, at every layer.

    loss_i = D(q_i) + D(p_i) + mean_n D(n_in), the last over own real hard negatives, if any

    Args:
        query: [batch, dim] floats; read for their number alone, as are documents.
        document: [candidates, dim] floats.
        positive: [batch] int32.
        fields: needs query_layerwise and document_layerwise, D of `hidden_state_distance`; the
            training step gives them where the teacher is
            `gemb.training.distillation.teachers.layerwise`; masks and weights; see `Fields`.

    Returns:
        [batch] distances.

    Raises:
        ValueError: naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows, far = jnp.eye(2), jnp.asarray([0.5, 0.25])
        >>> distances = Fields(query_layerwise=far, document_layerwise=far)
        >>> layerwise_distance(rows, rows, jnp.arange(2), fields=distances)
        Array([1. , 0.5], dtype=float32)

    Reference: Sun et al., "Patient Knowledge Distillation for BERT Model Compression", 2019,
        arXiv 1908.09355.
    """
    needs = ("query_layerwise", "document_layerwise")
    p = inputs.prepare(query, document, positive, fields, needs=needs)
    return of_each_query(p, *(getattr(p.fields, name).astype(p.query.dtype) for name in needs))
