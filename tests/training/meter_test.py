"""Model FLOPs utilisation: useful FLOPs by formula, over the peak of the chips."""

import types

import jax
import numpy as np
import pytest
from tqdm import tqdm

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.structs import Batch, Tokens
from gemb.training.meter import Meter
from gemb.training.planning.shapes import encoder_flops, shapes_of


def test_utilisation_is_useful_flops_over_the_peak(monkeypatch):
    """A transformer's forward pass takes 2 FLOPs a weight and token beside its attention."""
    width, length, rows = 256, 32, 8
    stack = StackSpec(2, width, 4, 4 * width, norm_place="post")
    spec = ModelSpec.of(TowerSpec(TextSpec(100, 64, stack, length_limit=64)))
    weights = 2 * (4 * width * width + 2 * width * 4 * width)
    attention = 2 * 2 * 2 * width * length
    one_side = rows * length * (2 * weights + attention)

    def shapes(count):
        ids = np.ones((count, length), np.int32)
        return shapes_of(Tokens(ids, ids > 0))

    found = encoder_flops(spec, shapes(rows), shapes(2 * rows))
    assert found == pytest.approx(3 * 3 * one_side, rel=0.001)  # 3 passes; 1 + 2 sides' rows

    monkeypatch.setattr("gemb.training.meter.peak_flops", lambda kind: 1e12)
    watcher = types.SimpleNamespace(look_at=lambda *_: None)
    meter = Meter(tqdm(disable=True), None, watcher, spec, make_mesh(devices=jax.devices()[:1]))
    tokens = Tokens(np.ones((rows, length), np.int32), np.ones((rows, length), bool))
    batch = Batch(tokens, tokens, *[np.arange(rows)] * 5)
    row = meter.read(1, batch, {"loss": 1.0})
    flops = 3 * 2 * one_side * row["pairs_per_second"] / rows
    assert row["mfu"] == pytest.approx(flops / 1e12, rel=0.001)
    assert row["model_tflops_per_second"] == pytest.approx(row["mfu"])
