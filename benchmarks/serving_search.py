"""Measures searches of `gemb serve` in a large ScaNN index: by text, and by user id.

    python benchmarks/serving_search.py --rows=5000000 --folder=DIR     # 10 GB of memory
    python benchmarks/serving_search.py --rows=200000

The vectors are made: those of 500 texts by the model itself, at its first --dim coordinates, with
noise around them, so that queries find neighbours as in a corpus of that model. The index is tuned
to recall .95 on 64 queries and measured on 64 others against exact search. Clients ask again when
they have their answer; figures are milliseconds as they see them. A user id goes through a key
store (SQLite) and the same index. The index is made once in --folder.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from serving import closed_loop, metric, milliseconds, server, text

_USERS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--max_length", type=int, default=64, help="of queries, in tokens")
    parser.add_argument("--folder", default="", help="where the index is kept; default temporary")
    parser.add_argument("--output", default="")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        options.folder = options.folder or stack.enter_context(tempfile.TemporaryDirectory())
        made = Path(options.folder) / f"rows{options.rows}"
        if not (made / "about.json").exists():
            make(options, made)
        found = json.loads((made / "about.json").read_text()) | measure(options, made)
    print(json.dumps(found, indent=1))
    if options.output:
        Path(options.output).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def nested(options):
    """The model with --dim as a nested width of its vectors."""
    from gemb.inference.embedder import Embedder
    from gemb.models.model import Model

    loaded = Embedder.load(options.model, max_length=options.max_length)
    tower = loaded.model.document
    spec = dataclasses.replace(tower.spec, widths=(loaded.dim, options.dim))
    return Embedder(Model.of(dataclasses.replace(tower, spec=spec)))


def made_vectors(centres: np.ndarray, rows: int) -> np.ndarray:
    """[rows, dim] float32 unit vectors around centres."""
    rng, dim = np.random.default_rng(0), centres.shape[1]
    vectors = np.empty((rows, dim), np.float32)
    for start in range(0, rows, 1 << 17):
        part = vectors[start : start + (1 << 17)]
        noise = rng.standard_normal(part.shape, np.float32) * np.float32(0.6 * dim**-0.5)
        part[:] = centres[rng.integers(0, len(centres), len(part))] + noise
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def make(options, folder: Path) -> None:
    """A store with a version: vectors, a ScaNN index, the model; and vectors of users."""
    from gemb.identity import model_space
    from gemb.search import ExactSearcher, ScannSearcher, save_index, tune
    from gemb.store import VersionStore
    from gemb.store.keyed import open_keyed
    from gemb.store.rows import rows_digest

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    embedder, draw = nested(options), random.Random(5)
    centres = embedder.encode([text(draw, 13) for _ in range(500)], dim=options.dim)
    asked = [text(draw, 13) for _ in range(_USERS)]
    queries = embedder.encode(asked, kind="query", dim=options.dim)
    vectors, start = made_vectors(centres, options.rows), time.monotonic()
    made = ScannSearcher(vectors)
    tune(made, vectors, queries[:64], target=0.95)
    about = {"rows": options.rows, "dim": options.dim}
    about["build_and_tune_seconds"] = round(time.monotonic() - start, 1)
    exact = ExactSearcher(vectors).search(queries[64:128], 10).indices
    found = made.search(queries[64:128], 10).indices
    hits = [len(set(left) & set(right)) for left, right in zip(exact, found, strict=True)]
    about["recall_at_10"] = round(float(np.mean(hits)) / 10, 4)
    space = model_space(embedder.model, options.dim)[0]
    store = VersionStore(folder / "store", create=True)
    with store.draft(space) as draft:
        draft.add("items", [f"i{row}" for row in range(len(vectors))], vectors)
        fingerprint = embedder.save(draft.folder / "model")
        save_index(draft.folder / "index", made, model=fingerprint)
    store.publish(draft.version)
    users = open_keyed(f"sqlite:{folder / 'users.db'}")
    names = [f"u{row}" for row in range(_USERS)]
    version = users.begin(space, of="users", version=draft.version)
    users.put(version, names, queries)
    users.publish(version, rows=_USERS, digest=rows_digest(names, queries, "float32"))
    users.close()
    (folder / "about.json").write_text(json.dumps(about))


def body(**asked) -> bytes:
    """A request to /v1/search."""
    content = json.dumps({"k": 10, "return": "ids", **asked}).encode()
    head = f"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def measure(options, folder: Path) -> dict:
    """Milliseconds of searches by text and by user id, of one client and of several."""
    draw, found = random.Random(6), {}
    command = [sys.executable, "-m", "gemb.cli", "serve", f"--release={folder / 'store'}"]
    command += [f"--users=sqlite:{folder / 'users.db'}", "--port=0", "--log=off", "--deadline=30"]
    kinds = {
        "text": lambda: body(query=text(draw, 13)),
        "user_id": lambda: body(user_id=f"u{draw.randrange(_USERS)}"),
    }
    with server(command) as port:
        for name, ask in kinds.items():
            asyncio.run(closed_loop(port, 2, 1.0, ask))
            for clients in (1, options.clients):
                taken = asyncio.run(closed_loop(port, clients, options.seconds, ask))
                row = milliseconds(taken) | {"per_second": round(len(taken) / options.seconds, 1)}
                found[f"{name}, {clients} clients"] = row
        found["late_compiles"] = metric(port, "gemb_compiles_total")
    return found


if __name__ == "__main__":
    main()
