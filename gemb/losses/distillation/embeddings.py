"""Embedding distillation: a student that embeds as its teachers do.

Losses on a teacher's vectors, and a function that combines several teachers into one vector.
Losses on scores are in `scores`, Jasper's losses on the geometry of a whole batch in `jasper`.
If the widths of student and teacher differ, add a projection head to the student.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from gemb import checks
from gemb.losses import inputs
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.inputs import Prepared, prepare

VECTORS = ("teacher_query", "teacher_document")


def embedding_distance(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    distance: str = "cosine",
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The student's vectors against the teacher's, text by text.

    loss_i = D(q_i) + D(p_i) + mean_n D(n_in), the last over own real hard negatives, if any

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        distance: "cosine", D = 1 - x.y; "l2", |x - y|; or "mse", the mean of (x - y)^2 over dim.
        fields: needs teacher_query and teacher_document, as wide as the student; masks and weights;
            see `Fields`.

    Returns:
        [batch] distances.

    Raises:
        ValueError: naming the argument at fault; a teacher of another width is one.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> teacher = Fields(teacher_query=rows, teacher_document=rows[::-1])
        >>> embedding_distance(rows, rows, jnp.arange(2), fields=teacher)
        Array([1., 1.], dtype=float32)

    Reference: Kim et al., EmbedDistill, 2023, arXiv 2301.12005.
    """
    p = prepare(query, document, positive, fields, needs=VECTORS)
    pairs = zip((p.query, p.document), matching_teachers(p), strict=True)
    return of_each_query(p, *(_distance(distance, *pair) for pair in pairs))


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
        ValueError: if there is none, their rows differ in number, or the weights are not one per
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


def of_each_query(p: Prepared, query: jax.Array, document: jax.Array) -> jax.Array:
    """[batch] losses of each query's texts, from [batch] and [candidates] losses of each text.

    loss_i = query_i + document_p + mean_n document_n, the last over own real hard negatives, if any
    """
    value = query + document[p.positive]
    if document.shape[0] > query.shape[0]:
        where, keep = p.own_negatives()
        total = jnp.sum(jnp.where(keep, document[where], 0), axis=1)
        value = value + total / jnp.maximum(jnp.sum(keep, axis=1), 1)
    return p.weighted(value)


def matching_teachers(p: Prepared) -> list[jax.Array]:
    """Teacher vectors as wide as the student's, without gradient, in the student's dtype.

    Raises:
        ValueError: if one has another width.
    """
    made = []
    for name, student in zip(VECTORS, (p.query, p.document), strict=True):
        teacher = getattr(p.fields, name)
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
