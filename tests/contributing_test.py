"""README, CONTRIBUTING and BUILD_NOTES name files that exist; recipes and bindings work."""

import re
from pathlib import Path

import gin
import pytest

from gemb import config

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "BUILD_NOTES.md"])
def test_named_paths_exist(page):
    text = (ROOT / page).read_text()
    paths = re.findall(r"`((?:gemb|configs|tests|launch|benchmarks|docs)/[\w./-]+)`", text)
    paths += re.findall(r"\]\(((?!http)[\w./-]+)\)", text)
    assert paths
    for path in paths:
        if not re.search(r"NAME|FAMILY", path):
            assert (ROOT / path).exists(), f"{page} names {path}"


def test_recipes_touch_names_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = {
        "POOLERS": "gemb/models/poolers.py",
        "EXPECTED": "tests/models/poolers_test.py",
        "POOLING_FLAGS": "gemb/pretrained/modules.py",
        "StackSpec": "gemb/models/spec.py",
        "POOLINGS": "gemb/models/spec.py",
        "FAMILIES": "gemb/pretrained/families/__init__.py",
        "VARIANTS": "tests/pretrained/families_test.py",
        "RULES": "gemb/parallel/rules.py",
        "EncoderSpec": "gemb/models/spec.py",
        "Encoder": "gemb/models/encoders/encoder.py",
        "Processor": "gemb/processors/processor.py",
        "Objective": "gemb/training/objectives/objective.py",
        "ensure_harvest": "gemb/datasets/python_code.py",
        "TASK_TYPES": "gemb/evaluation/tasks/registry.py",
        "write_run_page": "gemb/reports/run_page.py",
        "Repeats": "gemb/search/repeats.py",
        "TABLE": "tests/contracts/searchers_test.py",
        "BACKENDS": "tests/store/conftest.py",
        "Rows": "gemb/store/keyed/protocol.py",
        "Baseline": "gemb/recommendation/baselines/baseline.py",
        "_SIMPLE": "gemb/recommendation/folder.py",
        "BASELINES": "gemb/recommendation/baselines/registry.py",
        "SPLITS": "gemb/data/interactions/splits.py",
    }
    for name, file in named.items():
        assert f"`{name}" in text or f"{name}(" in text, name
        assert name in (ROOT / file).read_text(), f"{file} has no {name}"


def test_recipe_for_a_loss_works(monkeypatch):
    """Steps 1 and 5: a new function of the house's signature, bound in gin, is trained with."""
    import gin
    import jax.numpy as jnp

    from gemb import losses

    def cosine_gap(query, document, positive, *, fields=losses.NO_FIELDS):
        assert fields.query_mask is not None
        return 1 - (query * document[positive]).sum(1)

    cosine_gap.__module__ = "gemb.losses"
    monkeypatch.setattr(losses, "cosine_gap", cosine_gap, raising=False)
    gin.clear_config()
    gin.parse_config(
        "from __gin__ import dynamic_registration\nfrom gemb import losses\n"
        "losses.weighted_sum.terms = {'gap': @losses.cosine_gap}\nLOSS = @losses.weighted_sum\n"
    )
    chosen = gin.get_configurable(losses.weighted_sum)
    rows, number = jnp.eye(3), jnp.arange(3)
    value, terms = losses.evaluate(chosen, rows, rows[::-1], number, {"query_mask": number >= 0})
    assert value.tolist() == [1.0, 0.0, 1.0]
    assert list(terms) == ["gap"]
    gin.clear_config()


def test_the_bindings_that_adapt_a_model_bind(tmp_path):
    text = (ROOT / "docs" / "howto" / "models.md").read_text()
    block = re.search(r"^adapt\.load\.model.*?(?=^```)", text, re.DOTALL | re.MULTILINE)
    imports = """from __gin__ import dynamic_registration
from gemb.models import execution
from gemb.pretrained import adapt
"""
    (tmp_path / "readme.gin").write_text(imports + block[0])
    config.load([str(tmp_path / "readme.gin")])
    execution = gin.get_bindings("execution.Execution")
    gin.clear_config()
    assert execution == {"dtype": "bfloat16", "layers": "scan", "remat": "full"}
