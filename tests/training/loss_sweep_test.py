"""Every published recipe of configs/loss trains, gradient-cached, on a mesh of all three axes."""

import dataclasses
import re
from pathlib import Path

import gin
import numpy as np
import pytest

from gemb import config
from gemb.processors.padding import pad
from gemb.structs import Batch
from gemb.tokenizers.tokenizer import Tokenizer, byte_tokenizer_json
from gemb.training.experiment import Experiment
from gemb.training.loop import train

ROOT = Path(__file__).parents[2]
PIECES = sorted((ROOT / "configs" / "loss").glob("*.gin"))
DIM, ROWS, NEGATIVES = 32, 16, 1


class TaughtBatches:
    """Pairs with one hard negative, and with the vectors of a guide and a teacher."""

    def __init__(self):
        self.description = {"folder": "made here", "fingerprint": "0"}
        self._rng = np.random.default_rng(0)

    def __next__(self) -> Batch:
        tokenizer = Tokenizer(byte_tokenizer_json(), 12)
        candidates = ROWS * (1 + NEGATIVES)
        numbers = self._rng.integers(0, 1000, candidates)
        query = pad(tokenizer.encode([f"ask {n}" for n in numbers[:ROWS]]), 12)
        document = pad(tokenizer.encode([f"{n} answer" for n in numbers]), 12)
        fields = {}
        for side, rows in (("query", ROWS), ("document", candidates)):
            vectors = self._rng.normal(size=(rows, DIM)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            fields |= {f"guide_{side}": vectors, f"teacher_{side}": vectors}
            fields[f"{side}_layerwise"] = self._rng.uniform(size=rows).astype(np.float32)
        fields["scores"] = self._rng.uniform(size=ROWS).astype(np.float32)
        ids = np.arange(candidates, dtype=np.int32)
        real = np.ones(candidates, bool)
        return Batch(query, document, ids[:ROWS], ids[:ROWS], ids, real[:ROWS], real, fields)

    def get_state(self):
        return {"batches": 0}


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    yield
    gin.clear_config()


@pytest.fixture(params=PIECES, ids=lambda path: path.stem)
def recipe(request, tmp_path):
    """The files of a tiny run by that recipe, its weights bound."""
    used = set(re.findall(r"%(\w+_WEIGHT)\b", request.param.read_text()))
    bound = "".join(f"{name} = 0.5\n" for name in used)
    (tmp_path / "recipe.gin").write_text(f"{bound}include '{request.param}'\n")
    base = ["configs/experiments/quickstart.gin", "configs/debug.gin"]
    return [*base, str(tmp_path / "recipe.gin")]


def test_recipe_is_its_own_over_another(recipe):
    """Nothing stays of the loss that the experiment had, which looks both ways."""
    config.load(recipe)
    own = Path(Path(recipe[-1]).read_text().split("'")[1]).read_text()
    if "@losses.info_nce" in own:
        symmetric = "losses.info_nce.symmetric = True" in own
        assert gin.query_parameter("losses.info_nce.symmetric") == symmetric


@pytest.mark.slow
def test_recipe_trains_two_steps(recipe, tmp_path):
    mesh = [f"mesh.make_mesh.{axis} = 2" for axis in ("replica", "fsdp", "tensor")]
    config.load(recipe, [*mesh, "scratch.from_scratch.layers = 1", "STEPS = 2"])
    made = Experiment(**config.arguments(Experiment) | {"data": lambda *_: TaughtBatches()})
    made = dataclasses.replace(made, query_microbatches=2, document_microbatches=2)
    trained, _ = train(made, tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert all(np.isfinite(value).all() for value in trained.params.values())
