"""The border of every loss: which fields it takes, their shapes, and the dtype of the arithmetic.

Here belongs the table of the optional fields and the one function that checks them. What a loss
does with a field does not. Errors come before any arithmetic and name the argument.
"""

import jax
import jax.numpy as jnp

from gemb import checks

# field -> (dtype check, shape as dimension names; None is any size)
FIELDS = {
    "query_id": (checks.check_integer, ("batch",)),
    "document_id": (checks.check_integer, ("candidates",)),
    "query_mask": (checks.check_bool, ("batch",)),
    "document_mask": (checks.check_bool, ("candidates",)),
    "weights": (checks.check_floating, ("batch",)),
    "in_batch": (checks.check_bool, ("batch",)),
    "scores": (checks.check_floating, ("batch",)),
    "guide_query": (checks.check_floating, ("batch", None)),
    "guide_document": (checks.check_floating, ("candidates", None)),
    "teacher_query": (checks.check_floating, ("batch", None)),
    "teacher_document": (checks.check_floating, ("candidates", None)),
    "teacher_scores": (checks.check_floating, ("batch", "candidates")),
    "query_layerwise": (checks.check_floating, ("batch",)),
    "document_layerwise": (checks.check_floating, ("candidates",)),
    "query_layers": (checks.check_floating, (None, "batch", "dim")),
    "document_layers": (checks.check_floating, (None, "candidates", "dim")),
}


def compute_dtype(array) -> jnp.dtype:
    """float64 for float64 arrays, else float32: half precision is never summed in."""
    return jnp.promote_types(array.dtype, jnp.float32)


def prepare(query, document, positive, **fields) -> tuple[jax.Array, jax.Array]:
    """Checks the arguments of an in-batch loss and casts the embeddings.

    Args:
        query: [batch, dim] floats.
        document: [candidates, dim] floats.
        positive: [batch] integers, the index of each query's positive among the candidates.
        **fields: optional arrays by the names of `FIELDS`; None is not looked at.

    Returns:
        query and document in float32 (float64 where they came so).

    Raises:
        ValueError: naming the argument that has the wrong shape or dtype.
    """
    for name, array in (("query", query), ("document", document)):
        checks.check_rank(name, array, 2)
        checks.check_floating(name, array)
    checks.check_shape("document", document, (None, query.shape[1]))
    sizes = {"batch": query.shape[0], "candidates": document.shape[0], "dim": query.shape[1]}
    checks.check_shape("positive", positive, (sizes["batch"],))
    checks.check_integer("positive", positive)
    for name, array in fields.items():
        if array is not None:
            check_dtype, shape = FIELDS[name]
            checks.check_shape(name, array, [sizes.get(size) for size in shape])
            check_dtype(name, array)
    dtype = jnp.promote_types(compute_dtype(query), compute_dtype(document))
    return query.astype(dtype), document.astype(dtype)


def real_rows(positive, query_mask=None, document_mask=None) -> jax.Array:
    """[batch] bool: True where a query and its positive are both real."""
    real = jnp.ones(positive.shape, bool) if query_mask is None else jnp.asarray(query_mask)
    return real if document_mask is None else real & jnp.asarray(document_mask)[positive]


def row_weights(real: jax.Array, weights, dtype) -> jax.Array:
    """[batch] floats: the weight of each real row (1 where none is given), exactly 0 elsewhere."""
    given = jnp.ones(real.shape, dtype) if weights is None else jnp.asarray(weights, dtype)
    return jax.lax.stop_gradient(jnp.where(real, given, 0))


def dot(left: jax.Array, right: jax.Array) -> jax.Array:
    """left [m, dim] times right [n, dim] transposed, at full precision on every device.

    A temperature of 0.01 turns TF32's rounding of a cosine into a tenth of a nat.
    """
    return jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)
