"""Encoding over several devices: the vectors of one."""

import jax
import numpy as np
import pytest

from gemb.inference.embedder import Embedder
from gemb.models.functional import initial_params
from gemb.models.scratch import from_scratch
from gemb.parallel.placement import place_batch
from gemb.processors.text import of_bytes


@pytest.mark.parametrize("count", [1, 5, 70])
def test_devices_share_the_rows(count, monkeypatch):
    made = from_scratch(of_bytes(32), layers=2, width=16, heads=2, mlp=32, positions=32)
    params = jax.jit(lambda key: initial_params(made.spec, key))(jax.random.key(3))
    made = made.with_params(jax.device_get(params))
    texts = [f"text {number} " * (1 + number % 4) for number in range(count)]
    one = Embedder(made, devices=jax.devices()[:1]).encode(texts)
    held = []

    def placed(tokens, mesh):
        tokens = place_batch(tokens, mesh)
        held.append({len(shard.data) for shard in tokens.ids.addressable_shards})
        return tokens

    monkeypatch.setattr("gemb.inference.encode.place_batch", placed)
    found = Embedder(made, devices=jax.devices()[:8]).encode(texts)
    np.testing.assert_allclose(found, one, atol=1e-6)
    assert all(len(rows) == 1 for rows in held)  # every device as many
    assert count <= 8 * sum(max(rows) for rows in held) <= 2 * max(count, 8)
