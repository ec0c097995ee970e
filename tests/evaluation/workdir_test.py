"""A run measured: what is measured again, a start that is narrower, damaged files, its hits."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from absl.testing import flagsaver
from stub_encoder import StubEncoder
from task_folders import write

from gemb.checks import UserError
from gemb.cli.__main__ import run
from gemb.evaluation.workdir import evaluate_workdir
from gemb.inference.embedder import Embedder
from gemb.reports.terminal import run_table

TEXTS = ["apple pie", "plum cake", "pear juice", "apple cake", "plum juice"]


class Stub(StubEncoder):
    """A model of a run; its vectors are of unit length."""

    def __init__(self, dim, folder=""):
        super().__init__(dim=dim)
        training = {"started_from": "start", "data": {"folder": str(folder)} if folder else {}}
        tower = SimpleNamespace(processor=SimpleNamespace(max_length=8))
        self.model = SimpleNamespace(manifest={"training": training}, seed=0, document=tower)
        self.spec = SimpleNamespace(max_length=8, query_prompt="", document_prompt="")

    def encode(self, texts, *, dim=None, kind="document", progress=""):
        rows = super().encode(texts, kind=kind, progress=progress)[:, :dim]
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def check_dim(self, dim):
        return dim


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "data"
    rows = [json.dumps({"_id": f"d{i}", "text": text}) for i, text in enumerate(TEXTS)]
    write(data / "corpus.jsonl", "\n".join(rows))
    write(data / "queries.jsonl", json.dumps({"_id": "q", "text": "apple cake"}))
    write(data / "qrels" / "test.tsv", "q\td3\t1\n")
    return data


@pytest.fixture
def workdir(tmp_path, folder, monkeypatch):
    models = {"model": Stub(32, folder), "start": Stub(16)}
    monkeypatch.setattr(Embedder, "load", lambda place, **_: models[str(place).split("/")[-1]])
    (tmp_path / "run" / "model").mkdir(parents=True)
    return tmp_path / "run"


def measured(workdir, **options):
    return evaluate_workdir(workdir, approximate=False, plane="none", **options)


@pytest.mark.long
def test_other_judgements_are_measured_anew(workdir, folder, capsys):
    assert measured(workdir)["retrieval"]["trained"]["32"]["ndcg@10"] == 1.0
    assert measured(workdir)["queries"] == 1
    assert "for this model and test set" in capsys.readouterr().out
    write(folder / "qrels" / "test.tsv", "q\td2\t1\n")  # shares no word with the query
    assert measured(workdir)["retrieval"]["trained"]["32"]["ndcg@10"] < 1.0
    (workdir / "results.json").write_text("{cut")
    assert measured(workdir)["queries"] == 1


def test_a_start_that_is_narrower_is_measured_where_it_can_be(workdir):
    found = measured(workdir)["retrieval"]
    assert list(found["trained"]) == ["32", "16"]
    assert list(found["pretrained"]) == ["16"]
    lines = {line.split()[0]: line.split()[1:] for line in run_table(found).splitlines()}
    assert [len(lines[name]) for name in ("bm25", "pretrained", "trained")] == [2, 1, 2]


def test_a_run_of_no_folder_asks_for_one(workdir, monkeypatch):
    monkeypatch.setattr(Embedder, "load", lambda place, **_: Stub(32))
    with pytest.raises(UserError, match="--corpus is required"):
        measured(workdir)


def test_hits_are_shown_by_id_and_text(workdir, capsys):
    with pytest.raises(SystemExit) as left, flagsaver.flagsaver():
        run("search", [f"--workdir={workdir}", "--count=1", "apple cake"])
    said = capsys.readouterr()
    assert left.value.code == 0, said.err
    assert "d3  apple cake" in said.out


def test_the_card_of_the_model_gets_the_results_unless_a_person_wrote_it(workdir):
    card = workdir / "model" / "README.md"
    tree = measured(workdir)
    figures = tree["retrieval"]["trained"]["32"]
    row = "{ndcg@10:.3f} [{ndcg@10_low:.3f}, {ndcg@10_high:.3f}]".format(**figures)
    assert f"| this model | 32 | {row} |" in card.read_text()
    card.unlink()
    measured(workdir)  # read from results.json
    assert f"| this model | 32 | {row} |" in card.read_text()
    card.write_text("# Mine\n")
    measured(workdir, force=True)
    assert card.read_text() == "# Mine\n"
