"""The Python door: the README's lines, whatever holds pairs, and mistakes in one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from task_folders import house

import gemb
from gemb import config
from gemb.checks import UserError
from gemb.data.given import given_pairs
from gemb.models.functional import initial_params
from gemb.models.scratch import from_scratch
from gemb.pretrained import saving
from gemb.processors.text import of_bytes
from gemb.training.experiment import Experiment

ROOT = Path(__file__).parents[1]
PAIRS = [(f"ask {i}", f"tell {i * i}") for i in range(16)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A saved model of MiniLM's width, so that the README's widths fit."""
    import jax

    folder = tmp_path_factory.mktemp("base") / "model"
    made = from_scratch(of_bytes(48), layers=1, width=384, heads=12, mlp=64)
    drawn = jax.jit(lambda key: initial_params(made.spec, key))(jax.random.key(0))
    saving.save(made.with_params(jax.device_get(drawn)), folder)
    return folder


AFTERWARDS = """
assert tuned.widths == (384, 96) and documents.shape == (3, 96)
assert gemb.load("my-model").fingerprint == tuned.fingerprint
same = gemb.train(model, pairs, loss="info_nce", widths=(384, 96), workdir="runs/mine")
assert same.fingerprint == tuned.fingerprint
try:
    gemb.train(model, pairs[:2], widths=(384, 96), workdir="runs/mine")
except gemb.checks.UserError as error:
    print(error)
"""


@pytest.mark.long
def test_the_readmes_lines(base, tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    [block] = re.findall(r"```python\n(import gemb\n.*?gemb\.evaluate.*?)```", text, re.DOTALL)
    house(tmp_path / "tasks")
    block = block.replace("all-MiniLM-L6-v2", str(base)).replace('"DIR"', '"tasks"')
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1", "GEMB_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", block + AFTERWARDS], cwd=tmp_path, capture_output=True, text=True,
        check=False, env=environment | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the run is finished" in done.stdout
    assert "holds another experiment" in done.stdout
    results = json.loads((tmp_path / "runs/mine-report/results.json").read_text())
    assert set(results["models"]) == {"model"}
    assert (tmp_path / "runs/mine-report/report.html").exists()
    # the config alone gives the same experiment
    config.load([str(tmp_path / "runs/mine/config.gin")])
    made = Experiment(**config.arguments(Experiment))
    assert (made.steps, made.spec.widths) == (1, (384, 96))


def test_whatever_holds_pairs_gives_the_same_records():
    import pyarrow

    expected = [{"query": query, "document": document} for query, document in PAIRS]
    rows = [{"question": query, "answer": document} for query, document in PAIRS]
    columns = {"query": "question", "document": "answer"}
    assert given_pairs(PAIRS).records == expected
    assert given_pairs(expected).records == expected
    assert given_pairs(rows, columns).records == expected
    assert given_pairs(pyarrow.Table.from_pylist(rows), columns).records == expected
    assert given_pairs(iter(PAIRS)).records == expected
    negatives = given_pairs([(*pair, "none", "nothing") for pair in PAIRS])
    assert negatives.negatives == 2
    assert negatives.records[0]["negatives"] == ["none", "nothing"]
    assert given_pairs(PAIRS).name != negatives.name


def test_a_pandas_table_gives_the_same_records():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(PAIRS, columns=["query", "document"])
    assert given_pairs(table).records == given_pairs(PAIRS).records


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "pairs: there are no pairs"),
        (PAIRS[:1], "there is one pair, and each needs others"),
        ([PAIRS[0], {"query": "a", "document": "b"}], "either tuples or dicts, got both"),
        ([{"question": "a", "answer": "b"}] * 2, "there is no column 'query', only 'question'"),
        ([("a", 3)] * 2, r"pairs\[0\]: the field .document. must be a text, got int"),
        ([PAIRS[0], ("a", "a")], r"pairs\[1\]: the query equals its document"),
        ([PAIRS[0], ("a",)], r"pairs\[1\]: expected \(query, document\).* got 1 texts"),
        ("some text", "expected a list of .* got str"),
        (7, "expected a sequence of records, got int"),
        ([PAIRS[0], "text"], r"pairs\[1\]: expected .* or a dict, got str"),
    ],
)
def test_pairs_that_do_not_fit_are_one_line(pairs, message):
    with pytest.raises(UserError, match=message):
        given_pairs(pairs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "triplet"}, "loss: triplet: document: expected hard negatives"),
        ({"loss": "cosent"}, "loss: cosent: scores"),
        ({"loss": "infonce"}, "got 'infonce'. Did you mean info_nce?"),
        ({"widths": (384, 999)}, "widths: expected widths between 1 and 384, got 999"),
        ({"batch_size": 99}, "batch_size: expected 2 to 16"),
        ({"learning_rate": 0.0}, "learning_rate: expected a number above 0"),
        ({"workdir": "gs://bucket/run"}, "workdir: gs://bucket/run is not a local folder"),
        ({"bindings": ["adapt.load.widht = 3"]}, "has no parameter 'widht'"),
    ],
)
def test_settings_that_do_not_fit_leave_no_folder(base, tmp_path, settings, message):
    workdir = tmp_path / "run"
    with pytest.raises(UserError, match=message):
        gemb.train(str(base), PAIRS, **{"workdir": workdir} | settings)
    assert not workdir.exists()


@pytest.mark.long
def test_a_changed_model_is_saved_with_the_run(base, tmp_path):
    model = gemb.load(str(base)).with_prompts({"query": "ask: "})
    tuned = gemb.train(model, PAIRS, workdir=tmp_path / "run", steps=1)
    assert gemb.load(str(tmp_path / "run" / "start")).fingerprint == model.fingerprint
    assert tuned.model.query.processor.prompts.query == "ask: "
