"""A server in a thread of the test, small models and corpora, and a client that checks nothing."""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import threading
import time

import numpy as np

WORDS = [
    "apple",
    "bridge",
    "candle",
    "desert",
    "engine",
    "forest",
    "glacier",
    "harbour",
    "island",
    "jungle",
]
TEXTS = [f"{WORDS[i % 10]} {WORDS[(3 * i + 1) % 10]} number {i}" for i in range(28)]


def tiny_model(seed=0, *, widths=(16, 8), max_length=32):
    """A model of one layer over bytes, whose vectors are random but fixed."""
    import jax

    from gemb.models.functional import initial_params
    from gemb.models.model import Model
    from gemb.models.scratch import from_scratch
    from gemb.processors.text import TextProcessor
    from gemb.structs import NO_PROMPTS
    from gemb.tokenizers import byte_tokenizer_json

    prompts = NO_PROMPTS._replace(query="q:")
    processor = TextProcessor(byte_tokenizer_json(), max_length, prompts)
    made = from_scratch(processor, layers=1, width=16, heads=2, mlp=32, positions=max_length)
    spec = dataclasses.replace(made.document.spec, widths=widths)
    made = Model.of(dataclasses.replace(made.document, spec=spec))
    params = jax.jit(lambda key: initial_params(made.spec, key))(jax.random.key(seed))
    return made.with_params(jax.device_get(params))


def save_model(folder, seed=0, **options):
    """A model folder."""
    from gemb.inference.embedder import Embedder

    Embedder(tiny_model(seed, **options)).save(folder)
    return folder


def write_corpus(folder, texts=TEXTS):
    """A corpus of `gemb documents`' kind."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"_id": f"d{i}", "text": text, "file": "notes.md", "line": i + 1, "even": i % 2 == 0}
        for i, text in enumerate(texts)
    ]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def write_index(folder, model, corpus, kind="exact", dim=None):
    """An index folder, as `gemb index` makes it."""
    from gemb.data.sources import corpora
    from gemb.identity import texts_fingerprint
    from gemb.inference.embedder import Embedder
    from gemb.search import build, save_index

    embedder = Embedder.load(str(model))
    _, texts, _ = corpora.read_corpus(corpus)
    vectors = embedder.encode(texts, dim=dim)
    made = build(kind, vectors, texts=texts)
    about = {"corpus": str(corpus), "texts": texts_fingerprint(texts), "encoder": str(model)}
    save_index(folder, made, model=embedder.fingerprint, **about)
    return folder


def train_classifier(folder, model):
    """A classifier of the first word of texts, by numbers of one digit."""
    from gemb.analysis.classifier import train_classifier
    from gemb.inference.embedder import Embedder

    embedder = Embedder.load(str(model))
    texts = [f"{word} {word} {n}" for word in WORDS[:3] for n in range(10)]
    train_classifier(
        embedder.encode(texts), [text.split()[0] for text in texts], nested=True, widths=[8, 16],
        model=embedder.fingerprint, encoder=str(model), tolerance=0.1,
    ).save(folder)  # fmt: skip
    return folder


def publish(store, model, corpus, *, users=None, name="items"):
    """A release with its model, vectors and texts; and the same generation of users' vectors."""
    import shutil

    from gemb.data.sources import corpora
    from gemb.identity import model_space
    from gemb.inference.embedder import Embedder
    from gemb.store import VersionStore
    from gemb.store.rows import rows_digest

    embedder = Embedder.load(str(model))
    ids, texts, _ = corpora.read_corpus(corpus)
    space = model_space(embedder.model)[0]
    kept = VersionStore(store, create=True)
    with kept.draft(space) as draft:
        draft.add(name, ids, embedder.encode(texts))
        shutil.copytree(model, draft.folder / "model")
        if name == "documents":
            shutil.copytree(corpus, draft.folder / "corpus")
        else:
            shutil.copy(corpus / "corpus.jsonl", draft.folder)
    if users is not None:
        names = [f"u{i}" for i in range(5)]
        vectors = embedder.encode(texts[:5], kind="query")
        version = users.begin(space, of="users", version=draft.version)
        users.put(version, names, vectors)
        users.publish(version, rows=5, digest=rows_digest(names, vectors, "float32"))
    kept.publish(draft.version)
    return draft.version


class Running:
    """A server on a free port of this machine, until it is closed."""

    def __init__(self, *, keys=None, settings=None, **places):
        import uvicorn

        from gemb.serving import server
        from gemb.serving.http.app import make_app
        from gemb.serving.http.web import Keys
        from gemb.serving.state import Settings, State

        self.state = State(settings or Settings(watch=0.05, deadline=20.0))
        lists = {k: tuple(map(str, v)) for k, v in places.items() if isinstance(v, list)}
        places = server.Places(**({"budget": 64} | places | lists))
        self.follows = server.load(self.state, places)
        self.experiments = server.experiments_of(self.state, places)
        app = make_app(
            self.state, self.follows, keys or Keys(), log=False, experiments=self.experiments
        )
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical", lifespan="off")
        self._server = server.Server(config, self.state, app.shell)
        socket = config.bind_socket()
        self.port = socket.getsockname()[1]
        work = server.run(self._server, socket, self.state, self.follows, self.experiments)
        self._thread = threading.Thread(target=lambda: asyncio.run(work), daemon=True)
        self._thread.start()
        until(lambda: self._server.started)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, headers=None):
        """(status, JSON or text, headers) of one request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.headers.get("content-type", "")
            return answer.status, json.loads(text) if "json" in kind else text, answer.headers

    def post(self, path, _headers=None, **body):
        status, answer, _ = self.ask("POST", path, body, _headers)
        return status, answer

    def close(self):
        self._server.should_exit = True
        self._thread.join(timeout=30)
        self.state.close()
        assert not self._thread.is_alive()


def until(true, seconds=30.0):
    """Waits until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)
