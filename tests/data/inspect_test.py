"""`gemb inspect-data` and the data pieces: every form shown, as gin builds it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import gin
import pytest

from gemb import config
from gemb.data.inspection import inspect
from gemb.processors.text import of_bytes
from gemb.structs import Processors
from gemb.training.experiment import Experiment

ROOT = Path(__file__).parents[2]
NUMBERS = ["BATCH_SIZE = 4", "QUERY_LENGTH = 24", "DOCUMENT_LENGTH = 32"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    rows = [
        {"query": f"q{i}", "document": f"d{i}", "negatives": [f"n{i}.{j}" for j in range(i % 5)]}
        for i in range(64)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "data" / "retrieval.jsonl").write_text(text)
    graded = ["query\tdocument\tscore", *(f"a {i}\tb {i}\t{i % 6}" for i in range(16))]
    (tmp_path / "data" / "graded.tsv").write_text("\n".join(graded) + "\n")
    classes = ["text\tlabel", *(f"say {i}\tlabel {i % 3}" for i in range(16))]
    (tmp_path / "data" / "classes.tsv").write_text("\n".join(classes) + "\n")
    (tmp_path / "corpus").mkdir()
    paragraphs = [f"Paragraph {i} begins. It has a middle. Then it ends." for i in range(20)]
    (tmp_path / "corpus" / "a.txt").write_text("\n\n".join(paragraphs))
    yield tmp_path
    gin.clear_config()


def load(piece, *params):
    lines = [
        f"include '{ROOT}/configs/data/{piece}.gin'",
        "from __gin__ import dynamic_registration",
        "from gemb.training import experiment",
        *NUMBERS,
        "experiment.Experiment.data = %DATA",
    ]
    (Path.cwd() / "test.gin").write_text("\n".join(lines) + "\n")
    config.load(["test.gin"], params)
    return gin.get_bindings(Experiment)["data"](Processors(of_bytes(), of_bytes()), 0)


def test_unsupervised_piece(data):
    batches = load("unsupervised", "forms.SpanCorruption.replace = 'drop'")
    shown = inspect(batches, pairs=2, count=30)
    assert "spans                      50.00% " in shown
    assert "== next: 20 of 20 records give pairs, 0 bad, 0 unfit" in shown
    assert "'[CLS] It has a middle. [SEP]" in shown
    assert shown.count("query     '[CLS]") == 6


def test_supervised_piece(data):
    batches = load("supervised")
    shown = inspect(batches, pairs=3, count=30)
    # sqrt(64), sqrt(16), sqrt(16) over their sum
    assert "retrieval                  50.00% " in shown
    assert "graded                     25.00% " in shown
    assert "query     '[CLS] q" in shown
    assert "document  '[CLS] d" in shown
    assert "none (masked)" in shown
    assert "in_batch False" in shown


@pytest.mark.long
def test_the_verb_and_its_mistakes(data):
    (data / "train_stdlib.jsonl").write_text('{"query": "ask", "document": "answer"}\n' * 9)
    (data / "train_packages.jsonl").write_text('{"query": "ask", "document": "ask"}\n')

    def gemb(*arguments):
        quickstart = ["configs/experiments/quickstart.gin", "configs/debug.gin"]
        files = [f"--gin_file={ROOT / name}" for name in quickstart]
        bind = f"--gin_param=pipeline.pairs.folder = '{data}'"
        command = [sys.executable, "-m", "gemb.cli", "inspect-data", *files, bind, *arguments]
        environment = os.environ | {"PYTHONWARNINGS": "ignore"}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    wrong = gemb()
    assert wrong.returncode == 2
    assert "train_packages.jsonl:1: the query equals its document; 1 of 1 records" in wrong.stderr
    assert len(wrong.stderr.strip().splitlines()) == 1
    right = gemb("--gin_param=pipeline.pairs.rates = {'train_stdlib': 1}", "--pairs=1")
    assert right.returncode == 0, right.stderr
    assert "document  '[CLS] answer [SEP]' + 24 padding" in right.stdout
