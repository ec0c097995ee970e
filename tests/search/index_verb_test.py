"""`gemb embed`, `index` and `search --index` as called: every kind, and all that can be wrong.

The model is a stub: a text is the sum of its words' vectors.
"""

import functools
import json

import numpy as np
import pytest

from gemb.checks import UserError
from gemb.cli.__main__ import run
from gemb.identity import Space
from gemb.models.execution import Execution
from gemb.search import read_manifest, scann
from gemb.search.registry import KINDS
from gemb.store import bulk, embeddings

NOUNS = ("apple", "bridge", "candle", "desert", "engine", "forest", "glacier", "harbour")
ACTS = ("burns", "falls", "grows", "leaks", "moves", "opens")
TEXTS = [f"the {a} {v} by the {b}" for a in NOUNS for v in ACTS for b in NOUNS[:5]]
TEXTS = [f"{text} on day {i}" for i, text in enumerate(TEXTS)]


class Stub:
    """Looks to the verbs like a `gemb.Embedder`; one named "other" is another model."""

    dim, widths, spoiled, computed = 32, (32, 8), {}, []

    def __init__(self, place, execution=Execution()):
        self.fingerprint, self.seed = f"of-{place}", len(str(place))
        self.computed.append(execution)

    def check_dim(self, dim):
        if dim not in self.widths:
            raise UserError(f"dim: the model has no nested width {dim}; choose one of [32, 8]")
        return dim

    def encode(self, texts, *, dim=None, kind="document", progress=""):
        rows = np.stack([self._vector(text) for text in texts])[:, : dim or self.dim]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        sound = np.isfinite(lengths) & (lengths > 0)
        return np.divide(rows, lengths, out=rows, where=sound).astype(np.float32)

    def _vector(self, text):
        if text in self.spoiled:
            return np.full(self.dim, self.spoiled[text])
        drawn = [
            np.random.default_rng([self.seed, *word.encode()]).normal(size=self.dim)
            for word in text.replace("?", "").split()
            if word not in ("the", "by", "on", "day")
        ]
        return sum(drawn, np.zeros(self.dim)) * 0.9 ** np.arange(self.dim)


@pytest.fixture
def gemb(monkeypatch, capsys):
    """Calls a verb with the stub; gives (exit status, stdout, stderr)."""
    from gemb.inference.embedder import Embedder

    monkeypatch.setattr(Embedder, "load", staticmethod(Stub))
    monkeypatch.setattr(Stub, "spoiled", {})

    def call(verb, *arguments):
        with pytest.raises(SystemExit) as left:
            run(verb, [str(argument) for argument in arguments])
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return call


def corpus(folder, texts=TEXTS, qrels="q0\td7\t1\nq1\td20\t2\n"):
    (folder / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": f"d{i}", "text": text}) for i, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(rows))
    asked = [json.dumps({"_id": f"q{i}", "text": f"{NOUNS[i]} {ACTS[i]}?"}) for i in range(2)]
    (folder / "queries.jsonl").write_text("\n".join(asked))
    (folder / "qrels" / "test.tsv").write_text(qrels)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_written_and_asked(gemb, tmp_path, kind):
    if "scann" in kind and not scann.available():
        pytest.skip("scann ships for Linux only")
    if kind == "hnsw":
        pytest.importorskip("usearch")
    data, output = corpus(tmp_path / "data"), tmp_path / "index"
    status, said, error = gemb(
        "index", "--model=m", f"--corpus={data}", f"--output={output}", f"--kind={kind}",
        "--target=0.8",
    )  # fmt: skip
    assert status == 0, error
    assert f"{kind} index of 240 documents: {output}" in said
    manifest = read_manifest(output)
    assert manifest["documents"] == 240
    assert manifest["model"] == ("" if kind == "bm25" else "of-m")
    status, said, error = gemb("search", f"--index={output}", "--count=3", TEXTS[91])
    assert status == 0, error
    lines = said.strip().splitlines()
    assert len(lines) == 3
    assert "d91 " in lines[0], "a document's own text finds it"
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)


def test_an_index_host_is_filled_refreshed_and_asked(gemb, tmp_path, monkeypatch):
    spaces = {"of-m": Space("m", "m", 32, True), "of-other": Space("o", "o", 32, True)}
    monkeypatch.setattr("gemb.identity.model_space", lambda model, *_: (spaces[model], None))
    monkeypatch.setattr(
        "gemb.evaluation.search_session.model_space", lambda model, *_: (spaces[model], None)
    )
    monkeypatch.setattr(Stub, "model", property(lambda self: self.fingerprint), raising=False)
    monkeypatch.setattr(Stub, "spoiled", {TEXTS[3]: 0.0})
    data, host = corpus(tmp_path / "data"), tmp_path / "host"
    made = ("index", "--model=m", f"--corpus={data}", f"--host={host}")
    for version, more in (("1.1", ()), ("1.2", ("--target=0.98",))):
        status, said, error = gemb(*made, *more)
        assert status == 0, error
        assert f"{host}: version {version} is live: 239 documents, agreement@10 1.0000" in said
        assert "1 documents have no direction" in said
    assert "version 1.2 is live: 239 documents, as before" in gemb(*made, *more)[1]
    asked = ("search", f"--host={host}", "--model=m", "--count=3")
    status, said, error = gemb(*asked, f"--corpus={data}", TEXTS[91])
    assert status == 0, error
    assert len(said.splitlines()) == 3
    assert said.splitlines()[0].split()[1:] == ["d91", *TEXTS[91][:60].split()]
    _one_line(gemb("search", f"--host={host}", "--model=other", "apple"), "cannot be compared")
    assert "1.2" in gemb("versions", host)[1]
    _one_line(gemb(*made, "--kind=bm25"), "--host takes vectors only")
    _one_line(gemb(*made, f"--output={host}"), "--host cannot be combined with --output")
    _one_line(gemb("search", f"--host={host}", "apple"), "--model is required with --host")
    _one_line(gemb("search", f"--host={tmp_path}/none", "--model=m", "apple"), "cannot be read")


def test_narrow_indexes_more_hits_than_documents_and_the_prompt(gemb, tmp_path, monkeypatch):
    data, output = corpus(tmp_path / "data", TEXTS[:4], "q0\td1\t1\n"), tmp_path / "index"
    made = ("index", "--model=m", f"--corpus={data}", f"--output={output}")
    assert gemb(*made, "--dim=8", "--kind=int8")[0] == 0
    assert read_manifest(output)["dim"] == 8
    status, said, _ = gemb("search", f"--index={output}", "--count=50", "the apple burns")
    assert (status, len(said.strip().splitlines())) == (0, 4)
    answers = iter(["apple", " "])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    status, said, _ = gemb("search", f"--index={output}", "--count=1")
    assert status == 0
    assert "apple burns" in said
    for kind in ("funnel", "exact"):  # fewer documents than the ten that are tuned for
        status, said, error = gemb(*made, f"--kind={kind}")
        assert status == 0, error


def test_a_corpus_without_queries_is_sampled(gemb, tmp_path):
    data, output = corpus(tmp_path / "data"), tmp_path / "index"
    (data / "queries.jsonl").unlink()
    made = ("index", "--model=m", f"--corpus={data}", f"--output={output}", "--target=0.8")
    assert gemb(*made, "--kind=funnel")[0] == 0
    assert "fewer operations than exact search" in gemb(*made, "--kind=funnel")[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "of-other"}, "index of the model with fingerprint of-other, but the queries"),
        ({"version": 9}, "of format version 9, but this gemb reads version 2"),
        ({"format": "else"}, "no gemb index"),
        ({"kind": "tree"}, "unknown kind 'tree'"),
        ({"documents": 9}, "holds 240 documents of dim 32, but index.json says 9"),
    ],
)
def test_a_foreign_index_is_refused(gemb, tmp_path, change, message):
    data, output = corpus(tmp_path / "data"), tmp_path / "index"
    assert gemb("index", "--model=m", f"--corpus={data}", f"--output={output}")[0] == 0
    path = output / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    _one_line(gemb("search", f"--index={output}", "apple"), message)


@pytest.mark.parametrize("name", [None, ["a", "b"], ""])
def test_a_document_is_shown_whatever_its_name(gemb, tmp_path, name):
    data, output = corpus(tmp_path / "data"), tmp_path / "index"
    rows = [json.dumps({"_id": str(i), "text": text, "name": name}) for i, text in enumerate(TEXTS)]
    (data / "corpus.jsonl").write_text("\n".join(rows))
    (data / "qrels" / "test.tsv").unlink()
    assert gemb("index", "--model=m", f"--corpus={data}", f"--output={output}")[0] == 0
    status, said, error = gemb("search", f"--index={output}", "--count=1", "apple burns bridge")
    assert status == 0, error
    assert ("['a', 'b']" if name else "burns by the") in said


def test_a_corpus_that_changed_since_is_told(gemb, tmp_path):
    data, output = corpus(tmp_path / "data"), tmp_path / "index"
    assert gemb("index", "--model=m", f"--corpus={data}", f"--output={output}")[0] == 0
    (data / "corpus.jsonl").write_text(json.dumps({"_id": "d0", "text": "other"}))
    _one_line(gemb("search", f"--index={output}", "apple"), "changed since")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"corpus.jsonl": ""}, "corpus.jsonl: the corpus is empty"),
        ({"qrels/test.tsv": "q0\td999\t1\n"}, "test.tsv:1: no document has the _id 'd999'"),
        ({"qrels/test.tsv": "q9\td1\t1\n"}, "test.tsv:1: no query has the _id 'q9'"),
        ({"corpus.jsonl": '{"_id": "a"}'}, "corpus.jsonl:1: the field 'text' is missing"),
    ],
)
def test_a_broken_corpus_is_named(gemb, tmp_path, broken, message):
    data = corpus(tmp_path / "data")
    for name, text in broken.items():
        (data / name).write_text(text)
    call = ("index", "--model=m", f"--corpus={data}", f"--output={tmp_path / 'i'}", "--kind=funnel")
    _one_line(gemb(*call), message)
    assert not (tmp_path / "i").exists(), "nothing half-written"


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("exact", np.nan, "expected finite values, got NaN or infinity in row 3"),
        ("funnel", np.nan, "expected finite values, got NaN or infinity in row 3"),
        ("int8", np.inf, "expected finite values, got NaN or infinity in row 3"),
    ],
)
def test_vectors_that_cannot_be_searched_are_told(
    gemb, tmp_path, monkeypatch, kind, value, message
):
    data = corpus(tmp_path / "data")
    monkeypatch.setattr(Stub, "spoiled", {TEXTS[3]: value})
    call = ("index", "--model=m", f"--corpus={data}", f"--output={tmp_path / 'i'}")
    _one_line(gemb(*call, f"--kind={kind}"), message)


@pytest.mark.parametrize("kind", ["exact", "int8", "binary"])
def test_a_zero_document_comes_last_and_a_zero_query_is_refused(gemb, tmp_path, monkeypatch, kind):
    data, output = corpus(tmp_path / "data", TEXTS[:5], "q0\td1\t1\n"), tmp_path / "index"
    monkeypatch.setattr(Stub, "spoiled", {TEXTS[3]: 0.0, "nothing": 0.0})
    call = ("index", "--model=m", f"--corpus={data}", f"--output={output}", f"--kind={kind}")
    status, said, _ = gemb(*call)
    assert status == 0
    assert "1 documents have no direction" in said
    status, said, _ = gemb("search", f"--index={output}", "apple")
    assert status == 0
    assert len(said.splitlines()) == 5
    assert said.splitlines()[-1].startswith(" 0.000  d3")
    _one_line(gemb("search", f"--index={output}", "nothing"), "its vector is zero")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("index", "--corpus={data}", "--output={out}"), "--model is required"),
        (("index", "--model=m,n", "--corpus={data}", "--output={out}"), "one model folder"),
        (("index", "--model=m", "--corpus={data}", "--output={out}", "--dim=7"), "no nested width"),
        (("index", "--model=m", "--corpus={out}", "--output={out}"), "no such folder"),
        (("index", "--model=m", "--corpus={data}", "--output={data}"), "is not an index"),
        (("index", "--model=m", "--corpus={data}", "--output={out}", "--target=1"), "target"),
        (("index", "--model=m", "--corpus={data}", "--output={out}", "--kind=x"), "unknown 'x'"),
        (("search", "--index={out}", "q"), "cannot be read"),
        (("search", "--index={out}", "--dim=8", "q"), "remove the other flags"),
        (("search", "q"), "--workdir is required"),
    ],
)
def test_mistakes_at_the_terminal_end_in_one_line(gemb, tmp_path, arguments, message):
    places = {"data": corpus(tmp_path / "data"), "out": tmp_path / "out"}
    _one_line(gemb(*(argument.format(**places) for argument in arguments)), message)


def _one_line(called, message):
    status, _, error = called
    assert status == 2
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert "Traceback" not in error


def test_a_folder_of_vectors_is_for_its_model_alone(gemb, tmp_path):
    corpus(tmp_path / "c")
    out = tmp_path / "v"
    command = ("embed", "--model=m", f"--input={tmp_path / 'c'}", f"--output={out}", "--dim=8")
    out.mkdir()
    status, said, error = gemb(*command, "--dtype=float16")
    assert (status, said) == (0, f"240 vectors of 8 float16 numbers: {out}\n"), error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "v"]
    files = ["embeddings.json", "ids.jsonl", "vectors.npy"]
    assert sorted(path.name for path in out.iterdir()) == files
    ids, vectors, about = embeddings.read_embeddings(out, model="of-m")
    assert ids == [f"d{i}" for i in range(240)]
    np.testing.assert_array_equal(vectors, Stub("m").encode(TEXTS, dim=8).astype(np.float16))
    assert about["encoder"] == "m"
    with pytest.raises(UserError, match="of the model with fingerprint of-m, not of of-other"):
        embeddings.read_embeddings(out, model="of-other")
    assert gemb(*command, "--dtype=float16")[:2] == (0, f"the vectors exist already: {out}\n")
    status, _, error = gemb(*command)
    assert status == 2
    assert "holds other vectors" in error


def test_embed_tells_what_its_products_were_rounded_to(gemb, tmp_path):
    corpus(tmp_path / "c")
    command = ("embed", "--model=m", f"--input={tmp_path / 'c'}", f"--output={tmp_path / 'v'}")
    assert gemb(*command, "--matmul_dtype=bfloat16")[0] == 0
    assert Stub.computed[-1] == Execution(matmul_dtype="bfloat16")
    assert embeddings.read_about(tmp_path / "v")["matmul_dtype"] == "bfloat16"
    status, _, error = gemb(*command)
    assert status == 2
    assert "holds other vectors" in error
    assert Stub.computed[-1] == Execution()


def test_embed_goes_on_where_it_was_killed(gemb, tmp_path, monkeypatch):
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"ask": t}) + "\n" for t in TEXTS))
    monkeypatch.setattr(bulk, "encode_into", functools.partial(bulk.encode_into, step=100))
    encode, calls = Stub.encode, []

    def dying(self, texts, **options):
        calls.append(len(texts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return encode(self, texts, **options)

    monkeypatch.setattr(Stub, "encode", dying)
    inputs = ("--model=m", f"--input={tmp_path / 't.jsonl'}", "--column=ask", "--kind=query")
    command = ("embed", *inputs, f"--output={tmp_path / 'v'}")
    assert gemb(*command)[0] == 130
    assert not (tmp_path / "v").exists()
    assert gemb(*command)[0] == 0
    assert calls == [100, 100, 100, 40]
    ids, vectors, about = embeddings.read_embeddings(tmp_path / "v", model="of-m")
    assert (ids, about["kind"]) == (list(range(240)), "query")
    np.testing.assert_array_equal(vectors, encode(Stub("m"), TEXTS))


def test_an_index_of_embedded_vectors_is_that_of_the_texts(gemb, tmp_path):
    corpus(tmp_path / "c")
    place = f"--corpus={tmp_path / 'c'}"
    gemb("embed", "--model=m", f"--input={tmp_path / 'c'}", f"--output={tmp_path / 'v'}")
    gemb("index", "--model=m", place, f"--output={tmp_path / 'a'}", "--dim=8")
    given = f"--vectors={tmp_path / 'v'}"
    status, _, error = gemb(
        "index", "--model=m", place, f"--output={tmp_path / 'b'}", "--dim=8", given
    )
    assert status == 0, error
    one, other = (np.load(next((tmp_path / name).glob("*.npy"))) for name in "ab")
    np.testing.assert_allclose(one, other, atol=1e-6)
    (tmp_path / "c" / "corpus.jsonl").write_text('{"_id": "x", "text": "another text"}\n')
    status, _, error = gemb("index", "--model=m", place, f"--output={tmp_path / 'd'}", given)
    assert status == 2
    assert "but expected the 1 documents" in error


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("embeddings.json", "{", "cannot be read"),
        ("embeddings.json", "[]", "cannot be read .no gemb embeddings"),
        ("embeddings.json", None, "of format version 9"),
        ("ids.jsonl", '"d0"\n', "and 1 ids"),
        ("vectors.npy", "x", "cannot be read"),
    ],
)
def test_a_damaged_folder_of_vectors_is_told(gemb, tmp_path, name, content, message):
    corpus(tmp_path / "c")
    out = tmp_path / "v"
    gemb("embed", "--model=m", f"--input={tmp_path / 'c'}", f"--output={out}")
    if content is None:
        content = json.dumps(json.loads((out / name).read_text()) | {"version": 9})
    (out / name).write_text(content)
    with pytest.raises(UserError, match=message):
        embeddings.read_embeddings(out, model="of-m")
