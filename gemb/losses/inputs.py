"""The border of every loss: its arguments checked, in the dtype of the arithmetic.

What all losses do with their arguments before and after their own formula. Errors are raised
before any arithmetic and name the argument.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from gemb import checks
from gemb.losses import candidates as masks
from gemb.losses.fields import SHAPES, Fields, missing

ALWAYS = ("query_mask", "document_mask", "weights")  # read by every loss


class Prepared(NamedTuple):
    """The arguments of a loss, checked.

    Attributes:
        query: [batch, dim] float32 (float64 where they came so).
        document: [candidates, dim], likewise.
        positive: [batch] integers.
        fields: those that the loss reads; None elsewhere.
    """

    query: jax.Array
    document: jax.Array
    positive: jax.Array
    fields: Fields

    @property
    def real(self) -> jax.Array:
        """[batch] bool: True where a query and its positive are both real."""
        mask = self.fields.query_mask
        real = jnp.ones(self.positive.shape, bool) if mask is None else mask
        mask = self.fields.document_mask
        return real if mask is None else real & mask[self.positive]

    @property
    def real_documents(self) -> jax.Array:
        """[candidates] bool: True where a document is real."""
        mask = self.fields.document_mask
        return jnp.ones(len(self.document), bool) if mask is None else mask

    @property
    def weights(self) -> jax.Array:
        """[batch] floats: the weight of each real row (1 where none is given), 0 elsewhere."""
        given, dtype = self.fields.weights, self.query.dtype
        given = jnp.ones(self.positive.shape, dtype) if given is None else given.astype(dtype)
        return jax.lax.stop_gradient(jnp.where(self.real, given, 0))

    def temperature(self, option):
        """The field where there is one, else the loss's option."""
        return option if self.fields.temperature is None else self.fields.temperature

    def own_negatives(self) -> tuple[jax.Array, jax.Array]:
        """[batch, negatives]: the places of each query's hard negatives, and which are real."""
        where = masks.negatives_of(self.positive, self.document.shape[0])
        return where, self.real_documents[where]

    def weighted(self, value: jax.Array) -> jax.Array:
        """[batch]: the value of each row times its weight, exactly 0 where a row is not real."""
        return jnp.where(self.real, value * self.weights, 0)


def prepare(
    query,
    document,
    positive,
    fields: Fields | Mapping,
    *,
    reads: Sequence[str] = (),
    needs: Sequence[str] = (),
) -> Prepared:
    """Checks the arguments of a loss, which says here what it reads, and casts the embeddings.

    Args:
        query: [batch, dim] floats.
        document: [candidates, dim] floats.
        positive: [batch] integers, the index of each query's positive among the candidates.
        fields: what the loss was given.
        reads: names of the fields that the loss can use, in addition to `ALWAYS`.
        needs: names of the fields that it cannot do without.

    Returns:
        What the loss works on; a field that is not named here is None there.

    Raises:
        ValueError: naming the argument that is missing or has the wrong shape or dtype.
    """
    for name, array in (("query", query), ("document", document)):
        checks.check_rank(name, array, 2)
        checks.check_floating(name, array)
    checks.check_shape("document", document, (None, query.shape[1]))
    sizes = {"batch": query.shape[0], "candidates": document.shape[0], "dim": query.shape[1]}
    checks.check_shape("positive", positive, (sizes["batch"],))
    checks.check_integer("positive", positive)
    query, document, positive = map(jnp.asarray, (query, document, positive))
    given = Fields.of(fields)
    read = {name: getattr(given, name) for name in (*ALWAYS, *reads, *needs)}
    for name in needs:
        if read[name] is None:
            raise missing(name)
    for name, array in read.items():
        if array is not None and name in SHAPES:
            read[name] = _checked(name, array, sizes)
    dtype = jnp.promote_types(compute_dtype(query), compute_dtype(document))
    return Prepared(query.astype(dtype), document.astype(dtype), positive, Fields(**read))


def _checked(name: str, array, sizes: Mapping[str, int]):
    check_dtype, shape = SHAPES[name]
    array = jnp.asarray(array)
    checks.check_shape(name, array, [sizes.get(size) for size in shape])
    check_dtype(name, array)
    return array


def compute_dtype(array) -> jnp.dtype:
    """float64 for float64 arrays, else float32: half precision is never summed in."""
    return jnp.promote_types(array.dtype, jnp.float32)


def dot(left: jax.Array, right: jax.Array) -> jax.Array:
    """left [m, dim] times right [n, dim] transposed, at full precision on every device.

    A temperature of 0.01 turns TF32's rounding of a cosine into a tenth of a nat.
    """
    return jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)
