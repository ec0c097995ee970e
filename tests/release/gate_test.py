"""The gate: a model that is significantly worse than the live one is refused."""

import json

import numpy as np
import pytest
from stub_encoder import StubEncoder
from task_folders import write

from gemb.checks import UserError
from gemb.evaluation.tasks import read_tasks
from gemb.release.gate import check_gate

DIMS = {"new": 16, "live": 16}


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Forty queries, each with some of the words of its document."""
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path / "cache"))
    rng, folder = np.random.default_rng(0), tmp_path / "task"
    documents = [" ".join(rng.choice([f"w{n}" for n in range(80)], 8)) for _ in range(40)]
    rows = [{"_id": f"d{n}", "text": text} for n, text in enumerate(documents)]
    write(folder / "corpus.jsonl", "\n".join(map(json.dumps, rows)))
    asked = [
        {"_id": f"q{n}", "text": " ".join(text.split()[:5])} for n, text in enumerate(documents)
    ]
    write(folder / "queries.jsonl", "\n".join(map(json.dumps, asked)))
    write(folder / "qrels" / "test.tsv", "".join(f"q{n}\td{n}\t1\n" for n in range(40)))
    return read_tasks([str(folder)])


def test_a_worse_model_is_refused(tasks, tmp_path):
    with pytest.raises(
        UserError, match=r"worse than the live one on task: .*the live version stays"
    ):
        check_gate(StubEncoder(noise=30.0), StubEncoder(), tasks, tmp_path / "gate", DIMS)
    assert (tmp_path / "gate" / "report.html").exists()


def test_a_better_or_an_equal_model_passes(tasks, tmp_path):
    for new, live in (
        (StubEncoder(), StubEncoder(noise=30.0)),
        (StubEncoder(seed=1), StubEncoder()),
    ):
        file, figures = check_gate(new, live, tasks, tmp_path / "gate", DIMS)
        assert figures["task"] > 0.5
        tree = json.loads((tmp_path / "gate" / "results.json").read_text())
        assert file.endswith("results.json")
        assert list(tree["models"]) == ["live", "new"]


def test_the_first_release_has_nothing_to_be_compared_with(tasks, tmp_path):
    _, figures = check_gate(StubEncoder(noise=30.0), None, tasks, tmp_path / "gate", DIMS)
    assert 0 <= figures["task"] < 0.5
