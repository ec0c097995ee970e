"""Drift: false alarms, power and time of the panel, on vectors of questions.

    python benchmarks/drift.py --questions=opentriviaqa.jsonl.gz --output=docs/results/drift.json

--questions is a file of records with "question" and "category". Five categories are left out as new
topics; the others are halved at random, several times. Reference and calibration use rows of one
half, windows rows of the other one. With --model=bge-small-en-v1.5 and --prompt=20 the prompt is
missing in a part of the texts instead. Vectors are kept next to --vectors.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import time
from pathlib import Path

import numpy as np

from gemb.analysis.drift import Reference, panel
from gemb.analysis.drift.verdict import findings

TOPICS = ("animals", "sports", "science-technology", "religion-faith", "video-games")
ALPHA, ROWS = 0.01, 10_000


class Rows:
    """Sums of windows, as matrix products of what each row gives.

    Args:
        vectors: [rows, dim].
        geometry: of the reference.
    """

    def __init__(self, vectors: np.ndarray, geometry: panel.Geometry):
        on_axes = geometry.on_axes(vectors).astype(np.float32)
        self.axes, self.upper = on_axes.shape[1], np.triu_indices(on_axes.shape[1])
        near = np.argmin(
            -2 * vectors @ geometry.clusters.T + np.square(geometry.clusters).sum(axis=1), axis=1
        )
        self.parts = [
            vectors,
            geometry.random_features()(vectors),
            np.eye(len(geometry.clusters), dtype=np.float32)[near],
            geometry.is_far(vectors).mean(axis=1, keepdims=True),
            on_axes[:, self.upper[0]] * on_axes[:, self.upper[1]],
        ]

    def sums(self, size: int, windows: int, rng) -> list[np.ndarray]:
        """Of windows of `size` rows drawn without replacement."""
        chosen = np.zeros((windows, len(self.parts[0])), np.float32)
        for row in chosen:
            row[rng.choice(len(row), size, replace=False)] = 1
        return [np.float64(chosen @ part) for part in self.parts]


def alarms(reference: Reference, rows: Rows, size: int, windows: int, rng, other=None, share=0.05):
    """The share of windows that alarm; `other` rows are a share of each."""
    found, block = [], 100
    for start in range(0, windows, block):
        count = min(block, windows - start)
        new = round(size * share) if other else 0
        sums = rows.sums(size - new, count, rng)
        if new:
            sums = [a + b for a, b in zip(sums, other.sums(new, count, rng), strict=True)]
        vectors, features, topics, far, flat = (each / size for each in sums)
        products = np.zeros((count, rows.axes, rows.axes))
        products[:, rows.upper[0], rows.upper[1]] = flat
        products[:, rows.upper[1], rows.upper[0]] = flat
        now = panel.Means(vectors, features, topics, far[:, 0], products)
        for values in panel.statistics(now, reference.means, reference.geometry):
            judged = reference.against_null(values, size, ALPHA)
            tests = findings(judged, reference.gates, ALPHA)
            found.append(any(each.drifted for each in tests.values()))
    return float(np.mean(found))


def questions(args) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and categories; encoded once."""
    opener = gzip.open if args.questions.endswith(".gz") else open
    with opener(args.questions, "rt", encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    chosen = np.sort(np.random.default_rng(0).permutation(len(records))[: args.most])
    records = [records[row] for row in chosen]
    place = Path(args.vectors)
    if not place.exists():
        from gemb.inference.embedder import Embedder

        embedder = Embedder.load(args.model, max_length=128)
        texts = [record["question"] for record in records]
        np.save(place, embedder.encode(texts, kind="query", progress="questions"))
    return np.load(place), np.array([record["category"] for record in records])


def panel_ms(reference: Reference, vectors: np.ndarray) -> float:
    """Median CPU milliseconds of a verdict on 1,000 rows."""
    taken = []
    for start in range(0, min(len(vectors) - 1_000, 20_000), 1_000):
        before = time.process_time()
        reference.judge(vectors[start : start + 1_000], repeats=True)
        taken.append(1e3 * (time.process_time() - before))
    return statistics.median(taken)


def measure(args) -> tuple[list[list], float]:
    """Rows of the table, and the panel's time."""
    vectors, categories = questions(args)
    rng = np.random.default_rng(args.seed)
    known = np.flatnonzero(~np.isin(categories, TOPICS))
    rates: dict[tuple, list[float]] = {}
    for number in range(args.references):
        fit, other = np.array_split(rng.permutation(known), 2)
        reference = Reference.fit(vectors[fit[:ROWS]], repeats=True, windows=1_000, seed=number)
        rows = Rows(vectors[other], reference.geometry)
        for size in (200, 1_000, 5_000):
            rate = alarms(reference, rows, size, args.windows // args.references, rng)
            rates.setdefault(("no drift", size), []).append(rate)
        for topic in TOPICS:
            new = Rows(vectors[categories == topic], reference.geometry)
            rate = alarms(reference, rows, 1_000, args.topic_windows, rng, new)
            rates.setdefault((f"5 % {topic}", 1_000), []).append(rate)
        print(json.dumps({" ".join(map(str, k)): v for k, v in rates.items()}), flush=True)
    made = []
    for (what, size), found in rates.items():
        count = args.windows if what == "no drift" else args.topic_windows * args.references
        made.append([what, f"{size:,}", f"{count:,}", float(np.mean(found)), max(found)])
    return made, panel_ms(reference, vectors[other])


def prompt_loss(args) -> float:
    """The share of windows of 1,000 that alarm when a part of the texts lacks the prompt."""
    from gemb.inference.embedder import Embedder

    opener = gzip.open if args.questions.endswith(".gz") else open
    with opener(args.questions, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["question"] for line in file]
    rng = np.random.default_rng(args.seed)
    texts = [texts[row] for row in rng.permutation(len(texts))[: 3 * args.prompt_rows]]
    embedder = Embedder.load(args.model, max_length=48)
    known = embedder.encode(texts[: 2 * args.prompt_rows], kind="query", progress="with")
    bare = texts[2 * args.prompt_rows :]
    without = embedder.encode(bare, kind="document", progress="without")
    fit, rest = known[: args.prompt_rows], known[args.prompt_rows :]
    reference = Reference.fit(fit, repeats=True, windows=1_000)
    rows, other = Rows(rest, reference.geometry), Rows(without, reference.geometry)
    clean = alarms(reference, rows, 1_000, 200, rng)
    print(json.dumps({"no drift": clean}))
    return alarms(reference, rows, 1_000, 200, rng, other, share=0.2)


def write(args, rows: list[list], milliseconds: float) -> None:
    commit = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip()
    old = json.loads(Path(args.output).read_text(encoding="utf-8"))
    titles = [
        "what",
        "rows of a window",
        "windows",
        "share that alarms",
        "worst case of the references",
    ]
    tree = {
        "title": old["title"],
        "command": f"python benchmarks/drift.py --questions={Path(args.questions).name}",
        "hardware": old["hardware"],
        "conditions": f"{args.model} vectors of Open Trivia QA questions; five categories are the "
        f"new topics; {args.references} references of {ROWS:,} rows of one half of the others, "
        f"windows of the other half; alpha {ALPHA}",
        "recorded": {"commit": commit, "date": time.strftime("%Y-%m-%d")},
        "columns": [{"title": title} for title in titles[:3]]
        + [{"title": title, "digits": 3} for title in titles[3:]],
        "rows": rows,
        "notes": [
            *args.note,
            f"One verdict on 1,000 rows took {milliseconds:.0f} ms of CPU time (median).",
        ],
    }
    text = json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
    Path(args.output).write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", required=True, help="file of records")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--vectors", default="drift_questions.npy", help="made if missing")
    parser.add_argument("--most", type=int, default=34_000, help="questions")
    parser.add_argument("--references", type=int, default=3)
    parser.add_argument("--windows", type=int, default=1_000, help="without drift, for each size")
    parser.add_argument("--topic_windows", type=int, default=50, help="for a topic and reference")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--prompt_rows", type=int, default=0, help="measure prompt loss instead")
    parser.add_argument("--note", action="append", default=[], help="added to the table")
    parser.add_argument("--output", default="", help="JSON file of a table, rewritten")
    args = parser.parse_args()
    if args.prompt_rows:
        print(json.dumps({"20 % without the prompt": prompt_loss(args)}))
        return
    rows, milliseconds = measure(args)
    print(json.dumps({"rows": rows, "panel_ms": milliseconds}))
    if args.output:
        write(args, rows, milliseconds)


if __name__ == "__main__":
    main()
