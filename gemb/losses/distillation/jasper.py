"""Jasper's losses: the geometry of a batch of texts, student against teachers, without labels.

These losses use all texts of a batch at once, queries and documents alike: each value belongs
to the batch, and each real row carries it, so that the mean over the rows is the loss. Losses of
one text or one query at a time are in `embeddings`, as is `concatenate_teachers`. Except in
`jasper_cosine`, the teacher may be of any width: only its similarities are looked at.
"""

from typing import Literal

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import inputs
from gemb.losses.distillation.embeddings import VECTORS, matching_teachers
from gemb.losses.distillation.ordering import hinge_blockwise, hinge_sampled, hinge_sorted
from gemb.losses.fields import NO_FIELDS, Fields, missing
from gemb.losses.inputs import prepare

Form = Literal["sorted", "blockwise", "sampled"]


def jasper(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    cosine_weight: float = 10.0,
    similarity_weight: float = 200.0,
    relative_weight: float = 20.0,
    margin: float = 0.015,
    form: Form = "sorted",
    block: int = 1024,
    samples: int = 65536,
    fields: Fields = NO_FIELDS,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Jasper's three losses, weighted: 10 cosine + 200 similarity + 20 relative similarity.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32; only says which queries have a real positive.
        cosine_weight: of `jasper_cosine`; 0 leaves it out, and the widths may then differ.
        similarity_weight: of `similarity`.
        relative_weight: of `relative_similarity`.
        margin: see `relative_similarity`, as for `form`, `block` and `samples`.
        form: "sorted", "blockwise" or "sampled".
        block: pairs at a time.
        samples: pairs of pairs drawn.
        fields: needs teacher_query and teacher_document; masks, weights and key; see `Fields`.

    Returns:
        [batch] total, and the terms "cosine", "similarity", "relative" without their weights.

    Raises:
        ValueError: naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> teacher = Fields(teacher_query=rows, teacher_document=rows)
        >>> total, terms = jasper(rows, rows, jnp.arange(2), fields=teacher)
        >>> sorted(terms)
        ['cosine', 'relative', 'similarity']

    Reference: Zhang et al., Jasper and Stella: distillation of SOTA embedding models, 2024,
        arXiv 2412.19048.
    """
    arrays = query, document, positive
    chosen = {"margin": margin, "form": form, "block": block, "samples": samples}
    terms, total = {}, 0.0
    if cosine_weight:
        terms["cosine"] = jasper_cosine(*arrays, fields=fields)
        total = total + cosine_weight * terms["cosine"]
    if similarity_weight:
        terms["similarity"] = similarity(*arrays, fields=fields)
        total = total + similarity_weight * terms["similarity"]
    if relative_weight:
        terms["relative"] = relative_similarity(*arrays, **chosen, fields=fields)
        total = total + relative_weight * terms["relative"]
    checks.check(bool(terms), "cosine_weight: expected some weight above 0, got 0 for every term")
    return total, terms


def jasper_cosine(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The mean over all texts of 1 - student . teacher.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        fields: needs teacher_query and teacher_document, as wide as the student; masks and weights;
            see `Fields`.

    Returns:
        [batch], the same value in each real row.

    Raises:
        ValueError: naming the argument at fault; a teacher of another width is one.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> teacher = Fields(teacher_query=rows, teacher_document=-rows)
        >>> jasper_cosine(rows, rows, jnp.arange(2), fields=teacher)
        Array([1., 1.], dtype=float32)

    Reference: Zhang et al., 2024, arXiv 2412.19048, equation of the cosine loss.
    """
    p = prepare(query, document, positive, fields, needs=VECTORS)
    matching_teachers(p)
    student, teacher, real = _texts(p)
    cosine = jnp.sum(student * teacher, axis=1)
    return p.weighted(jnp.sum(jnp.where(real, 1 - cosine, 0)) / jnp.maximum(jnp.sum(real), 1))


def similarity(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The mean squared error of all texts' similarities: MSE(S S^T, T T^T).

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        fields: needs teacher_query and teacher_document; masks and weights; see `Fields`.

    Returns:
        [batch], the same value in each real row.

    Raises:
        ValueError: naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows, same = jnp.eye(1), jnp.ones((1, 1))
        >>> teacher = Fields(teacher_query=same, teacher_document=-same)
        >>> similarity(rows, rows, jnp.zeros(1, int), fields=teacher)
        Array([2.], dtype=float32)

    Reference: Zhang et al., 2024, arXiv 2412.19048, equation of the similarity loss.
    """
    p = prepare(query, document, positive, fields, needs=VECTORS)
    student, teacher, real = _texts(p)
    square = jnp.square(inputs.dot(student, student) - inputs.dot(teacher, teacher))
    total = jnp.sum(jnp.where(real[:, None] & real[None, :], square, 0))
    return p.weighted(total / jnp.maximum(jnp.square(jnp.sum(real, dtype=square.dtype)), 1))


def relative_similarity(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    margin: float = 0.015,
    form: Form = "sorted",
    block: int = 1024,
    samples: int = 65536,
    fields: Fields = NO_FIELDS,
) -> jax.Array:
    """The hinge by which pairs of texts miss the teacher's order of their similarities.

    loss = mean over pairs of pairs (p, n) of max(0, s_n - s_p + margin), p the pair of higher
    teacher similarity; a teacher tie counts as 0. m texts make about m^4 / 8 pairs of pairs.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        margin: in units of the cosine.
        form: "sorted" is exact in m^2 log(m) steps; "blockwise" is exact, pair by pair, with memory
            for m^2 * block cells; "sampled" is an unbiased estimate.
        block: pairs at a time, for "blockwise".
        samples: pairs of pairs drawn, with replacement, for "sampled".
        fields: needs teacher_query and teacher_document, and key for "sampled"; masks and weights;
            see `Fields`.

    Returns:
        [batch], the same value in each real row.

    Raises:
        ValueError: naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> teacher = Fields(teacher_query=rows, teacher_document=rows)
        >>> relative_similarity(rows, rows, jnp.arange(2), margin=0.0, fields=teacher)
        Array([0., 0.], dtype=float32)

    Reference: Zhang et al., 2024, arXiv 2412.19048, equation of the relative similarity loss.
    """
    p = prepare(query, document, positive, fields, reads=("key",), needs=VECTORS)
    student, teacher, real = _texts(p)
    texts = student.shape[0]
    # each pair once: i with i + 1, i + 2, ... i + m/2
    number = jnp.arange(texts * (texts - 1) // 2)
    left, right = number % texts, (number + 1 + number // texts) % texts
    scores = inputs.dot(student, student)[left, right]
    aims = inputs.dot(teacher, teacher)[left, right]
    pairs = scores, aims, real[left] & real[right], margin
    if form == "sorted":
        return p.weighted(hinge_sorted(*pairs))
    if form == "blockwise":
        return p.weighted(hinge_blockwise(*pairs, block))
    if form != "sampled":
        raise checks.ArgumentError(
            f"form: expected 'sorted', 'blockwise' or 'sampled', got {form!r}"
        )
    if p.fields.key is None:
        raise missing("key")
    return p.weighted(hinge_sampled(*pairs, samples, p.fields.key))


def _texts(p: inputs.Prepared) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The student's and the teacher's vectors of all texts, queries first, and which are real."""
    vectors = [getattr(p.fields, name) for name in VECTORS]
    checks.check_shape("teacher_document", vectors[1], (None, vectors[0].shape[1]))
    student = jnp.concatenate([p.query, p.document])
    teacher = jax.lax.stop_gradient(jnp.concatenate(vectors)).astype(student.dtype)
    mask = p.fields.query_mask
    queries = jnp.ones(len(p.query), bool) if mask is None else mask
    return student, teacher, jnp.concatenate([queries, p.real_documents])
