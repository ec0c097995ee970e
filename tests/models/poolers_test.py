import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb.models.encoders.text import TextSpec
from gemb.models.poolers import LEARNED_POOLERS, POOLERS
from gemb.models.spec import POOLINGS, StackSpec

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(3, 5, 4)).astype(np.float32)
LENGTHS = (5, 3, 1)
EXPECTED = {
    "mean": lambda x: x.mean(0),
    "cls": lambda x: x[0],
    "lasttoken": lambda x: x[-1],
    "max": lambda x: x.max(0),
    "weightedmean": lambda x: np.average(x, axis=0, weights=np.arange(1, len(x) + 1)),
}


def learned(name):
    encoder = TextSpec(vocab=8, positions=5, stack=StackSpec(1, 4, 2, 8))
    heads = {} if name == "map" else {"heads": 2}
    return LEARNED_POOLERS[name](encoder, key=jax.random.key(1), **heads)


def test_every_pooler_is_checked():
    assert EXPECTED.keys() == POOLERS.keys()
    assert {*POOLERS, *LEARNED_POOLERS} == {*POOLINGS}


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", POOLERS)
def test_padding_on_either_side_is_ignored(name, side):
    mask = np.arange(5) < np.array(LENGTHS)[:, None]
    mask = mask if side == "right" else mask[:, ::-1]
    tokens = np.where(mask[..., None], TOKENS, 1e6)  # padding would be seen at once
    pooled = POOLERS[name](jnp.asarray(tokens), jnp.asarray(mask))
    for row, real, vectors in zip(pooled, mask, tokens, strict=True):
        np.testing.assert_allclose(row, EXPECTED[name](vectors[real]), rtol=1e-5)


@pytest.mark.parametrize("name", POOLERS)
def test_a_row_without_tokens_is_zero_and_bf16_comes_back_as_float32(name):
    tokens = jnp.asarray(TOKENS, jnp.bfloat16)
    pooled = POOLERS[name](tokens, jnp.zeros((3, 5), bool))
    assert pooled.dtype == jnp.float32
    assert not np.any(pooled)


@pytest.mark.parametrize("name", LEARNED_POOLERS)
def test_learned_poolers_give_zero_for_a_row_without_tokens(name):
    pooler = learned(name)
    assert not np.any(pooler(jnp.asarray(TOKENS), jnp.zeros((3, 5), bool)))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def linear(layer, x):
    """With biases of its own, so that they count."""
    layer.bias.set_value(jnp.arange(layer.bias.get_value().shape[0]) / 7.0)
    return x @ np.asarray(layer.kernel.get_value(), np.float64) + layer.bias.get_value()


def by_heads(x, heads):
    return x.reshape(len(x), heads, -1).swapaxes(0, 1)


def attention_pool(pooler, x):
    heads = pooler.heads
    query = by_heads(np.asarray(pooler.query.get_value())[None], heads)
    key, value = (by_heads(linear(part, x), heads) for part in (pooler.key, pooler.value))
    weights = softmax(query @ key.swapaxes(1, 2) / np.sqrt(key.shape[-1]))
    return linear(pooler.output, (weights @ value).swapaxes(0, 1).reshape(1, -1))[0]


def latent_attention_pool(pooler, x):
    latents, heads = np.asarray(pooler.latents.get_value()), pooler.heads
    query = by_heads(linear(pooler.query, x), heads)
    key, value = (by_heads(linear(part, latents), heads) for part in (pooler.key, pooler.value))
    mixed = softmax(query @ key.swapaxes(1, 2) / np.sqrt(key.shape[-1])) @ value
    y = x + linear(pooler.output, mixed.swapaxes(0, 1).reshape(len(x), -1))
    inner = np.asarray(jax.nn.gelu(linear(pooler.up, y), approximate=False))
    return (y + linear(pooler.down, inner)).mean(0)


def map_pool(pooler, x):
    heads = pooler.spec.heads
    query = by_heads(linear(pooler.query, np.asarray(pooler.probe.get_value())[None]), heads)
    key, value = (by_heads(linear(part, x), heads) for part in (pooler.key, pooler.value))
    weights = softmax(query @ key.swapaxes(1, 2) / np.sqrt(key.shape[-1]))
    y = linear(pooler.output, (weights @ value).swapaxes(0, 1).reshape(1, -1))
    normed = (y - y.mean()) / np.sqrt(y.var() + pooler.spec.norm_epsilon)
    inner = np.asarray(jax.nn.gelu(linear(pooler.up, normed), approximate=False))
    return (y + linear(pooler.down, inner))[0]


LEARNED = {
    "attention": attention_pool,
    "latent_attention": latent_attention_pool,
    "map": map_pool,
}


@pytest.mark.long
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", LEARNED_POOLERS)
def test_learned_poolers_equal_numpy_under_padding_on_either_side(name, side):
    pooler = learned(name)
    mask = np.arange(5) < np.array(LENGTHS)[:, None]
    mask = mask if side == "right" else mask[:, ::-1]
    expected = [
        LEARNED[name](pooler, x[real].astype(np.float64))
        for x, real in zip(TOKENS, mask, strict=True)
    ]
    tokens = np.where(mask[..., None], TOKENS, 1e3)
    pooled = pooler(jnp.asarray(tokens), jnp.asarray(mask))
    np.testing.assert_allclose(pooled, expected, rtol=1e-4, atol=1e-5)
