"""Poolers: (tokens [batch, length, width], mask [batch, length]) -> [batch, width] float32.

A pooler is a pure function named as sentence-transformers' `pooling_mode` names it; POOLERS is the
table that configs and model folders choose from.
"""

import jax
import jax.numpy as jnp


def mean_pool(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean over real tokens; a row without any gives 0.

    Example:
        >>> import jax.numpy as jnp
        >>> mean_pool(jnp.array([[[1.], [3.], [9.]]]), jnp.array([[True, True, False]]))
        Array([[2.]], dtype=float32)
    """
    weight = mask[..., None].astype(jnp.float32)
    total = (tokens.astype(jnp.float32) * weight).sum(1)
    return total / jnp.maximum(weight.sum(1), 1e-9)


def first_pool(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """The first real token ([CLS] of BERT), under left and right padding."""
    return _take(tokens, jnp.argmax(mask, axis=1))


def last_pool(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """The last real token, under left and right padding."""
    return _take(tokens, mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1))


def max_pool(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """The maximum over real tokens, coordinate by coordinate; a row without any gives 0."""
    lowest = jnp.finfo(jnp.float32).min
    top = jnp.where(mask[..., None], tokens.astype(jnp.float32), lowest).max(1)
    return jnp.where(mask.any(1)[:, None], top, 0.0)


def _take(tokens: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(tokens, index[:, None, None], axis=1)[:, 0].astype(jnp.float32)


POOLERS = {"mean": mean_pool, "cls": first_pool, "lasttoken": last_pool, "max": max_pool}
