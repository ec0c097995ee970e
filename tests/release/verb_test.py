"""`gemb refresh` and `gemb release` as called, with a tiny model."""

import json
import re

import pytest

from gemb.cli.__main__ import run
from gemb.store import VersionStore


@pytest.fixture
def gemb(capsys, tmp_path, monkeypatch):
    """Calls a verb in an empty folder; gives (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(verb, *arguments):
        with pytest.raises(SystemExit) as left:
            run(verb, [str(argument) for argument in arguments])
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return call


@pytest.mark.long
def test_refresh_from_an_empty_store_to_a_search(gemb, tiny_models, write_corpus, texts):
    corpus, model = write_corpus(texts), f"--model={tiny_models[0]}"
    keys = "--keys=sqlite:keys.db"
    status, said, error = gemb("refresh", "store", f"--corpus={corpus}", model, "--dry_run")
    assert status == 0, error
    assert re.search(r"full run.*: 0 same, 0 changed, 100 new, 0 gone; 99 distinct .* s$", said)
    status, said, error = gemb("refresh", "store", f"--corpus={corpus}", model, keys)
    assert status == 0, error
    assert "version 1.1 is published" in said
    assert "100 rows put, 0 removed" in said
    write_corpus(texts | {"d0": "a needle in the hay", "n": "another text"})
    status, said, error = gemb("refresh", "store", f"--corpus={corpus}", "--dry_run")
    assert re.search(
        r"refreshes 1\.1: 99 same, 1 changed, 1 new, 0 gone; 2 distinct texts .* \d+ s$", said
    )
    status, said, error = gemb("refresh", "store", f"--corpus={corpus}", keys)
    assert status == 0, error
    assert "2 rows put, 0 removed" in said
    status, said, error = gemb("search", "--index=store", "a needle in the hay")
    assert status == 0, error
    assert "a needle in the hay" in said
    assert gemb("rollback", "store", "--why=test")[0] == 0
    assert "a needle" not in gemb("search", "--index=store", "a needle in the hay")[1]
    assert "refresh, parent: 1.1" in gemb("versions", "store", "sqlite:keys.db")[1]


def test_mistakes_of_refresh_are_one_line(gemb, tiny_models, write_corpus, texts, tmp_path):
    corpus, model = f"--corpus={write_corpus(texts)}", f"--model={tiny_models[0]}"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    cases = [
        (("store", corpus), "is not a store yet; give --model"),
        (("store",), "--corpus is required"),
        ((corpus, model), "expected STORE"),
        (("other", corpus, model), "holds files and is not a store"),
        (("store", "--corpus=none.jsonl", model), "none.jsonl"),
        (("store", corpus, "--model=missing/model"), "missing"),
        (("store", corpus, model, "--index_kind=tree"), "unknown 'tree'"),
        (("store", corpus, model, "--dim=5"), "no nested width 5"),
        (("store", corpus, model, "--keys=ftp://x"), "expected an address"),
    ]
    for arguments, message in cases:
        status, _, error = gemb("refresh", *arguments)
        assert status == 2, (arguments, error)
        assert message in error.splitlines()[-1], error
    assert gemb("refresh", "store", corpus, model)[0] == 0
    status, _, error = gemb("refresh", "store", corpus, "--dtype=float16")
    assert "vectors of float32, and a refresh keeps" in error
    path = tmp_path / "store" / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 9}))
    status, _, error = gemb("refresh", "store", corpus)
    assert (status, len(error.splitlines())) == (2, 1)
    assert "format version 9" in error


def test_a_second_model_keeps_the_first_to_roll_back_to(gemb, tiny_models, write_corpus, texts):
    corpus = f"--corpus={write_corpus(texts)}"
    for model in tiny_models:
        assert gemb("refresh", "store", corpus, f"--model={model}")[0] == 0
    store = VersionStore("store")
    assert [str(each.version) for each in store.versions()] == ["2.1", "1.1"]
    first = gemb("search", "--index=store", "w1 w2")[1]
    assert gemb("rollback", "store", "--why=worse")[0] == 0
    assert gemb("search", "--index=store", "w1 w2")[1] != first
    # the live version's model refreshes
    assert (
        "refreshes 1.1"
        in gemb("refresh", "store", f"--corpus={write_corpus(texts | {'x': 'y'})}")[1]
    )
    assert str(store.open().version) == "1.2"


def test_a_release_runs_its_stages_once(gemb, tiny_models, write_corpus, texts, tmp_path):
    users = write_corpus({f"u{n}": f"w{n} user" for n in range(9)}, "users.jsonl")
    common = ["store", f"--corpus={write_corpus(texts)}", f"--queries={users}", "--workdir=r1"]
    common += [f"--model={tiny_models[0]}", "--keys=sqlite:keys.db"]
    status, said, error = gemb("release", *common, "--stages=embed,index,verify")
    assert status == 0, error
    assert "[6/7] load: left out" in said
    assert VersionStore("store").versions() == []
    status, said, error = gemb("release", *common)
    assert status == 0, error
    assert re.findall(r"\[\d/7\] (\w+): done before", said) == ["embed", "index", "verify"]
    assert said.splitlines()[-1] == "store: version 1.1 is published"
    noted = json.loads((tmp_path / "r1" / "release.json").read_text())["stages"]
    assert noted["load"]["counts"] == {"put": 9, "removed": 0}
    assert noted["verify"]["counts"] == {"recall": 1.0}
    assert noted["embed"]["counts"]["encoded"] == 108  # one text is there twice
    status, said, error = gemb("release", *common)
    assert len(re.findall("done before", said)) == 5
    opened = VersionStore("store").open()
    assert sorted(opened.sets) == ["documents", "queries"]
    assert opened.about["index"] == {"kind": "exact", "deltas": 0, "recall": 1.0}
    assert gemb("check", "store")[0] == 0
    assert not list((tmp_path / "store" / "work").iterdir()) or not any(
        each.is_dir() for each in (tmp_path / "store" / "work").iterdir()
    )


def test_mistakes_of_release_are_one_line(gemb, tiny_models, write_corpus, texts, tmp_path):
    corpus, model = f"--corpus={write_corpus(texts)}", f"--model={tiny_models[0]}"
    cases = [
        ((corpus, model, "--workdir=r"), "expected STORE"),
        (("store", corpus, model), "--workdir is required"),
        (("store", model, "--workdir=r"), "--corpus is required"),
        (("store", corpus, "--workdir=r"), "one of them"),
        (("store", corpus, model, "--workdir=r", "--stages=imbed"), "Did you mean embed"),
        (("store", corpus, model, "--workdir=r", "--stages=load"), "needs the stages embed"),
        (("store", corpus, model, "--workdir=r", "--index_kind=tree"), "unknown 'tree'"),
    ]
    for arguments, message in cases:
        status, _, error = gemb("release", *arguments)
        assert status == 2, (arguments, error)
        assert message in error.splitlines()[-1], error
    (tmp_path / "r" / "release.json").write_text('{"format": "gemb release", "version": 7}')
    status, _, error = gemb("release", "store", corpus, model, "--workdir=r")
    assert "version 7" in error


@pytest.mark.long
def test_a_release_writes_to_an_index_host(gemb, tiny_models, write_corpus, texts, host_opener):
    host = [f"--host={host_opener.address}", f"--name={host_opener.name}"]
    common = ["store", f"--corpus={write_corpus(texts)}", "--workdir=r1", *host]
    first, second = (f"--model={model}" for model in tiny_models)
    status, said, error = gemb("release", *common, first)
    assert status == 0, error
    assert "(put 100, removed 0;" in said
    asked = ["search", *host, "--count=3", texts["d5"]]
    status, before, error = gemb(*asked, first)
    assert status == 0, error
    assert "d5" in before.split()
    changed = write_corpus(texts | {"d5": "hay"})
    assert gemb("refresh", "store", f"--corpus={changed}", *host)[0] == 0
    assert "d5" not in gemb(*asked, first)[1].split()
    assert gemb("rollback", "store", "--why=test", *host)[0] == 0
    assert gemb(*asked, first)[1] == before
    common[1:3] = [f"--corpus={write_corpus(texts)}", "--workdir=r2"]
    assert gemb("release", *common, second)[0] == 0
    status, _, error = gemb(*asked, first)  # of another space now
    assert status == 2
    assert "space" in error.splitlines()[-1]
    assert gemb(*asked, second)[0] == 0
    status, said, error = gemb("rollback", "store", "1.1", "--why=worse", *host)
    assert (status, len(said.splitlines())) == (0, 2), error
    assert gemb(*asked, first)[1] == before
    # the other store of vectors is down: one line, and nothing changes
    status, _, error = gemb("refresh", "store", f"--corpus={write_corpus(texts | {'n': 'new'})}",
                            "--host=postgresql://127.0.0.1:1/none")  # fmt: skip
    assert (status, len(error.strip().splitlines())) == (2, 1)
    assert str(VersionStore("store").open().version) == "1.1"
    if host_opener.kind == "local":
        status, said, _ = gemb("retire", "store", host_opener.address, "--generations=1")
        assert status == 0
        assert len(said.splitlines()) == 2


def test_embed_publishes_to_an_index_host(gemb, tiny_models, write_corpus, texts):
    corpus, model = write_corpus(texts), f"--model={tiny_models[0]}"
    command = ["embed", model, f"--input={corpus}", "--output=vectors", "--host=host"]
    for _ in range(2):  # the second time nothing is loaded
        status, said, error = gemb(*command)
        assert status == 0, error
        assert said.splitlines()[-1] == "host: version 1.1 is live: 100 documents"
    assert "d5" in gemb("search", "--host=host", model, "--count=3", texts["d5"])[1].split()
    for more, message in [
        ("--kind=query", "--host holds documents"),
        ("--host=postgresql://127.0.0.1:1/none", "postgres"),
    ]:
        status, _, error = gemb(*command, more)
        assert status == 2
        assert message in error.splitlines()[-1]
