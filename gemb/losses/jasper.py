"""Jasper's losses: the geometry of a batch of texts, student against teachers, without labels.

Here belong losses on all texts of a batch at once, queries and documents alike: each value belongs
to the batch, and each real row carries it, so that the mean over the rows is the loss. Losses of
one text or one query at a time are in gemb.losses.distillation, as is `concatenate_teachers`.
Except in `jasper_cosine`, the teacher may be of any width: only its similarities are looked at.
"""

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import inputs
from gemb.losses.distillation import matching_teachers
from gemb.losses.ordering import hinge_blocked, hinge_sampled, hinge_sorted


def jasper(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    cosine_weight: float = 10.0,
    similarity_weight: float = 200.0,
    relative_weight: float = 20.0,
    margin: float = 0.015,
    form: str = "sorted",
    block: int = 1024,
    samples: int = 65536,
    teacher_query: jax.Array | None = None,
    teacher_document: jax.Array | None = None,
    key: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Jasper's three losses, weighted: 10 cosine + 200 similarity + 20 relative similarity.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32; only says which queries have a real positive.
        cosine_weight: of `jasper_cosine`; 0 leaves it out, and the widths may then differ.
        similarity_weight: of `similarity`.
        relative_weight: of `relative_similarity`.
        margin: see `relative_similarity`, as for `form`, `block`, `samples` and `key`.
        form: "sorted", "blocked" or "sampled".
        block: pairs at a time.
        samples: pairs of pairs drawn.
        teacher_query: [batch, teacher dim] floats, unit-length rows; required.
        teacher_document: [candidates, teacher dim] floats, unit-length rows; required.
        key: a JAX random key.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats that multiply the rows' values.

    Returns:
        [batch] total, and the terms "cosine", "similarity", "relative" without their weights.

    Raises:
        ValueError: naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> total, terms = jasper(rows, rows, jnp.arange(2), teacher_query=rows,
        ...                       teacher_document=rows)
        >>> sorted(terms)
        ['cosine', 'relative', 'similarity']

    Reference: Zhang et al., Jasper and Stella: distillation of SOTA embedding models, 2024,
        arXiv 2412.19048.
    """
    arrays = {
        "teacher_query": teacher_query,
        "teacher_document": teacher_document,
        "query_mask": query_mask,
        "document_mask": document_mask,
        "weights": weights,
    }
    chosen = {"margin": margin, "form": form, "block": block, "samples": samples, "key": key}
    terms, total = {}, 0.0
    if cosine_weight:
        terms["cosine"] = jasper_cosine(query, document, positive, **arrays)
        total = total + cosine_weight * terms["cosine"]
    if similarity_weight:
        terms["similarity"] = similarity(query, document, positive, **arrays)
        total = total + similarity_weight * terms["similarity"]
    if relative_weight:
        terms["relative"] = relative_similarity(query, document, positive, **chosen, **arrays)
        total = total + relative_weight * terms["relative"]
    checks.check(bool(terms), "cosine_weight: expected some weight above 0, got 0 for every term")
    return total, terms


def jasper_cosine(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    teacher_query: jax.Array | None = None,
    teacher_document: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """The mean over all texts of 1 - student . teacher.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        teacher_query: [batch, dim] floats, unit-length rows; required.
        teacher_document: [candidates, dim] floats, unit-length rows; required.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats that multiply the rows' values.

    Returns:
        [batch], the same value in each real row.

    Raises:
        ValueError: naming the argument at fault; a teacher of another width is one.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> jasper_cosine(rows, rows, jnp.arange(2), teacher_query=rows, teacher_document=-rows)
        Array([1., 1.], dtype=float32)

    Reference: Zhang et al., 2024, arXiv 2412.19048, equation of the cosine loss.
    """
    query, document = inputs.prepare(query, document, positive)
    matching_teachers(query, document, teacher_query, teacher_document)
    student, teacher, real, finish = _texts(
        query,
        document,
        positive,
        teacher_query=teacher_query,
        teacher_document=teacher_document,
        query_mask=query_mask,
        document_mask=document_mask,
        weights=weights,
    )
    cosine = jnp.sum(student * teacher, axis=1)
    return finish(jnp.sum(jnp.where(real, 1 - cosine, 0)) / jnp.maximum(jnp.sum(real), 1))


def similarity(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    teacher_query: jax.Array | None = None,
    teacher_document: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """The mean squared error of all texts' similarities: MSE(S S^T, T T^T).

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        teacher_query: [batch, teacher dim] floats, unit-length rows; required.
        teacher_document: [candidates, teacher dim] floats, unit-length rows; required.
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats that multiply the rows' values.

    Returns:
        [batch], the same value in each real row.

    Raises:
        ValueError: naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows, same = jnp.eye(1), jnp.ones((1, 1))
        >>> similarity(rows, rows, jnp.zeros(1, int), teacher_query=same, teacher_document=-same)
        Array([2.], dtype=float32)

    Reference: Zhang et al., 2024, arXiv 2412.19048, equation of the similarity loss.
    """
    student, teacher, real, finish = _texts(
        query,
        document,
        positive,
        teacher_query=teacher_query,
        teacher_document=teacher_document,
        query_mask=query_mask,
        document_mask=document_mask,
        weights=weights,
    )
    square = jnp.square(inputs.dot(student, student) - inputs.dot(teacher, teacher))
    total = jnp.sum(jnp.where(real[:, None] & real[None, :], square, 0))
    return finish(total / jnp.maximum(jnp.square(jnp.sum(real, dtype=square.dtype)), 1))


def relative_similarity(
    query: jax.Array,
    document: jax.Array,
    positive: jax.Array,
    *,
    margin: float = 0.015,
    form: str = "sorted",
    block: int = 1024,
    samples: int = 65536,
    teacher_query: jax.Array | None = None,
    teacher_document: jax.Array | None = None,
    key: jax.Array | None = None,
    query_mask: jax.Array | None = None,
    document_mask: jax.Array | None = None,
    weights: jax.Array | None = None,
) -> jax.Array:
    """Pairs of texts that the teacher finds nearer shall be nearer, by a margin.

    loss = mean over pairs of pairs (p, n) of max(0, s_n - s_p + margin), p the pair of higher
    teacher similarity; a teacher tie counts as 0. m texts make about m^4 / 8 pairs of pairs.

    Args:
        query: [batch, dim] floats, unit-length rows.
        document: [candidates, dim] floats, unit-length rows.
        positive: [batch] int32.
        margin: in units of the cosine.
        form: "sorted" is exact in m^2 log(m) steps; "blocked" is exact, pair by pair, with memory
            for m^2 * block cells; "sampled" is an unbiased estimate.
        block: pairs at a time, for "blocked".
        samples: pairs of pairs drawn, with replacement, for "sampled".
        teacher_query: [batch, teacher dim] floats, unit-length rows; required.
        teacher_document: [candidates, teacher dim] floats, unit-length rows; required.
        key: a JAX random key, for "sampled".
        query_mask: [batch] bool.
        document_mask: [candidates] bool.
        weights: [batch] floats that multiply the rows' values.

    Returns:
        [batch], the same value in each real row.

    Raises:
        ValueError: naming the argument at fault.

    Example:
        >>> import jax.numpy as jnp
        >>> rows = jnp.eye(2)
        >>> relative_similarity(rows, rows, jnp.arange(2), margin=0.0, teacher_query=rows,
        ...                     teacher_document=rows)
        Array([0., 0.], dtype=float32)

    Reference: Zhang et al., 2024, arXiv 2412.19048, equation of the relative similarity loss.
    """
    student, teacher, real, finish = _texts(
        query,
        document,
        positive,
        teacher_query=teacher_query,
        teacher_document=teacher_document,
        query_mask=query_mask,
        document_mask=document_mask,
        weights=weights,
    )
    texts = student.shape[0]
    number = jnp.arange(
        texts * (texts - 1) // 2
    )  # each pair once: i with i + 1, i + 2, ... i + m/2
    left, right = number % texts, (number + 1 + number // texts) % texts
    scores = inputs.dot(student, student)[left, right]
    aims = inputs.dot(teacher, teacher)[left, right]
    pair = real[left] & real[right]
    if form == "sorted":
        return finish(hinge_sorted(scores, aims, pair, margin))
    if form == "blocked":
        return finish(hinge_blocked(scores, aims, pair, margin, block))
    if form != "sampled":
        raise checks.ArgumentError(f"form: expected 'sorted', 'blocked' or 'sampled', got {form!r}")
    if key is None:
        raise checks.ArgumentError("key: expected a JAX random key to sample with, got None")
    return finish(hinge_sampled(scores, aims, pair, margin, samples, key))


def _texts(query, document, positive, **fields):
    """All texts of the batch, their teachers, which are real, and how to hand out the value."""
    for name in ("teacher_query", "teacher_document"):
        checks.check(fields[name] is not None, f"{name}: expected the teacher's vectors, got None")
    query, document = inputs.prepare(query, document, positive, **fields)
    width = fields["teacher_query"].shape[1]
    checks.check_shape("teacher_document", fields["teacher_document"], (None, width))
    student = jnp.concatenate([query, document])
    teacher = jnp.concatenate([fields["teacher_query"], fields["teacher_document"]])
    teacher = jax.lax.stop_gradient(teacher).astype(student.dtype)
    given = zip((fields["query_mask"], fields["document_mask"]), (query, document), strict=True)
    real = [jnp.ones(len(rows), bool) if mask is None else mask for mask, rows in given]
    paired = inputs.real_rows(positive, fields["query_mask"], fields["document_mask"])
    weight = inputs.row_weights(paired, fields["weights"], student.dtype)
    return student, teacher, jnp.concatenate(real), lambda v: jnp.where(paired, weight * v, 0)
