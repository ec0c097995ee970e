"""Every loss piece of configs/ gives each query a finite loss."""

import functools
import re
from pathlib import Path

import gin
import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest

from gemb import losses

PIECES = sorted((Path(__file__).parents[2] / "configs" / "loss").glob("*.gin"))


@pytest.fixture(autouse=True)
def _clean():
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.mark.parametrize("path", PIECES, ids=lambda path: path.stem)
def test_piece_gives_a_finite_loss(path):
    text = path.read_text()
    assert text.startswith("# LOSS: ")
    assert "arXiv" in text.split("from __gin__")[0]
    macros = set(re.findall(r"%(\w+_WEIGHT|TEMPERATURE)\b", text))
    weights = "".join(f"{name} = 0.5\n" for name in macros)
    numbers = "WIDTHS = (8, 4)\nWIDTH_WEIGHTS = (1.0, 0.5)\nCATALOGUE = 1000\n"
    gin.parse_config(f"{numbers}{weights}{text}")
    loss = gin.query_parameter("LOSS/gin.macro.value").scoped_configurable_fn
    batch = reference.make(dim=8, dtype=np.float32)
    arrays = [batch.pop(name) for name in ("query", "document", "positive")]
    del batch["in_batch"]
    for role in ("guide", "teacher"):
        batch[f"{role}_query"] = jnp.roll(arrays[0], 1, axis=0)
        batch[f"{role}_document"] = jnp.roll(arrays[1], 1, axis=0)
    for side, array in zip(("query", "document"), arrays, strict=False):
        batch[f"{side}_layerwise"] = jnp.ones(len(array), jnp.float32)
        batch[f"{side}_layers"] = jnp.roll(array, 1, axis=0)[None]
    batch["scores"] = jnp.linspace(0, 1, 6)
    if path.stem == "in_batch_logq":
        batch["log_q"] = jnp.full(len(arrays[1]), -1.0)
    run = functools.partial(losses.evaluate, loss)
    value, terms = jax.jit(run)(*arrays, batch)
    assert value.shape == (6,)
    assert np.all(np.isfinite(value))
    # uniformity is the logarithm of a mean below 1
    assert value.sum() > 0 or path.stem == "align_and_uniform"
    assert sorted(terms) == {
        "align_and_uniform": ["alignment", "uniformity"],
        "global_orthogonal": ["contrast", "spread"],
        "embedding_gemma": ["contrast", "spread"],
        "jasper": ["cosine", "relative", "similarity"],
        "cosine_and_contrast": ["contrast", "cosine"],
        "layerwise_and_cosine": ["cosine", "layerwise"],
        "nested_similarity": ["contrast", "pairs", "ranking", "similarity"],
        "ranking_and_contrast": ["contrast", "ranking"],
        "contrast_and_grades": ["contrast", "grades"],
    }.get(path.stem, [])
