"""The verbs as they are called, flags to files."""

import importlib
import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from word_encoder import WordEncoder

from gemb.checks import UserError
from gemb.cli import dedup, filter, mine, split
from gemb.cli.__main__ import reset_flags
from gemb.inference.embedder import Embedder

MODELS = {"first": WordEncoder(), "second": WordEncoder(seed=5)}


@pytest.fixture(autouse=True)
def _models(monkeypatch):
    monkeypatch.setattr(Embedder, "load", lambda name: MODELS[name])
    with flagsaver.flagsaver():
        yield


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    rng, file = np.random.default_rng(0), tmp_path_factory.mktemp("verbs") / "rows.jsonl"
    words = [f"w{n}" for n in range(50)]
    documents = [" ".join(rng.choice(words, 9)) for _ in range(30)]
    documents.append(documents[0].upper() + ".")
    rows = [{"ask": f"{d[:11]} q{i}", "text": d} for i, d in enumerate(documents)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "broken\n")
    return file


def call(verb, *arguments):
    reset_flags()
    verb = importlib.reload(verb)  # other verbs have flags of the same names
    return verb.main(flags.FLAGS(["gemb", *map(str, arguments)])[1:])


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("more", [[], ["--rescore_model=second", "--choose=sampled"]])
def test_mine(path, tmp_path, more, capsys):
    named = ("--query_column=ask", "--document_column=text", "--search=exact")
    with pytest.raises(UserError, match=r"rows\.jsonl:32: broken JSON"):
        call(mine, f"--pairs={path}", "--model=first", f"--output={tmp_path}", *named)
    call(
        mine, f"--pairs={path}", "--model=first", f"--output={tmp_path}", *named, *more,
        "--count=2", "--max_bad_fraction=0.1",
    )  # fmt: skip
    rows = lines(tmp_path / "pairs.jsonl")
    assert len(rows) == 31
    assert all({"query", "document", "negatives", "ask"} <= row.keys() for row in rows)
    assert max(len(row["negatives"]) for row in rows) == 2
    assert json.loads((tmp_path / "results.json").read_text())["counts"]["bad_pairs"] == 1
    assert f"report: {tmp_path}/report.html" in capsys.readouterr().out


def test_no_verb_overwrites_what_it_reads(path, tmp_path, monkeypatch):
    before = path.read_bytes()
    given = ["--max_bad_fraction=0.1", "--model=first", f"--output={tmp_path}"]
    for verb, name, more in [
        (dedup, "kept.jsonl", ["--columns=text"]),
        (split, "train.jsonl", ["--columns=text", "--parts=train:0.8,test:0.2"]),
    ]:
        (tmp_path / name).write_bytes(before)
        for source in (tmp_path / name, tmp_path / "*.jsonl"):
            with pytest.raises(UserError, match=f"--output: .*{name} is an input"):
                call(verb, f"--input={source}", *given, *more)
        assert (tmp_path / name).read_bytes() == before
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=r"--output: .*kept\.jsonl is an input"):
        call(dedup, "--input=~/kept.jsonl", "--columns=text", *given)
    for verb in (filter, mine):
        (tmp_path / "pairs.jsonl").write_bytes(before)
        with pytest.raises(UserError, match="is an input"):
            call(verb, f"--pairs={tmp_path}/pairs.jsonl", *given)
    with pytest.raises(UserError, match=r"--output: .*rows\.jsonl is a file, not a folder"):
        call(dedup, f"--input={path}", "--columns=text", "--model=first", f"--output={path}/x")


def test_filter(path, tmp_path):
    call(
        filter, f"--pairs={path}", "--model=first", f"--output={tmp_path}", "--query_column=ask",
        "--document_column=text", "--search=exact", "--max_bad_fraction=0.1", "--k=1",
        "--chunk=8",
    )  # fmt: skip
    kept, rejected = lines(tmp_path / "pairs.jsonl"), lines(tmp_path / "rejected.jsonl")
    assert len(kept) + len(rejected) == 31
    assert (tmp_path / "report.html").exists()


def test_dedup(path, tmp_path):
    call(
        dedup, f"--input={path}", "--model=first", f"--output={tmp_path}", "--columns=text",
        "--search=exact", "--max_bad_fraction=0.1",
    )  # fmt: skip
    assert len(lines(tmp_path / "kept.jsonl")) == 30
    assert len(lines(tmp_path / "clusters.jsonl")) == 1


def test_a_lone_surrogate_goes_through_as_it_came(tmp_path):
    rows = [{"text": f"text {i}", "note": "\ud800"} for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source, parts = f"--input={tmp_path}/rows.jsonl", "--parts=train:0.5,test:0.5"
    call(split, source, "--columns=text", f"--output={tmp_path}/out", parts)
    found = [
        json.loads(line)
        for name in ("train", "test")
        for line in (tmp_path / "out" / f"{name}.jsonl").read_text().splitlines()
    ]
    assert sorted(found, key=lambda row: row["text"]) == rows


def test_split(path, tmp_path):
    common = (f"--input={path}", f"--output={tmp_path}", "--columns=text", "--max_bad_fraction=0.1")
    call(split, *common, "--parts=a:0.5,b:0.5")
    assert len(lines(tmp_path / "a.jsonl")) + len(lines(tmp_path / "b.jsonl")) == 31
    for wrong, message in {
        "a:0.5,b": "expected NAME:SHARE, got 'b'",
        "a:0.5,a:0.5": "a name is given twice",
        "a:0.5,b:0.7": "together|that make 1",
    }.items():
        with pytest.raises(UserError, match=message):
            call(split, *common, f"--parts={wrong}")


@pytest.mark.parametrize(
    ("verb", "arguments", "message"),
    [
        (mine, ["--pairs=x", "--model=m"], "--output is required"),
        (mine, ["extra"], "unexpected argument 'extra'"),
        (
            mine,
            ["--pairs=x", "--model=m", "--output=y", "--rescore_model=a", "--cross_encoder=b"],
            "both compute the scores",
        ),
        (filter, ["--model=m", "--output=y"], "--pairs is required"),
        (dedup, ["--input=x", "--output=y"], "--model is required"),
        (split, ["--output=y"], "--input is required"),
    ],
)
def test_mistakes_are_told(verb, arguments, message):
    with pytest.raises(UserError, match=message):
        call(verb, *arguments)
