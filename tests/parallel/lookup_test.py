"""Tables over devices: 8 devices give what one gives, and that is what numpy gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb.parallel import lookup
from gemb.training.row_optimizers import RowAdagrad, make_table_step

ROWS, DIM = 40, 6
IDS = np.array([[3, 9, 3, 39], [9, 3, 0, 17], [17, 1, 2, 3], [8, 8, 8, 8]], np.int32)


def mesh(devices):
    shape = {1: (1, 1, 1), 4: (2, 2, 1), 8: (2, 2, 2)}[devices]
    return jax.make_mesh(
        shape, ("replica", "fsdp", "tensor"),
        axis_types=(jax.sharding.AxisType.Auto,) * 3, devices=jax.devices()[:devices],
    )  # fmt: skip


def table(seed=0):
    return np.random.default_rng(seed).normal(size=(ROWS, DIM)).astype(np.float32)


def weights(shape, seed=1):
    return np.random.default_rng(seed).normal(size=(*shape, DIM)).astype(np.float32)


def loss(vectors, rest):
    return jnp.sum(jnp.tanh(vectors) * rest)


def by_numpy(rows, ids, rest, rate, steps):
    """Row-wise Adagrad in float64; gradients of equal ids are summed before they are squared."""
    rows, state = rows.astype(np.float64), np.zeros(ROWS)
    for _ in range(steps):
        total = np.zeros((ROWS, DIM))
        np.add.at(total, ids.ravel(), ((1 - np.tanh(rows[ids]) ** 2) * rest).reshape(-1, DIM))
        touched = np.unique(ids)
        state[touched] += np.mean(total[touched] ** 2, axis=1)
        rows[touched] -= rate * total[touched] / np.sqrt(state[touched] + 1e-8)[:, None]
    return rows, state


def trained(devices, ids=IDS, steps=3):
    over = mesh(devices)
    optimizer = RowAdagrad(0.1)
    step = make_table_step(loss, optimizer, over)
    rows = lookup.spread_rows(jnp.asarray(table()), over)
    state = jax.device_put(optimizer.init(rows), lookup.table_sharding(over))
    for _ in range(steps):
        rows, state, value = step(rows, state, jnp.asarray(ids), weights(ids.shape))
    assert len(rows.sharding.device_set) == devices
    return (
        np.asarray(lookup.gathered_rows(rows, over)),
        np.asarray(lookup.gathered_rows(state[:, None], over))[:, 0],
        float(value),
    )


@pytest.mark.parametrize("devices", [1, 4, 8])
def test_rows_are_updated_as_numpy_does_it(devices):
    rows, state, _ = trained(devices)
    expected, sums = by_numpy(table(), IDS, weights(IDS.shape), 0.1, 3)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=2e-6)
    np.testing.assert_allclose(state, sums, rtol=2e-6, atol=1e-6)
    untouched = np.setdiff1d(np.arange(ROWS), IDS)
    np.testing.assert_array_equal(rows[untouched], table()[untouched])


def test_eight_devices_equal_one():
    one, eight = trained(1), trained(8)
    np.testing.assert_allclose(eight[0], one[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(eight[1], one[1], rtol=1e-6, atol=1e-6)
    assert abs(one[2] - eight[2]) < 1e-5


@pytest.mark.parametrize("shape", [(4, 4), (3, 1)])
def test_taken_vectors_are_the_rows(shape):
    over, ids = mesh(8), np.arange(np.prod(shape), dtype=np.int32).reshape(shape) * 3 - 3
    rows = lookup.spread_rows(jnp.asarray(table()), over)
    taken = jax.jit(lambda rows, ids: lookup.take(rows, ids, over))(rows, ids)
    inside = (ids >= 0) & (ids < ROWS)
    expected = np.where(inside[..., None], table()[np.clip(ids, 0, ROWS - 1)], 0)
    np.testing.assert_array_equal(np.asarray(taken.vectors)[np.asarray(taken.place)], expected)


def test_traffic_is_that_of_the_batch_and_never_the_table():
    over = mesh(8)
    rows = jax.ShapeDtypeStruct((80_000, DIM), jnp.float32, sharding=lookup.table_sharding(over))
    ids = jax.ShapeDtypeStruct((16,), jnp.int32)
    text = jax.jit(lambda rows, ids: lookup.take(rows, ids, over)).lower(rows, ids).compile()
    text = text.as_text()
    assert "all-gather" not in text or "80000" not in text
    assert "reduce-scatter" in text or "all-reduce" in text


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="41 rows do not divide over 8 devices; fill it up to 48"):
        lookup.spread_rows(jnp.zeros((41, 2)), mesh(8))
    with pytest.raises(ValueError, match="rate: expected above 0"):
        make_table_step(loss, RowAdagrad(0.0), mesh(1))
