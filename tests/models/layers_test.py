"""Dropout and products of rounded operands. The families hold the rest of layers.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb.models.layers import Linear, dropout, rounded_matmul

KEY = jax.random.key(0)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_asked_share_is_dropped_and_the_mean_stays(rate):
    x = jnp.ones((512, 1024))
    y = np.asarray(dropout(x, rate, KEY))
    error = 5 * np.sqrt(rate * (1 - rate) / x.size)  # five standard errors of a share
    assert np.mean(y == 0) == pytest.approx(rate, abs=error)
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - rate))}


def test_masks_of_other_keys_rows_and_columns_are_uncorrelated():
    def mask(key):
        return np.asarray(dropout(jnp.ones((400, 500)), 0.3, key) == 0, np.float64) - 0.3

    one = mask(KEY)
    others = [mask(jax.random.fold_in(KEY, i)) for i in range(3)]
    others += [np.roll(one, shift, axis) for axis in (0, 1) for shift in (1, 2, 4, 128)]
    bound = 5 * 0.3 * 0.7 / np.sqrt(one.size)
    assert np.mean(one * one) > 0.2
    for other in others:
        assert abs(np.mean(one * other)) < bound


def test_the_mask_is_that_of_one_device_on_any_mesh_and_in_the_gradient():
    mesh = jax.make_mesh((8,), ("data",))
    spread = jax.NamedSharding(mesh, jax.P("data"))
    x = jnp.ones((16, 64))
    here = dropout(x, 0.4, KEY)
    there = jax.jit(lambda x: dropout(x, 0.4, KEY), in_shardings=spread, out_shardings=spread)(x)
    np.testing.assert_array_equal(here, there)
    slope = jax.grad(lambda x: dropout(x, 0.4, KEY).sum())(x)
    np.testing.assert_array_equal(slope, here)


def test_no_key_or_no_rate_leaves_the_array():
    x = jnp.arange(5.0)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, KEY) is x


@pytest.mark.parametrize("shape", [(5, 64), (3, 5, 64)])
def test_a_product_of_rounded_operands_is_summed_in_float32_and_so_are_its_gradients(shape):
    keys = jax.random.split(KEY, 3)
    x, kernel = jax.random.normal(keys[0], shape), jax.random.normal(keys[1], (64, 32))
    weight = jax.random.normal(keys[2], (*shape[:-1], 32))

    def rounded(array):
        return np.asarray(array.astype(jnp.bfloat16), np.float64)

    def flat(array):
        return array.reshape(-1, array.shape[-1])

    y, back = jax.vjp(rounded_matmul, x, kernel)
    of_x, of_kernel = back(weight)
    assert {a.dtype for a in (y, of_x, of_kernel)} == {np.dtype("float32")}
    np.testing.assert_allclose(y, rounded(x) @ rounded(kernel), atol=2e-5)
    np.testing.assert_allclose(of_x, rounded(weight) @ rounded(kernel).T, atol=2e-5)
    expected = flat(rounded(x)).T @ flat(rounded(weight))
    np.testing.assert_allclose(of_kernel, expected, atol=2e-5)


def test_a_linear_map_rounds_its_low_rank_part_too():
    linear = Linear(16, 8, ("width", "mlp"), key=KEY, lora_rank=2, lora_scale=0.5)
    linear.lora_b.set_value(jax.random.normal(KEY, (2, 8)))
    x = jax.random.normal(KEY, (4, 16))
    exact, near = np.asarray(linear(x)), np.asarray(linear(x, "bfloat16"))
    assert 0 < np.abs(near - exact).max() < 0.02 * np.abs(exact).max()
