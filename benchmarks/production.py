"""Versions and indexes of vectors: what publishing, reading, searching and refreshing cost.

    python benchmarks/production.py disk                       # publish, roll back, open
    python benchmarks/production.py keys                       # SQLite
    python benchmarks/production.py keys --address=redis://... --address=postgresql://...
    python benchmarks/production.py refresh --rows=200000      # 1 % changed, against a rebuild
    python benchmarks/production.py index --rows=5000000       # a ScaNN index of made vectors
    python benchmarks/production.py swap --rows=20000          # publish while 8 clients search

`refresh` uses vectors that are made up from words at no cost, and the tokenizer of --model; the
time of encoding is that model's speed on 512 of the texts, measured in the same run.
`keys` puts two generations of --rows vectors, and reads single ids and batches of 100 through the
chain of both; `p95_cpu_ms` is the time without that in which other processes ran. With several
addresses the reads are interleaved, and each has its ratio to SQLite.
Everything is written to names of its own; `keys` leaves its rows on a server. `index` builds in one
process and searches in another, so that each has its own memory figure; vectors fall into clusters.
`swap` publishes refreshes on a local index host while --clients threads search, then measures the
same clients without a publish.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.identity import Space
from gemb.search import ExactSearcher, ScannSearcher, load_index, save_index, tune
from gemb.store import VersionStore
from gemb.store.hosts import LocalHost, Settings, exact_answers
from gemb.store.keyed import open_keyed
from gemb.store.rows import rows_digest

_CHUNK = 1 << 17


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
        taken, busy = ({backend: [] for backend in stores} for _ in range(2))
        for _ in range(args.reads):
            ids = [f"id {row}" for row in rng.integers(0, args.rows, count)]
            for backend, store in stores.items():
                with _timed(busy[backend], time.thread_time), _timed(taken[backend]):
                    store.get(ids, [2, 1])
        for backend, times in taken.items():
            ratio = statistics.median(
                one / other for one, other in zip(times, taken["sqlite"], strict=True)
            )
            p50, p95 = (round(float(np.percentile(times, p)), 4) for p in (50, 95))
            row = {"p50_ms": p50, "p95_ms": p95, "ratio_to_sqlite": round(ratio, 2)}
            row["p95_cpu_ms"] = round(float(np.percentile(busy[backend], 95)), 4)
            show(subject="get", backend=backend, ids=count, generations=2, **row)


def refreshes(args) -> None:
    """A refresh of 1 % changed documents: what is encoded, how long it takes, what it finds."""
    from gemb.release.corpus import Corpus
    from gemb.release.encoding import ModelEncoding
    from gemb.release.refresh import Settings, refresh

    rng = np.random.default_rng(0)
    words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "bdgklmnprst"]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(args.rows)]
    changed = list(texts)
    rows = rng.permutation(args.rows)[: args.rows // 100]
    for row in rows:
        changed[row] = " ".join(rng.choice(words, 12))
    changed[rows[1]] = changed[rows[0]]  # one text twice
    model = ModelEncoding(args.model)
    sample = [texts[row] for row in range(512)]
    model.encode(sample, kind="document")  # compiles
    before = time.perf_counter()
    model.encode(sample, kind="document")
    rate = len(sample) / (time.perf_counter() - before)
    queries = _MadeUp(model, words, args.dim).encode(
        [" ".join(rng.choice(words, 4)) for _ in range(500)], kind="query"
    )
    for kind in args.kind:
        encoding, seconds, opened = _MadeUp(model, words, args.dim), {}, {}
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            for name, place, some in (
                ("full", "a", texts), ("refresh", "a", changed), ("rebuild", "b", changed),
            ):  # fmt: skip
                store = VersionStore(Path(folder) / place, create=True)
                corpus = Corpus([str(row) for row in range(args.rows)], some, [{}] * args.rows, "-")
                encoding.encoded = []
                before = time.perf_counter()
                settings = Settings(kind=kind)
                version = refresh(
                    store, encoding, {"documents": corpus}, settings, say=lambda line: None
                )
                seconds[name] = time.perf_counter() - before
                opened[name] = store.open(version)
                if name == "refresh":
                    encoded = encoding.encoded[100:]  # after the check of unchanged texts
            expected = {changed[row] for row in rows}
            _show_refresh(kind, args, rate, seconds, encoded, expected, opened, queries, encoding)


def _show_refresh(kind, args, rate, seconds, encoded, expected, opened, queries, encoding) -> None:
    from gemb.search import load_index

    once = len(encoded) == len(expected) and set(encoded) == expected
    full = seconds["full"] + args.rows / rate
    part = seconds["refresh"] + (len(encoded) + 100) / rate
    sets = [opened[name].sets["documents"].vectors for name in ("refresh", "rebuild")]
    found = [
        load_index(opened[name].folder / "index", model=encoding.fingerprint).search(queries, 10)
        for name in ("refresh", "rebuild")
    ]
    exact = np.sort(queries @ np.asarray(sets[1]).T, axis=1)[:, -10:][:, :1]
    recall = [float((hits.scores >= exact - 1e-5).mean()) for hits in found]
    show(
        subject="refresh", kind=kind, rows=args.rows, changed=args.rows // 100,
        encoded=len(encoded), exactly_the_distinct_changed_texts=once,
        texts_per_second=round(rate, 1),
        seconds={name: round(each, 1) for name, each in seconds.items()},
        seconds_with_encoding={"full": round(full, 1), "refresh": round(part, 1)},
        share_of_full=round(part / full, 4), vectors_identical=bool(np.array_equal(*sets)),
        top10_identical=float((found[0].indices == found[1].indices).all(axis=1).mean()),
        recall={"refresh": round(recall[0], 4), "rebuild": round(recall[1], 4)},
        index_deltas=opened["refresh"].about["index"]["deltas"],
    )  # fmt: skip


class _MadeUp:
    """Vectors that are sums of words' vectors; what a model reads of a text is the model's."""

    def __init__(self, model, words: list[str], dim: int):
        self.dim, self.space, self.fingerprint = dim, _space(0, dim), "made up"
        self.alignment, self.folder, self.widths = None, None, (dim,)
        self.contents, self.encoded = model.contents, []
        self._rows = {word: row for row, word in enumerate(words)}
        self._table = np.random.default_rng(1).normal(size=(len(words), dim)).astype(np.float32)

    def encode(self, texts, *, kind: str) -> np.ndarray:
        self.encoded += texts
        made = [self._table[[self._rows[w] for w in text.split()]].sum(axis=0) for text in texts]
        return np.stack([vector / np.linalg.norm(vector) for vector in made])


def index(args) -> None:
    """Build, load, search, recall, memory and disk of a ScaNN index; each step in a process."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for step in ("build", "search"):
            command = [sys.executable, __file__, f"index_{step}", f"--folder={folder}"]
            command += [f"--{name}={getattr(args, name)}" for name in ("rows", "dim", "reads")]
            subprocess.run(command, check=True)


def index_build(args) -> None:
    """Makes vectors, builds and tunes an index to recall .95, and saves it."""
    rng, path = np.random.default_rng(0), args.folder / "vectors.npy"
    centres = rng.normal(size=(2000, args.dim)).astype(np.float32)
    shape = (args.rows, args.dim)
    vectors = np.lib.format.open_memmap(path, "w+", np.float32, shape)
    for start in range(0, args.rows, _CHUNK):
        vectors[start : start + _CHUNK] = _clustered(rng, centres, len(vectors[start:][:_CHUNK]))
    vectors.flush()
    queries = _clustered(rng, centres, 400)
    np.save(args.folder / "queries.npy", queries)
    taken, tuning = [], []
    with _timed(taken):
        made = ScannSearcher(vectors)
    with _timed(tuning):
        found = tune(made, vectors, queries[:200], target=0.95)
    true = ExactSearcher(vectors).search(queries[200:], 10).indices
    np.save(args.folder / "true.npy", true)
    save_index(args.folder / "index", made, model="made")
    files = [each for each in (args.folder / "index").rglob("*") if each.is_file()]
    show(
        subject="index_build", rows=args.rows, dim=args.dim, build_s=round(taken[0] / 1e3, 1),
        tune_s=round(tuning[0] / 1e3, 1), leaves=made.leaves, searched=found.leaves_to_search,
        reorder=found.reorder, disk_mb=round(sum(each.stat().st_size for each in files) / 1e6),
        peak_mb=_peak_mb(),
    )  # fmt: skip


def index_search(args) -> None:
    """Loads the index and asks it single queries that it was not tuned on."""
    loading = []
    with _timed(loading):
        made = load_index(args.folder / "index", model="made")
    queries, true = (np.load(args.folder / f"{name}.npy") for name in ("queries", "true"))
    queries, taken, found = queries[200:], [], []
    for row in range(args.reads):
        with _timed(taken):
            hits = made.search(queries[row % len(queries)][None], 10)
        found.append(np.isin(hits.indices[0], true[row % len(queries)]).mean())
    p50, p95, p99 = (round(float(np.percentile(taken, p)), 3) for p in (50, 95, 99))
    show(
        subject="index_search", rows=args.rows, load_s=round(loading[0] / 1e3, 2), p50_ms=p50,
        p95_ms=p95, p99_ms=p99, recall_at_10=round(float(np.mean(found)), 4), rss_mb=_rss_mb(),
    )  # fmt: skip


def swap(args) -> None:
    """Failed requests, and p99 while versions are published against p99 without."""
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        host = LocalHost(Path(folder) / "index", create=True)
        ids, vectors = _made(args)
        space = _space(0, args.dim)
        _refresh(host, space, ids, vectors)
        kept = {}
        for name, work in (
            ("loading", lambda: _prepare(host, space, ids, vectors, args.repeats)),
            ("publishing", lambda: _publish_all(host)),
            ("alone", lambda: time.sleep(args.repeats)),
        ):
            kept[name] = _clients(host, space, vectors, args.clients, work)
        for name, (times, failed, versions) in kept.items():
            p50, p99 = (round(float(np.percentile(times, p)), 3) for p in (50, 99))
            ratio = round(p99 / float(np.percentile(kept["alone"][0], 99)), 2)
            show(
                subject="swap", while_=name, clients=args.clients, rows=args.rows,
                requests=len(times), failed=failed, versions=versions, p50_ms=p50, p99_ms=p99,
                p99_ratio_to_alone=ratio,
            )  # fmt: skip


def _prepare(host, space, ids, vectors, count: int) -> None:
    for _ in range(count):
        _refresh(host, space, ids, vectors, publish=False)


def _publish_all(host) -> None:
    for each in reversed(host.versions()):
        if each.state == "ready" and not each.published:
            host.publish(each.version)
            time.sleep(0.5)


def _refresh(host, space, ids, vectors, *, publish: bool = True) -> None:
    version = host.begin(space, settings=Settings(kind="scann", target=0.9))
    host.load(version, ids, vectors)
    queries = vectors[:50]
    expected = exact_answers(ids, vectors, queries, 10)
    host.verify(version, queries, expected, 0.8, rows=len(ids))
    if publish:
        host.publish(version)


def _clients(host, space, vectors, clients: int, work) -> tuple[list[float], int, int]:
    """Milliseconds of each search, failures, and versions that answered, while work is done."""
    stop, taken, failed, versions = threading.Event(), [], [], set()

    def ask(seed: int) -> None:
        rng = np.random.default_rng(seed)
        while not stop.is_set():
            query = vectors[rng.integers(len(vectors))][None]
            try:
                with _timed(taken):
                    hits = host.search(query, 10, space=space, generation=1)
                versions.add(hits.version)
            except UserError as error:
                failed.append(error)
            time.sleep(0.01)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(clients)]
    for each in threads:
        each.start()
    work()
    stop.set()
    for each in threads:
        each.join()
    return taken, len(failed), len(versions)


def _clustered(rng, centres: np.ndarray, rows: int) -> np.ndarray:
    noise = rng.normal(size=(rows, centres.shape[1])).astype(np.float32)
    made = centres[rng.integers(len(centres), size=rows)] + noise
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def _peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def _rss_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6)


class _timed:
    """Appends the milliseconds of a block to a list, by a clock."""

    def __init__(self, times: list[float], clock=time.perf_counter):
        self._times, self._clock = times, clock

    def __enter__(self):
        self._start = self._clock()

    def __exit__(self, *_):
        self._times.append(1e3 * (self._clock() - self._start))


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
    subjects = {f.__name__: f for f in (disk, keys, index, index_build, index_search, swap)}
    subjects["refresh"] = refreshes
    parser.add_argument("subject", choices=subjects)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; default TMPDIR")
    parser.add_argument("--address", action="append", default=[], help="further key stores")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--batch", type=int, default=5_000)
    parser.add_argument("--reads", type=int, default=500)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--kind", nargs="*", default=["exact", "scann"])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    subjects[args.subject](args)


if __name__ == "__main__":
    main()
