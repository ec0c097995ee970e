import jax.numpy as jnp
import numpy as np
import pytest

from gemb.models.poolers import POOLERS

RNG = np.random.default_rng(0)
TOKENS = RNG.normal(size=(3, 5, 4)).astype(np.float32)
LENGTHS = (5, 3, 1)
EXPECTED = {
    "mean": lambda x: x.mean(0),
    "cls": lambda x: x[0],
    "lasttoken": lambda x: x[-1],
    "max": lambda x: x.max(0),
}


def test_every_pooler_is_checked():
    assert EXPECTED.keys() == POOLERS.keys()


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", POOLERS)
def test_padding_on_either_side_is_ignored(name, side):
    mask = np.arange(5) < np.array(LENGTHS)[:, None]
    mask = mask if side == "right" else mask[:, ::-1]
    tokens = np.where(mask[..., None], TOKENS, 1e6)  # padding would be seen at once
    pooled = POOLERS[name](jnp.asarray(tokens), jnp.asarray(mask))
    for row, real, vectors in zip(pooled, mask, tokens, strict=True):
        np.testing.assert_allclose(row, EXPECTED[name](vectors[real]), rtol=1e-6)


@pytest.mark.parametrize("name", POOLERS)
def test_a_row_without_tokens_is_finite_and_bf16_comes_back_as_float32(name):
    tokens = jnp.asarray(TOKENS, jnp.bfloat16)
    pooled = POOLERS[name](tokens, jnp.zeros((3, 5), bool))
    assert pooled.dtype == jnp.float32
    assert np.isfinite(pooled).all()
