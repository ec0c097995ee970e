"""Every recipe of configs/loss trains with data, teachers and objectives of gemb's own."""

import json
import re
from pathlib import Path

import gin
import numpy as np
import pytest

from gemb import config, losses
from gemb.training.experiment import Experiment
from gemb.training.loop import train

ROOT = Path(__file__).parents[2]
PIECES = sorted((ROOT / "configs" / "loss").glob("*.gin"))
TINY = "@scratch.from_scratch()"
_TEACHERS = "from gemb.models import scratch\nfrom gemb.training.distillation import teachers\n"
_OBJECTIVES = "from gemb.models import scratch\nfrom gemb.training import objectives\n"
_DATA = (
    "from gemb.data import forms\nfrom gemb.data import mixing\nfrom gemb.data import pipeline\n"
    "from gemb.data.sources import reading\n"
)
TEACH = [
    _TEACHERS + "TEACHER = @teachers.live()",
    f"teachers.live.models = ({TINY},)",
]
# What a recipe needs that the quickstart does not have.
NEEDS = {
    "backward_compatible": TEACH,
    "cosine_and_contrast": TEACH,
    "gbce": ["CATALOGUE = 100"],
    "jasper": TEACH,
    "layerwise_and_cosine": [
        _TEACHERS + "TEACHER = @teachers.layerwise()",
        f"teachers.layerwise.model = {TINY}",
    ],
    "nested_similarity": TEACH,
    "ranking_and_contrast": TEACH,
    "class_heads": [
        _OBJECTIVES + "MODEL = @objectives.with_classes()",
        f"objectives.with_classes.model = {TINY}",
        "objectives.with_classes.classes = 3",
        "LABELS = ('red', 'green', 'blue')",
    ],
}
GRADED = ("contrast_and_grades", "cosine_regression")
# Parts of other losses, what is no loss of pairs, and forms.
PARTS = {
    "Blockwise", "Fields", "NO_FIELDS", "Ring", "concatenate_teachers", "evaluate",
    "hidden_state_distance", "jasper_cosine", "relative_similarity",
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    yield
    gin.clear_config()


def records(path):
    """32 records that serve every form: pairs with a negative, a grade and a label."""
    labels = ("red", "green", "blue")
    rows = [
        {
            "query": f"ask {i}", "document": f"tell {i * i}", "negatives": [f"not {i}"],
            "score": (i % 5) / 4, "text": f"{labels[i % 3]} thing {i}", "label": labels[i % 3],
        }
        for i in range(32)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(params=PIECES, ids=lambda path: path.stem)
def recipe(request, tmp_path):
    """(files, params) of a tiny run by that recipe, its weights bound."""
    piece, path = request.param, records(tmp_path / "all.jsonl")
    used = set(re.findall(r"%(\w+_WEIGHT|TEMPERATURE)\b", piece.read_text()))
    bound = "".join(f"{name} = 0.5\n" for name in used)
    (tmp_path / "recipe.gin").write_text(f"{bound}include '{piece}'\n")
    files = [
        "configs/experiments/quickstart.gin",
        "configs/debug.gin",
        str(tmp_path / "recipe.gin"),
    ]
    params = list(NEEDS.get(piece.stem, ()))
    if piece.stem == "class_heads":
        files.append("configs/data/labelled.gin")
        params.append(f"reading.files.paths = '{path}'")
    elif piece.stem in GRADED:
        params += [
            _DATA + "DATA = @pipeline.mixture",
            "pipeline.mixture.tasks = {'graded': @mixing.Task()}",
            "pipeline.mixture.batch_size = %BATCH_SIZE",
            "mixing.Task.records = @reading.files()",
            "mixing.Task.form = @forms.Graded()",
            f"reading.files.paths = '{path}'",
        ]
    else:
        params += [
            f"pipeline.pairs.folder = '{tmp_path}'",
            "pipeline.pairs.rates = {'all': 1}",
            "pipeline.pairs.negatives = 1",
        ]
    return files, params


def test_every_public_loss_has_a_recipe():
    named = {name for path in PIECES for name in re.findall(r"@losses\.(\w+)", path.read_text())}
    assert named == set(losses.__all__) - PARTS


def test_recipe_is_its_own_over_another(recipe):
    """Nothing stays of the loss that the experiment had, which looks both ways."""
    config.load(*recipe)
    own = Path(Path(recipe[0][2]).read_text().split("'")[1]).read_text()
    if "@losses.info_nce" in own:
        symmetric = "losses.info_nce.symmetric = True" in own
        assert gin.query_parameter("losses.info_nce.symmetric") == symmetric


@pytest.mark.slow
def test_recipe_trains_two_steps(recipe, tmp_path):
    mesh = [f"mesh.make_mesh.{axis} = 2" for axis in ("replica", "fsdp", "tensor")]
    files, params = recipe
    if "in_batch_logq" in Path(files[2]).read_text():
        pytest.skip("reads interactions: tests/recommendation/towers_test.py trains it")
    config.load(files, [*params, *mesh, "STEPS = 2"])
    trained, _ = train(Experiment(**config.arguments(Experiment)), tmp_path / "run")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    assert all(np.isfinite(value).all() for value in trained.params.values())
