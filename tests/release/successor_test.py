"""What a new version says of itself: canaries, drift and a comparison with the live one."""

import json
import shutil

import numpy as np
import pytest
from words import WordEncoding

from gemb.analysis import successor
from gemb.checks import UserError
from gemb.cli.__main__ import run
from gemb.inference.canaries import Canaries
from gemb.release.encoding import ModelEncoding
from gemb.release.refresh import refresh

WORDS = [f"{a}{b}" for a in ("ra", "to", "mi", "ku", "le") for b in ("n", "s", "t", "d", "v")]


def drawn(count, seed, words):
    rng = np.random.default_rng(seed)
    return {f"{words[0]}{seed}-{i}": " ".join(rng.choice(words, 6)) for i in range(count)}


def versions(store, capsys):
    with pytest.raises(SystemExit):
        run("versions", [str(store.folder)])
    return capsys.readouterr().out


@pytest.mark.long
def test_reports_of_a_refresh(store, encoding, corpus_of, capsys):
    old = drawn(300, 0, WORDS)
    first = refresh(store, encoding, {"documents": corpus_of(old)}, say=str)
    assert store.open(first).about["since_live"] == {}
    new = old | drawn(100, 1, ["zebra", "giraffe", "okapi", "lemur"])
    second = refresh(store, encoding, {"documents": corpus_of(new)}, say=str)
    opened = store.open(second)
    folder, since = opened.folder / successor.REPORTS, opened.about["since_live"]
    assert since["live"] == f"version {first}"
    assert since["drift"].startswith("drift (")
    assert since["overlap"] == 1.0  # the shared documents did not change
    tree = json.loads((folder / "drift.json").read_text())
    assert tree["rows"] == 100
    assert {"zebra", "giraffe", "okapi", "lemur"} & {*tree["topics"][0]["words"]}
    assert "zebra" in (folder / "drift.html").read_text()
    assert json.loads((folder / "comparison.json").read_text())["items"] == 300
    assert (folder / "comparison.html").exists()
    said = versions(store, capsys)
    assert "drift: drift (" in said
    assert "overlap@10 of neighbours 1.000" in said
    same = new | drawn(45, 2, WORDS) | drawn(15, 3, ["zebra", "giraffe", "okapi", "lemur"])
    third = refresh(store, encoding, {"documents": corpus_of(same)}, say=str)
    assert store.open(third).about["since_live"]["drift"].startswith("no drift")


def test_another_model_is_compared_and_its_new_documents_are_judged(store, corpus_of):
    old = drawn(200, 0, WORDS)
    refresh(store, WordEncoding(0), {"documents": corpus_of(old)}, say=str)
    new = {"documents": corpus_of(old | {"x": "one more"})}
    made = refresh(store, WordEncoding(1, dim=12), new, say=str)
    since = store.open(made).about["since_live"]
    assert since["drift"] == "not judged: 1 new next to 200 known documents are too few"
    assert 0 < since["overlap"] < 0.9


def test_few_documents_are_said_to_be_few(tmp_path):
    one = successor.Collection("a", ["x"], ["text"], np.ones((1, 4), np.float32))
    found = successor.attach_reports(tmp_path, one, one)
    assert found["drift"] == "no document came or changed"
    assert found["comparison"] == "not measured: 1 shared documents are too few"


@pytest.mark.long
def test_canaries_are_written_and_broken_ones_stop_publication(
    store, tiny_models, corpus_of, tmp_path
):
    shutil.copytree(tiny_models[0], tmp_path / "model")
    encoding = ModelEncoding(str(tmp_path / "model"))
    first = refresh(store, encoding, {"documents": corpus_of(drawn(20, 0, WORDS))}, say=str)
    kept = store.open(first).folder / "model"
    assert store.open(first).about["canaries"] == "written"
    known = Canaries.read(kept)
    assert len(known.texts) == 32
    assert known.check(encoding.full).cosine == pytest.approx(1, abs=1e-5)
    more = {"documents": corpus_of(drawn(25, 0, WORDS))}
    second = refresh(store, encoding, more, say=str)
    assert store.open(second).about["canaries"] == "unchanged"
    assert Canaries.read(store.open(second).folder / "model") is not None
    known._replace(vectors=known.vectors[::-1].copy()).write(tmp_path / "model")
    with pytest.raises(UserError, match="Nothing was published") as raised:
        refresh(store, encoding, {"documents": corpus_of(drawn(30, 0, WORDS))}, say=str)
    assert "\n" not in str(raised.value)
    assert [each.version for each in store.versions() if each.state == "live"] == [second]
    known._replace(fingerprint="other").write(tmp_path / "model")
    with pytest.raises(UserError, match="canaries of the model with fingerprint other"):
        refresh(store, encoding, {"documents": corpus_of(drawn(30, 0, WORDS))}, say=str)
