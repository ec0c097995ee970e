"""`gemb documents`, `index`, `search` and `ask` as called, with a tiny model and a real server."""

import contextlib
import http.server
import json
import threading
import time
from pathlib import Path

import jax
import pytest

import gemb as door
from gemb.checks import UserError
from gemb.cli.__main__ import run
from gemb.models.functional import initial_params
from gemb.models.scratch import from_scratch
from gemb.pretrained import saving
from gemb.processors.text import of_bytes
from gemb.search import read_manifest
from gemb.store.embeddings import read_embeddings

ROOT = Path(__file__).parents[2]
NOTES = """\
# Notes

## Password

Reset the password by the link in the mail. It comes within a minute.

## Printer

The printer wants paper of size A4, and a driver from its maker.
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    made = from_scratch(of_bytes(96), layers=1, width=16, heads=2, mlp=16)
    drawn = jax.jit(lambda key: initial_params(made.spec, key))(jax.random.key(0))
    saving.save(made.with_params(jax.device_get(drawn)), folder)
    return folder


@pytest.fixture
def gemb(capsys, tmp_path, monkeypatch):
    """Calls a verb in an empty folder; gives (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in ("GEMB_LLM_KEY", "OPENAI_API_KEY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "notes.md").write_text(NOTES)

    def call(verb, *arguments):
        with pytest.raises(SystemExit) as left:
            run(verb, [str(argument) for argument in arguments])
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return call


@pytest.fixture
def index(gemb):
    """An index by words of the notes."""
    assert gemb("documents", "notes.md", "--output=corpus", "--tokens=32")[0] == 0
    assert gemb("index", "--corpus=corpus", "--kind=bm25", "--output=index")[0] == 0
    return "index"


@pytest.mark.long
def test_documents_of_this_checkout_are_found_with_file_and_line(gemb, model, tmp_path):
    sources = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs")]
    status, said, error = gemb("documents", *sources, "--output=corpus", f"--model={model}")
    assert status == 0, error
    made = json.loads((tmp_path / "corpus/documents.json").read_text())
    assert (made["tokens"], made["overlap"], made["counted_by"]) == (96, 12, str(model))
    assert made["kinds"]["markdown"]["files"] >= 2
    assert f"{made['passages']:,} passages of {made['files']} files" in said
    text = Path("corpus/corpus.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    for row in rows:
        text = Path(row["file"]).read_text(encoding="utf-8")
        assert text[row["start"] : row["end"]] == row["text"]
    tokenizer = of_bytes(10**6).tokenizer()
    titles = [f"{row['title']}\n" if row["title"] else "" for row in rows]
    read = tokenizer.encode([title + row["text"] for title, row in zip(titles, rows, strict=True)])
    assert max(map(len, read)) <= 96, "the model reads all of each passage"
    status, said, error = gemb("index", f"--model={model}", "--corpus=corpus", "--output=index")
    assert status == 0, error
    asked = rows[7]
    status, said, _ = gemb("search", "--index=index", "--count=3", f"gemb\n{asked['text']}")
    lines = said.splitlines()
    assert (status, len(lines)) == (0, 6)
    assert f"{asked['file']}:{asked['line']}  {' > '.join(asked['headings'])}" in lines[0]
    assert lines[1].strip()[:40] == " ".join(asked["text"].split())[:40]
    status, _, error = gemb("embed", f"--model={model}", "--input=corpus", "--output=vectors")
    assert status == 0, error
    assert read_embeddings("vectors", model=None).ids == [row["_id"] for row in rows]


def test_late_chunks_are_other_vectors_and_are_searched_alike(gemb, model):
    made = gemb("documents", "notes.md", "--output=corpus", f"--model={model}", "--tokens=90")
    assert made[0] == 0, made
    base = ("index", f"--model={model}", "--corpus=corpus")
    assert gemb(*base, "--output=plain")[0] == 0
    status, _, error = gemb(*base, "--output=late", "--late_chunking")
    assert status == 0, error
    assert read_manifest("late")["about"]["late_chunking"] is True
    assert "late_chunking" not in read_manifest("plain")["about"]
    assert Path("late/vectors.npy").read_bytes() != Path("plain/vectors.npy").read_bytes()
    status, said, _ = gemb("search", "--index=late", "--count=1", "password")
    assert (status, "notes.md:" in said) == (0, True)
    for wrong, message in [
        (("--kind=bm25",), "--kind=bm25"), (("--vectors=x",), "--vectors"),
    ]:  # fmt: skip
        status, _, error = gemb(*base, "--output=x", "--late_chunking", *wrong)
        assert (status, f"cannot be combined with {message}" in error) == (2, True)
    Path("plain.jsonl").write_text('{"text": "a"}\n')
    status, _, error = gemb(
        "index", f"--model={model}", "--corpus=plain.jsonl", "--output=x", "--late_chunking"
    )
    assert status == 2
    assert "make it with `gemb documents`" in error


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "c.jsonl",
            '{"_id": "a", "text": "one apple"}\n\n{"_id": "b", "text": "pear", "title": "T"}',
        ),
        ("c.csv", "_id,title,text\na,,one apple\nb,T,pear\n"),
        ("c.tsv", "_id\ttitle\ttext\na\t\tone apple\nb\tT\tpear\n"),
        ("c.txt", "one apple\npear\n"),
    ],
)
def test_an_index_is_made_of_any_source(gemb, name, content):
    Path(name).write_text(content)
    status, said, error = gemb("index", f"--corpus={name}", "--kind=bm25", "--output=index")
    assert status == 0, error
    assert "bm25 index of 2 documents" in said
    status, said, _ = gemb("search", "--index=index", "apple")
    assert said.split()[1] == ("0" if name == "c.txt" else "a")
    if name != "c.txt":
        prompt = gemb("ask", "--index=index", "pear")[1]
        assert "[1] b (T)\npear\n" in prompt


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a", "_id": 1}\n{"text": "b", "_id": 1}', "c.jsonl:2: the _id '1' occurs twice"),
        ('{"text": "a"}\n{"text": 3}', 'c.jsonl:2: the field "text" must be a text'),
        ('{"a": "b"}', "c.jsonl:1: the field 'text' is missing"),
        ("{", "c.jsonl:1: broken JSON"),
        ("\n", "the corpus is empty"),
    ],
)
def test_a_broken_source_is_named(gemb, content, message):
    Path("c.jsonl").write_text(content)
    status, _, error = gemb("index", "--corpus=c.jsonl", "--kind=bm25", "--output=index")
    assert (status, message in error) == (2, True), error


class Server(http.server.ThreadingHTTPServer):
    """A stand-in for a chat API: answers with `status`, `body`; remembers what it was sent."""

    daemon_threads = True


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, self.headers["Authorization"], json.loads(data)))
        time.sleep(self.server.wait)
        with contextlib.suppress(OSError):
            self.send_response(self.server.status)
            if self.server.status == 307:
                self.send_header("Location", "http://127.0.0.1:9/other")
            self.send_header("Content-Length", str(len(self.server.body)))
            self.end_headers()
            self.wfile.write(self.server.body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    made = Server(("127.0.0.1", 0), Handler)
    made.asked, made.status, made.wait = [], 200, 0
    made.body = answer("By the link [1].")
    made.url = f"http://127.0.0.1:{made.server_port}/v1"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def answer(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


QUESTION = "How is the password reset?"


def test_a_question_becomes_a_prompt_with_numbered_sources(gemb, index):
    status, said, error = gemb("ask", f"--index={index}", "--count=1", QUESTION)
    assert status == 0, error
    assert "[1] notes.md:1 (Notes > Password)\n# Notes\n\n## Password\n\nReset the" in said
    assert said.endswith(f"Question: {QUESTION}\n")
    found = door.ask(QUESTION, index, count=1)
    assert (str(found) + "\n", found.text) == (said, "")
    assert found.passages[0].row["headings"] == ["Notes", "Password"]


def test_an_endpoint_answers(gemb, index, server, monkeypatch):
    options = (f"--index={index}", f"--endpoint={server.url}", "--llm=small")
    status, said, error = gemb("ask", *options, "--count=1", QUESTION)
    assert status == 0, error
    assert said == "By the link [1].\n\nSources:\n[1] notes.md:1 (Notes > Password)\n"
    path, key, sent = server.asked[0]
    assert (path, key, sent["model"]) == ("/v1/chat/completions", None, "small")
    assert sent["messages"] == [
        {"role": "user", "content": door.ask(QUESTION, index, count=1).prompt}
    ]
    monkeypatch.setenv("OPENAI_API_KEY", "second")
    gemb("ask", *options, QUESTION)
    monkeypatch.setenv("GEMB_LLM_KEY", "first")
    full = f"--endpoint={server.url}/chat/completions/"
    assert gemb("ask", options[0], full, options[2], QUESTION)[0] == 0
    assert [key for _, key, _ in server.asked] == [None, "Bearer second", "Bearer first"]
    assert server.asked[-1][0] == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (401, b'{"error": {"message": "bad\\nkey"}}', "status 401 bad key"),
        (404, b'{"error": "no such model"}', "status 404 no such model"),
        (500, b"<html>oops", "status 500 <html>oops"),
        (503, b"", "status 503 Service Unavailable"),
        (307, b"", "status 307 redirects to http://127.0.0.1:9/other"),
        (200, b"not JSON", "expected a chat completion with an answer, got 'not JSON'"),
        (200, b'{"choices": []}', "expected a chat completion"),
        (200, answer(None), "expected a chat completion"),
        (200, answer("  "), "expected a chat completion"),
        (200, b"[" * 100_000, "expected a chat completion"),
    ],
)
def test_an_endpoint_that_fails_is_told_in_one_line(
    gemb, index, server, monkeypatch, status, body, message
):
    server.status, server.body = status, body
    monkeypatch.setenv("GEMB_LLM_KEY", "hush")
    options = (f"--index={index}", f"--endpoint={server.url}", "--llm=small")
    code, said, error = gemb("ask", *options, QUESTION)
    assert (code, said) == (2, "")
    assert message in error
    assert "hush" not in error
    assert len(error.splitlines()) == 1


def test_a_server_that_does_not_answer_is_told(gemb, index, server):
    server.wait = 1.5
    options = (f"--index={index}", "--llm=small")
    code, _, error = gemb("ask", *options, f"--endpoint={server.url}", "--timeout=0.3", QUESTION)
    assert (code, "no answer within 0.3 seconds" in error) == (2, True), error
    code, _, error = gemb("ask", *options, "--endpoint=http://127.0.0.1:9/v1", QUESTION)
    assert (code, "cannot be reached" in error) == (2, True), error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask", "--index=index"), "the question is required"),
        (("ask", "q"), "--index is required"),
        (("ask", "--index=index", "--llm=a", "q"), "--endpoint is required"),
        (("ask", "--index=index", "--endpoint=http://x", "q"), "--llm is required"),
        (("ask", "--index=index", "--endpoint=ftp://x", "--llm=a", "password"), "an address such"),
        (("ask", "--index=none", "q"), "none"),
        (("ask", "--index=index", "zebra"), "nothing in it shares a word"),
        (("documents", "--output=x"), "name the files and folders"),
        (("documents", "notes.md"), "--output is required"),
        (("documents", "notes.md", "--output=x", "--model=none"), "none"),
        (("documents", "notes.md", "--output=x", "--tokens=4"), "tokens: expected 16 or more"),
        (("documents", "notes.md", "--output=notes.md"), "is a file, not a folder"),
        (("documents", "no.md", "--output=x"), "no.md: no such file or folder"),
    ],
)
def test_mistakes_at_the_terminal_end_in_one_line(gemb, index, arguments, message):
    status, _, error = gemb(*arguments)
    assert (status, message in error) == (2, True), error
    assert len(error.splitlines()) == 1


def test_tokens_beyond_the_models_limit_are_refused(gemb, model):
    with pytest.raises(UserError, match="tokens: 97 are more than the 96"):
        door.documents("notes.md", "x", model=str(model), tokens=97)
