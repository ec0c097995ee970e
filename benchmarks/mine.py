"""Hard-negative mining at size: seconds, peak memory and recall, one JSON line a row.

    python benchmarks/mine.py --synsets=synsets.jsonl.gz --vectors=DIR/documents/vectors.npy
    python benchmarks/mine.py --synsets=... --vectors=... --search=scann

Documents are WordNet's definitions, their vectors those that `benchmarks/search.py encode` writes.
Queries are documents' vectors with noise: mining asks the same of them as of real ones, and nothing
is encoded twice. Recall is the share of the negatives of a plain float64 loop over all documents
that were mined, over some of the pairs.
"""

import argparse
import gzip
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from gemb.curation import Choice, Margin, mine, prepare

NOISE = 0.6  # the length of the noise against the document's vector: a cosine of about 0.86


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--synsets", type=Path, required=True)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--sample", type=int, default=500)
    parser.add_argument("--search", default="exact")
    parser.add_argument("--folder", type=Path, help="keeps what a killed run resumes from")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        _run(args, folder)


def _run(args, folder: Path) -> None:
    definitions = _write(args.synsets, args.vectors, args.queries, folder)
    start = time.perf_counter()
    pairs, documents = prepare.read(folder / "pairs.jsonl", folder / "corpus.jsonl")
    show(subject="read", pairs=len(pairs), documents=len(documents), seconds=_since(start))
    vectors = np.load(args.vectors, mmap_mode="r")
    queries = _query_vectors(vectors, args.queries, folder / "queries.npy")
    choice, start = Choice(7, 1, 100, Margin(relative=0.05)), time.perf_counter()
    results = mine(
        pairs,
        documents,
        queries,
        vectors,
        folder / "mined",
        model="benchmark",
        choice=choice,
        search=args.search,
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    row = {"search": args.search, "seconds": _since(start), "peak_gib": round(peak, 2)}
    show(subject="mine", **row, **results["counts"])
    chosen = np.random.default_rng(1).permutation(len(pairs))[: args.sample]
    recall = _recall(
        folder / "mined" / "pairs.jsonl", definitions, vectors, queries, choice, chosen
    )
    show(subject="recall", search=args.search, pairs=len(chosen), recall=round(recall, 5))


def _write(synsets: Path, vectors: Path, queries: int, folder: Path) -> list[str]:
    """corpus.jsonl and pairs.jsonl of the definitions, in the order of the vectors."""
    with gzip.open(synsets, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    count = len(np.load(vectors, mmap_mode="r"))
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:count]]
    with open(folder / "corpus.jsonl", "w", encoding="utf-8") as corpus:
        for row in rows:
            corpus.write(json.dumps({"_id": row["id"], "text": row["definition"]}) + "\n")
    with open(folder / "pairs.jsonl", "w", encoding="utf-8") as pairs:
        for row in rows[:queries]:
            query = f"{row['words'][0]} ({row['id']}): {row['definition']}"
            pairs.write(json.dumps({"query": query, "document": row["definition"]}) + "\n")
    return [row["definition"] for row in rows]


def _query_vectors(vectors: np.ndarray, count: int, path: Path) -> np.ndarray:
    """Documents' vectors with noise, of unit length, in a file."""
    if not path.exists():
        rng = np.random.default_rng(2)
        shape = (min(count, len(vectors)), vectors.shape[1])
        made = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        for start in range(0, len(made), 4096):
            part = np.asarray(vectors[start : start + 4096])[: len(made) - start]
            noise = rng.normal(size=part.shape)
            noise *= NOISE / np.linalg.norm(noise, axis=1, keepdims=True)
            part = part + noise
            made[start : start + 4096] = part / np.linalg.norm(part, axis=1, keepdims=True)
        made.flush()
    return np.load(path, mmap_mode="r")


def _recall(mined: Path, texts: list[str], vectors, queries, choice: Choice, chosen) -> float:
    """The share of a plain loop's negatives that were mined."""
    with open(mined, encoding="utf-8") as lines:
        wanted = set(chosen.tolist())
        rows = {i: json.loads(line) for i, line in enumerate(lines) if i in wanted}
    flat = ["".join(c for c in text.casefold() if c.isalnum()) for text in texts]
    found = total = 0
    for pair in chosen.tolist():
        scores = np.asarray(vectors) @ queries[pair].astype(np.float64)
        seen, candidates = {flat[pair]}, []
        for row in np.argsort(-scores, kind="stable")[:1_000]:
            if flat[row] not in seen and len(candidates) < choice.last_rank:
                seen.add(flat[row])
                candidates.append(row)
        limit = scores[pair] - choice.margin.relative * abs(scores[pair])
        best = [texts[row] for row in candidates if scores[row] <= limit][: choice.count]
        found += len(set(best) & set(rows[pair]["negatives"]))
        total += len(best)
    return found / total


def _since(start: float) -> float:
    return round(time.perf_counter() - start, 1)


def show(**row) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
