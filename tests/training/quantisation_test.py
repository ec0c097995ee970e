"""Weights of eight bits: where they lie, how they learn, and that a run ends on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb.training.quantisation import int8_weights

RNG = np.random.default_rng(0)
PARAMS = {
    "text/up/kernel": RNG.normal(size=(6, 5)).astype(np.float32),
    "text/token/table": RNG.normal(size=(7, 4)).astype(np.float32),
    "text/norm/scale": RNG.normal(size=4).astype(np.float32),
    "text/zero/kernel": np.zeros((2, 2), np.float32),
}


@pytest.mark.long
def test_weights_are_whole_steps_of_their_channel():
    found = int8_weights(PARAMS)
    for path, axis in (("text/up/kernel", 0), ("text/token/table", 1)):
        step = np.abs(PARAMS[path]).max(axis, keepdims=True) / 127
        levels = np.asarray(found[path]) / step
        np.testing.assert_allclose(levels, np.round(levels), atol=1e-3)
        assert np.abs(levels).max() <= 127.001
        assert np.all(np.abs(found[path] - PARAMS[path]) <= step / 2 * 1.001)
        assert not np.array_equal(found[path], PARAMS[path])
    for path in ("text/norm/scale", "text/zero/kernel"):
        np.testing.assert_array_equal(found[path], PARAMS[path])
    for path, again in int8_weights(found).items():
        np.testing.assert_allclose(again, found[path], atol=1e-6)


@pytest.mark.long
def test_the_gradient_is_that_of_the_weights_as_rounded():
    x = jnp.asarray(RNG.normal(size=(3, 6)), jnp.float32)

    def value(params):
        return jnp.sum(jnp.square(x @ int8_weights(params)["text/up/kernel"]))

    found = jax.grad(value)(PARAMS)["text/up/kernel"]
    rounded = np.asarray(int8_weights(PARAMS)["text/up/kernel"])
    np.testing.assert_allclose(found, 2 * x.T @ (x @ rounded), rtol=1e-5)  # d/dw of (x w)^2
