"""Versions of vectors: what publishing and reading cost, one JSON line a row.

    python benchmarks/production.py disk                       # publish, roll back, open
    python benchmarks/production.py keys                       # SQLite
    python benchmarks/production.py keys --address=redis://127.0.0.1:6379/0 --address=postgresql://...

`keys` puts two generations of --rows vectors, and reads single ids and batches of 100 through the
chain of both. With several addresses the reads are interleaved, and each has its ratio to SQLite.
Everything is written to names of its own; `keys` leaves its rows on a server.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from gemb.identity import Space
from gemb.store import VersionStore
from gemb.store.keyed import open_keyed
from gemb.store.rows import rows_digest


def disk(args) -> None:
    """Milliseconds to write, publish, roll back and open a version."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        store = VersionStore(Path(folder) / "store", create=True)
        ids, vectors = _made(args)
        taken = {name: [] for name in ("draft", "publish", "open", "roll_back")}
        for number in range(args.repeats):
            with _timed(taken["draft"]), store.draft(_space(number, args.dim)) as draft:
                draft.add("items", ids, vectors)
            with _timed(taken["publish"]):
                store.publish(draft.version)
            with _timed(taken["open"]):
                store.open()
            if number:
                with _timed(taken["roll_back"]):
                    store.roll_back(why="measured")
                store.publish(draft.version)
        size = store.versions()[0].bytes
        row = {f"{name}_ms": _median(times) for name, times in taken.items()}
        show(subject="disk", rows=args.rows, dim=args.dim, mb=round(size / 1e6, 1), **row)


def keys(args) -> None:
    """Rows a second that are put, and milliseconds of a get, of each backend."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        stores = {}
        for address in [f"sqlite:{folder}/keys.db", *args.address]:
            backend = address.partition(":")[0]
            name = f"bench{os.getpid()}"
            stores[backend] = open_keyed(address, name=name, dtype=args.dtype)
            show(subject="put", backend=backend, **_load(stores[backend], args))
        _read(stores, args)
        for store in stores.values():
            store.close()


def _load(store, args) -> dict:
    ids, vectors = _made(args)
    rates, published = [], []
    for number in range(2):
        version, before = store.begin(_space(number, args.dim), of="users"), time.perf_counter()
        for start in range(0, args.rows, args.batch):
            part = slice(start, start + args.batch)
            store.put(version, ids[part], vectors[part])
        rates.append(args.rows / (time.perf_counter() - before))
        digest = rows_digest(ids, vectors, args.dtype)
        with _timed(published):
            store.publish(version, rows=args.rows, digest=digest)
    row = {"rows": args.rows, "dim": args.dim, "dtype": args.dtype, "batch": args.batch}
    return row | {"rows_per_second": [round(r) for r in rates], "publish_ms": _median(published)}


def _read(stores: dict, args) -> None:
    rng = np.random.default_rng(1)
    for count in (1, 100):
        taken = {backend: [] for backend in stores}
        for _ in range(args.reads):
            ids = [f"id {row}" for row in rng.integers(0, args.rows, count)]
            for backend, store in stores.items():
                with _timed(taken[backend]):
                    store.get(ids, [2, 1])
        for backend, times in taken.items():
            ratio = statistics.median(
                one / other for one, other in zip(times, taken["sqlite"], strict=True)
            )
            p50, p95 = (round(float(np.percentile(times, p)), 4) for p in (50, 95))
            row = {"p50_ms": p50, "p95_ms": p95, "ratio_to_sqlite": round(ratio, 2)}
            show(subject="get", backend=backend, ids=count, generations=2, **row)


class _timed:
    """Appends the milliseconds of a block to a list."""

    def __init__(self, times: list[float]):
        self._times = times

    def __enter__(self):
        self._start = time.perf_counter()

    def __exit__(self, *_):
        self._times.append(1e3 * (time.perf_counter() - self._start))


def _median(times: list[float]) -> float:
    return round(statistics.median(times), 2)


def _space(number: int, dim: int) -> Space:
    return Space(f"query{number}", f"document{number}", dim, True)


def _made(args) -> tuple[list[str], np.ndarray]:
    vectors = np.random.default_rng(0).normal(size=(args.rows, args.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [f"id {row}" for row in range(args.rows)], vectors


def show(**row) -> None:
    print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    subjects = {f.__name__: f for f in (disk, keys)}
    parser.add_argument("subject", choices=subjects)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; default TMPDIR")
    parser.add_argument("--address", action="append", default=[], help="further key stores")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--batch", type=int, default=5_000)
    parser.add_argument("--reads", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    subjects[args.subject](args)


if __name__ == "__main__":
    main()
