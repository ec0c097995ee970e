"""Search: what each index keeps, costs and takes, one JSON line a row.

    python benchmarks/search.py encode --synsets=synsets.jsonl.gz --folder=DIR   # once, minutes
    python benchmarks/search.py adaptive --folder=DIR      # funnels against exact search
    python benchmarks/search.py precision --folder=DIR     # agreement and bytes by precision
    python benchmarks/search.py scann --folder=DIR         # against faiss IVF, if that is installed
    python benchmarks/search.py memory --rows=1000000      # a corpus in a file, peak memory

`encode` writes the folders of vectors DIR/documents (WordNet definitions) and DIR/queries ("word:
definition" of the first rows; query i is of document i) by all-MiniLM-L6-v2, and goes on where it
was stopped.
A quarter of the queries finds settings, another half is measured. `agreement` is the share of exact
search's first ten; ratios are medians of interleaved runs, `queries` in one call.
"""

import argparse
import gzip
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from gemb import search, store

K, QUERIES, STEP = 10, 2_000, 5_000


def encode(args) -> None:
    """Definitions and queries of WordNet, in steps that are kept."""
    import gemb
    from gemb.identity import texts_fingerprint

    with gzip.open(args.synsets, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    order = np.random.default_rng(0).permutation(len(rows))[: args.rows or len(rows)]
    embedder = gemb.Embedder.load(args.model)
    texts = {
        "query": [f"{rows[i]['words'][0]}: {rows[i]['definition']}" for i in order[:QUERIES]],
        "document": [rows[i]["definition"] for i in order],
    }
    for kind, folder in (("query", "queries"), ("document", "documents")):
        options = {"kind": kind, "content": texts_fingerprint(texts[kind]), "step": STEP}
        store.encode_into(args.folder / folder, embedder, texts[kind], **options)


def adaptive(args) -> None:
    """Funnels with the policy that the tool picks, against exact search at full width."""
    documents, sample, queries, rows = _read(args)
    exact = search.ExactSearcher(documents)
    true = exact.search(queries, K).indices
    own = np.mean(true[:, 0] == rows)
    show(subject="exact", documents=len(documents), own_document_first=round(float(own), 4))
    axes = search.principal_axes(documents)
    for name, turned, first, share in (
        ("as encoded", None, "exact", 1.0),
        ("principal axes", axes, "exact", 1.0),  # the fewest operations
        ("principal axes", axes, "exact", 0.5),  # the least time
        ("principal axes", axes, "scann", 0.1),
    ):
        start = time.perf_counter()
        settings = {"target": args.target, "axes": turned, "scan_share": share}
        if first == "scann":
            settings |= {"stages": 2, "target": (1 + args.target) / 2}
        chosen = search.choose_policy(documents, sample, **settings)
        widths, shortlists = chosen.policy
        made = search.FunnelSearcher(
            documents, widths=widths, shortlists=shortlists, axes=turned, first=first
        )
        if first == "scann":
            search.tune(made, documents, sample, target=args.target)
        row = {
            "vectors": name,
            "first": first,
            "scan_share": share,
            "widths": widths,
            "shortlists": shortlists,
        }
        row |= {"seconds_to_set": round(time.perf_counter() - start, 1)}
        row |= {"agreement": _agreement(true, made.search(queries, K).indices)}
        row |= {"flops_ratio": round(search.full_flops(*documents.shape) / made.flops, 2)}
        show(subject="adaptive", **row, **_against(exact, made, queries, args.repeats))


def precision(args) -> None:
    """Agreement with float32, bytes a vector and time by precision, re-scored or not."""
    documents, _, queries, _ = _read(args)
    exact = search.ExactSearcher(documents)
    true = exact.search(queries, K).indices
    show(subject="precision", precision="float32", bytes_per_vector=4 * documents.shape[1])
    for kind, rescore in [(p, r) for p in ("bfloat16", "int8", "binary") for r in (0, 4, 10)]:
        made = search.QuantizedSearcher(documents, precision=kind, rescore=rescore)
        row = {"precision": kind, "rescore": rescore, "bytes_per_vector": made.bytes_per_vector}
        row |= {"agreement": _agreement(true, made.search(queries, K).indices)}
        show(subject="precision", **row, **_against(exact, made, queries, args.repeats))


def scann(args) -> None:
    """ScaNN tuned to a recall against faiss IVF-Flat brought to the same, in one process."""
    documents, sample, queries, _ = _read(args)
    true = search.ExactSearcher(documents).search(queries, K).indices
    start, before = time.perf_counter(), _resident_mib()
    made = search.ScannSearcher(documents)
    built, held = time.perf_counter() - start, _resident_mib() - before
    chosen = search.tune(made, documents, sample, target=args.recall)
    row = {"documents": len(documents), "dim": made.dim, "build_seconds": round(built, 1)}
    row |= {"index_mib": round(held), "vectors_mib": round(documents.nbytes / 2**20)}
    row |= {"leaves": made.leaves, "leaves_to_search": chosen.leaves_to_search}
    row |= {"reorder": chosen.reorder}
    row |= {"recall": _agreement(true, made.search(queries, K).indices)}
    single = _seconds(lambda i: made.search(queries[i : i + 1], K), len(queries))
    row |= {"p95_ms_of_one_query": round(1e3 * float(np.percentile(single, 95)), 3)}
    seconds = statistics.median(_seconds(lambda _: made.search(queries, K), args.repeats))
    show(subject="scann", **row, queries_per_second=round(len(queries) / seconds))
    _faiss(args, made, documents, queries, true)


def _faiss(args, made, documents, queries, true) -> None:
    try:
        import faiss
    except ImportError:
        show(subject="faiss", skipped="faiss-cpu is not installed beside gemb")
        return
    start, before = time.perf_counter(), _resident_mib()
    cells = round(2 * len(documents) ** 0.5)
    index = faiss.index_factory(documents.shape[1], f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(documents[::2])
    index.add(documents)
    row = {"build_seconds": round(time.perf_counter() - start, 1), "cells": cells}
    row |= {"index_mib": round(_resident_mib() - before)}
    for index.nprobe in range(1, cells):
        if _agreement(true, index.search(queries, K)[1]) >= args.recall:
            break
    row |= {"nprobe": index.nprobe, "recall": _agreement(true, index.search(queries, K)[1])}
    ratios, own = [], []
    for _ in range(args.repeats):
        theirs = _seconds(lambda _: index.search(queries, K), 1)[0]
        own.append(_seconds(lambda _: made.search(queries, K), 1)[0])
        ratios.append(theirs / own[-1])
    show(subject="faiss", **row, scann_faster=round(statistics.median(ratios), 2))


def _resident_mib() -> float:
    """What the process holds of memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def memory(args) -> None:
    """Exact search of a corpus that stays in its file: seconds and the process's peak memory."""
    import resource

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, rng = Path(folder) / "vectors.npy", np.random.default_rng(0)
        shape = args.rows or 1_000_000, args.dim
        mapped = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, shape[0], 1 << 14):
            mapped[start : start + (1 << 14)] = rng.normal(
                size=mapped[start : start + (1 << 14)].shape
            )
        mapped.flush()
        del mapped
        vectors = np.load(path, mmap_mode="r")
        made = search.ExactSearcher(vectors, device_bytes=0)
        rows = rng.permutation(shape[0])[:64]
        queries = vectors[rows] + 0.1
        found = made.search(queries, K).indices
        seconds = _seconds(lambda _: made.search(queries, K), 1)[0]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        show(
            subject="memory", rows=shape[0], dim=args.dim, queries=len(queries),
            itself_first=float(np.mean(found[:, 0] == rows)), seconds=round(seconds, 1),
            corpus_gib=round(path.stat().st_size / 2**30, 2), peak_gib=round(peak, 2),
        )  # fmt: skip


def _read(args):
    """Documents (jittered up to --rows), queries to find settings with, to measure, their rows."""
    documents, queries = (
        np.array(store.read_embeddings(args.folder / name, model=None).vectors)
        for name in ("documents", "queries")
    )
    if args.dim < documents.shape[1]:
        from gemb.metrics.geometry import truncate

        documents, queries = truncate(documents, args.dim), truncate(queries, args.dim)
    if args.rows > len(documents):
        rng = np.random.default_rng(1)
        more = documents[rng.integers(0, len(documents), args.rows - len(documents))]
        more = more + rng.normal(size=more.shape).astype(np.float32) * 0.5 / args.dim**0.5
        more /= np.linalg.norm(more, axis=1, keepdims=True)
        documents = np.concatenate([documents, more])
    order = np.random.default_rng(args.seed).permutation(len(queries))
    sample, measured = order[: len(order) // 4], order[len(order) // 2 :]
    return documents, queries[sample], queries[measured], measured


def _agreement(true: np.ndarray, found: np.ndarray) -> float:
    return round(float((true[:, :, None] == found[:, None, :]).any(axis=2).mean()), 4)


def _against(exact, made, queries, repeats: int) -> dict[str, float]:
    """Milliseconds a query of both and their ratio, one query a call and all in one."""
    row = {}
    for count in (1, len(queries)):
        exact.search(queries[:count], K), made.search(queries[:count], K)
        pairs = []
        for i in range(repeats * (10 if count == 1 else 1)):
            asked = queries[i % len(queries) :][:1] if count == 1 else queries
            full = _seconds(lambda _, a=asked: exact.search(a, K), 1)[0]
            pairs.append((full, _seconds(lambda _, a=asked: made.search(a, K), 1)[0]))
        full, less = (1e3 * statistics.median(side) / count for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        row |= {f"exact_ms@{count}": round(full, 3), f"ms@{count}": round(less, 3)}
        row |= {f"wall_ratio@{count}": round(ratio, 2)}
    return row


def _seconds(run, repeats: int) -> list[float]:
    taken = []
    for i in range(repeats):
        start = time.perf_counter()
        run(i)
        taken.append(time.perf_counter() - start)
    return taken


def show(**row) -> None:
    print(json.dumps(row), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    subjects = {f.__name__: f for f in (encode, adaptive, precision, scann, memory)}
    parser.add_argument("subject", choices=subjects)
    parser.add_argument("--folder", type=Path, default=Path("runs/search"))
    parser.add_argument("--synsets", help="WordNet, one JSON synset a line, gzipped")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--rows", type=int, default=0, help="documents; 0 for as many as there are")
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--target", type=float, default=0.99, help="agreement@10 of `adaptive`")
    parser.add_argument("--recall", type=float, default=0.95, help="recall@10 of `scann`")
    parser.add_argument("--seed", type=int, default=1, help="of the split of the queries")
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    subjects[args.subject](args)


if __name__ == "__main__":
    main()
