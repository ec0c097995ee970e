"""Poolers: (tokens [batch, length, width], mask [batch, length]) -> [batch, width] float32.

POOLERS holds the pure functions, LEARNED_POOLERS the modules with weights, which are made for an
EncoderSpec. Names are those of
sentence-transformers' `pooling_mode`; the learned ones are gemb's own.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.attention import MASKED
from gemb.models.block import ACTIVATIONS
from gemb.models.initial import normal
from gemb.models.layers import Linear, Norm, parameter


def mean_pool(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean over real tokens; a row without real tokens gives 0.

    Example:
        >>> import jax.numpy as jnp
        >>> mean_pool(jnp.array([[[1.], [3.], [9.]]]), jnp.array([[True, True, False]]))
        Array([[2.]], dtype=float32)
    """
    return _weighted(tokens, mask.astype(jnp.float32))


def weighted_mean_pool(
    tokens: jax.Array, mask: jax.Array, real: jax.Array | None = None
) -> jax.Array:
    """The mean over real tokens with weights 1, 2, 3, ...

    If `mask` excludes a prompt, `real` [batch, length] includes it, so that its tokens are counted.

    Reference: Muennighoff, "SGPT", 2022, arXiv 2202.08904.

    Example:
        >>> import jax.numpy as jnp
        >>> weighted_mean_pool(jnp.array([[[1.], [4.], [9.]]]), jnp.array([[True, True, False]]))
        Array([[3.]], dtype=float32)
    """
    place = jnp.cumsum(mask if real is None else real, axis=1)
    return _weighted(tokens, jnp.where(mask, place, 0).astype(jnp.float32))


def first_pool(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """The first real token ([CLS] of BERT), under left and right padding; a row without any: 0."""
    return _or_zero(_take(tokens, jnp.argmax(mask, axis=1)), mask)


def last_pool(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """The last real token, under left and right padding; a row without any gives 0."""
    last = mask.shape[1] - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    return _or_zero(_take(tokens, last), mask)


def max_pool(tokens: jax.Array, mask: jax.Array) -> jax.Array:
    """The maximum over real tokens per coordinate; a row without real tokens gives 0."""
    lowest = jnp.finfo(jnp.float32).min
    top = jnp.where(mask[..., None], tokens.astype(jnp.float32), lowest).max(1)
    return _or_zero(top, mask)


class AttentionPooler(nnx.Module):
    """One learned query attends to the tokens (multi-head attention pooling, MAP).

    Reference: Lee et al., "Set Transformer", 2019, arXiv 1810.00825, with one seed.
    """

    def __init__(self, encoder, *, key: jax.Array, heads: int = 8):
        width, keys = encoder.width, jax.random.split(key, 4)
        self.query = parameter(normal()(keys[0], (width,)), "norm")
        axes = ("width", "heads")
        self.key = Linear(width, width, axes, key=keys[1])
        self.value = Linear(width, width, axes, key=keys[2])
        self.output = Linear(width, width, axes[::-1], key=keys[3])
        self.heads = _heads(width, heads)

    def __call__(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        tokens = tokens.astype(jnp.float32)
        query = self.query.get_value().reshape(self.heads, -1)
        mixed = _mixed(query, self.key(tokens), self.value(tokens), mask)
        return _or_zero(self.output(mixed), mask)


class MapPooler(nnx.Module):
    """A learned probe attends to the tokens through projections, then x + MLP(norm(x)).

    Sizes, activation and epsilon are those of the encoder's stack.

    Reference: Zhai et al., "Scaling Vision Transformers", 2021, arXiv 2106.04560, as in SigLIP.
    """

    def __init__(self, encoder, *, key: jax.Array):
        spec, keys = encoder.stack, jax.random.split(key, 7)
        check(
            spec is not None, "pooling: map takes its sizes from a transformer, and there is none"
        )
        width, axes = spec.width, ("width", "heads")
        self.probe = parameter(normal()(keys[0], (width,)), "norm")
        self.query = Linear(width, width, axes, key=keys[1])
        self.key = Linear(width, width, axes, key=keys[2])
        self.value = Linear(width, width, axes, key=keys[3])
        self.output = Linear(width, width, axes[::-1], key=keys[4])
        self.norm = Norm(width, spec.norm, spec.norm_epsilon, spec.norm_bias)
        self.up = Linear(width, spec.mlp, ("width", "mlp"), key=keys[5])
        self.down = Linear(spec.mlp, width, ("mlp", "width"), key=keys[6])
        self.spec = spec

    def __call__(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        tokens, heads = tokens.astype(jnp.float32), self.spec.heads
        query = self.query(self.probe.get_value()).reshape(heads, -1)
        mixed = _mixed(query, self.key(tokens), self.value(tokens), mask)
        x = self.output(mixed)
        inner = ACTIVATIONS[self.spec.activation](self.up(self.norm(x)))
        return _or_zero(x + self.down(inner), mask)


class LatentAttentionPooler(nnx.Module):
    """Tokens attend to a learned dictionary, then an MLP, then the mean over real tokens.

    Reference: Lee et al., "NV-Embed", 2024, arXiv 2405.17428 (512 latents, 8 heads); here with
        residual connections around attention and MLP.
    """

    def __init__(self, encoder, *, key: jax.Array, latents: int = 512, heads: int = 8):
        width, keys = encoder.width, jax.random.split(key, 7)
        self.latents = parameter(normal()(keys[0], (latents, width)), "positions", "width")
        axes = ("width", "heads")
        self.query = Linear(width, width, axes, key=keys[1])
        self.key = Linear(width, width, axes, key=keys[2])
        self.value = Linear(width, width, axes, key=keys[3])
        self.output = Linear(width, width, axes[::-1], key=keys[4])
        self.up = Linear(width, 4 * width, ("width", "mlp"), key=keys[5])
        self.down = Linear(4 * width, width, ("mlp", "width"), key=keys[6])
        self.heads = _heads(width, heads)

    def __call__(self, tokens: jax.Array, mask: jax.Array) -> jax.Array:
        tokens, latents = tokens.astype(jnp.float32), self.latents.get_value()
        query = _split(self.query(tokens), self.heads)
        key, value = _split(self.key(latents), self.heads), _split(self.value(latents), self.heads)
        scores = jnp.einsum("blhd,khd->bhlk", query, key) * query.shape[-1] ** -0.5
        mixed = jnp.einsum("bhlk,khd->blhd", jax.nn.softmax(scores, axis=-1), value)
        x = tokens + self.output(mixed.reshape(tokens.shape))
        return mean_pool(x + self.down(jax.nn.gelu(self.up(x), approximate=False)), mask)


def _mixed(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array) -> jax.Array:
    """One query [heads, size] over keys and values [batch, length, width]: [batch, width]."""
    heads = query.shape[0]
    key, value = _split(key, heads), _split(value, heads)
    scores = jnp.einsum("hd,blhd->bhl", query, key) * query.shape[1] ** -0.5
    weights = jax.nn.softmax(scores + jnp.where(mask, 0.0, MASKED)[:, None], axis=-1)
    return jnp.einsum("bhl,blhd->bhd", weights, value).reshape(mask.shape[0], -1)


def _weighted(tokens: jax.Array, weight: jax.Array) -> jax.Array:
    total = (tokens.astype(jnp.float32) * weight[..., None]).sum(1)
    return total / jnp.maximum(weight.sum(1), 1e-9)[:, None]


def _or_zero(pooled: jax.Array, mask: jax.Array) -> jax.Array:
    """Zeros for the rows without a real token: an empty text has no direction."""
    return jnp.where(mask.any(1)[:, None], pooled, 0.0)


def _take(tokens: jax.Array, index: jax.Array) -> jax.Array:
    return jnp.take_along_axis(tokens, index[:, None, None], axis=1)[:, 0].astype(jnp.float32)


def _heads(width: int, most: int) -> int:
    """The largest number of heads, at most `most`, that divides the width."""
    return next(heads for heads in range(most, 0, -1) if width % heads == 0)


def _split(x: jax.Array, heads: int) -> jax.Array:
    return x.reshape(*x.shape[:-1], heads, -1)


POOLERS = {
    "mean": mean_pool,
    "weightedmean": weighted_mean_pool,
    "cls": first_pool,
    "lasttoken": last_pool,
    "max": max_pool,
}
LEARNED_POOLERS = {
    "attention": AttentionPooler,
    "latent_attention": LatentAttentionPooler,
    "map": MapPooler,
}
