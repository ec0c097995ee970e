"""Embedding distillation: a student that embeds as its teachers do.

Here belong losses against a teacher's vectors, and the way to put several teachers into one vector.
Losses against scores are in gemb.losses.score_distillation, Jasper's losses on the geometry of a
whole batch in gemb.losses.jasper. No gradient flows to a teacher. Where a student's width is not
its teacher's, a projection head comes before the loss, not in it.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses import inputs


def embedding_distance(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    distance: str = "cosine",
    teacher_query: jax.Array | None = None,
    teacher_document: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """The student's vectors against the teacher's, text by text.

    loss_i = D(q_i) + D(p_i) + mean_n D(n_in), the last over own real hard negatives, if any

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        distance: "cosine", D = 1 - x.y; "l2", |x - y|; or "mse", the mean of (x - y)^2 over dim.
        teacher_query: [batch, dim] floats, unit-length rows; required.
        teacher_document: [candidates, dim] floats, unit-length rows; required.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats.

    Returns:
        [batch] distances.

    Raises:
        ValueError: naming the argument at fault; a teacher of another width is one.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> embedding_distance(rows, rows, jnp.arange(2), teacher_query=rows,
        ...                    teacher_document=rows[::-1])
        Array([1., 1.], dtype=float32)

    Reference: Kim et al., EmbedDistill, 2023, arXiv 2301.12005.
    """
    fields = {"query_mask": query_mask, "document_mask": document_mask, "weights": weights}
    teachers = {"teacher_query": teacher_query, "teacher_document": teacher_document}
    query, document = inputs.prepare(query, document, positive, **fields, **teachers)
    teachers = matching_teachers(query, document, teacher_query, teacher_document)
    d_query, d_document = (
        _distance(distance, rows, teacher)
        for rows, teacher in zip((query, document), teachers, strict=True)
    )
    return of_each_query(d_query, d_document, positive, **fields)


def concatenate_teachers(
    *teachers: jax.Array | np.ndarray, weights: Sequence[float] = ()
) -> jax.Array | np.ndarray:
    """One unit-length vector out of several teachers'.

    normalise(concat(w_1 normalise(t_1), ..., w_k normalise(t_k))); its cosine is the mean of
    theirs, weighted by w_k^2. A better teacher may count more.

    Args:
        *teachers: [rows, dim_k] floats each.
        weights: w_k, above zero; all 1 if empty.

    Returns:
        [rows, sum of dim_k] floats; of numpy arrays a numpy array, made without the device.

    Raises:
        ValueError: if there is none, their rows differ in number, or the weights are not one a
            teacher and above zero.

    Example:
        >>> import jax.numpy as jnp
        >>> concatenate_teachers(jnp.asarray([[3.0, 4.0]]), jnp.asarray([[2.0]])).round(4)
        Array([[0.4243, 0.5657, 0.7071]], dtype=float32)

    Reference: Zhang et al., Jasper and Stella, 2024, arXiv 2412.19048, without weights.
    """
    checks.check(bool(teachers), "teachers: expected at least one, got none")
    weights = list(weights or [1.0] * len(teachers))
    checks.check(
        len(weights) == len(teachers) and all(0 < w < math.inf for w in weights),
        f"weights: expected one above zero for each of {len(teachers)} teachers, got {weights}",
    )
    xp = np if all(isinstance(t, np.ndarray) for t in teachers) else jnp
    length = math.sqrt(sum(w**2 for w in weights))
    for k, teacher in enumerate(teachers):
        checks.check_shape(f"teachers[{k}]", teacher, (teachers[0].shape[0], None))
        checks.check_floating(f"teachers[{k}]", teacher)
    rows = [t.astype(inputs.compute_dtype(t)) for t in teachers]
    norms = [xp.linalg.norm(t, axis=-1, keepdims=True) for t in rows]
    rows = [
        t / xp.where(n > 0, n, 1) * (w / length)
        for t, n, w in zip(rows, norms, weights, strict=True)
    ]
    return xp.concatenate(rows, axis=-1)


def of_each_query(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """[batch] losses of each query's texts, of [batch] and [candidates] losses of each text.

    loss_i = query_i + document_p + mean_n document_n, the last over own real hard negatives, if any
    """
    value = query + document[positive]
    if document.shape[0] > query.shape[0]:
        where = masks.negatives_of(positive, document.shape[0])
        keep = jnp.ones(where.shape, bool) if document_mask is None else document_mask[where]
        total = jnp.sum(jnp.where(keep, document[where], 0), axis=1)
        value = value + total / jnp.maximum(jnp.sum(keep, axis=1), 1)
    real = inputs.real_rows(positive, query_mask, document_mask)
    return jnp.where(real, value * inputs.row_weights(real, weights, query.dtype), 0)


def matching_teachers(query, document, teacher_query, teacher_document):
    """Teacher vectors as wide as the student's, without gradient, in the student's dtype.

    Raises:
        ValueError: if one is missing or of another width.
    """
    made = []
    pairs = (
        ("teacher_query", teacher_query, query),
        ("teacher_document", teacher_document, document),
    )
    for name, teacher, student in pairs:
        if teacher is None:
            raise checks.ArgumentError(f"{name}: expected the teacher's vectors, got None")
        if teacher.shape != student.shape:
            raise checks.ArgumentError(
                f"{name}: expected the student's shape {student.shape}, got {teacher.shape}; "
                "put a projection head on the student"
            )
        made.append(jax.lax.stop_gradient(teacher).astype(student.dtype))
    return made


def _distance(distance: str, rows, teacher) -> jax.Array:
    if distance == "cosine":
        return 1 - jnp.sum(rows * teacher, axis=1)
    square = jnp.sum(jnp.square(rows - teacher), axis=1)
    if distance == "mse":
        return square / rows.shape[1]
    if distance == "l2":
        return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    raise checks.ArgumentError(f"distance: expected 'cosine', 'l2' or 'mse', got {distance!r}")
