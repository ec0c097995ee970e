"""Adapters and backward-compatible training: what is kept of encoding again.

    python benchmarks/adapters.py judged --corpus=BEIR --new=bge-small-en-v1.5
    python benchmarks/adapters.py trained --folder=runs/compatible

`judged` encodes part of a BEIR folder by two models, fits adapters on documents without judgements
and on queries of other splits, and measures the judged queries, as well as the estimate of
`fit_adapter` against documents that it has not seen. `trained` trains a small model (token vectors,
as in the tutorials) on functions of the standard library: an old one on half of the pairs, then new
ones on all of them, plainly and backward-compatible, and measures both and adapters between them.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from gemb.analysis.adapting import fit_adapter, judged_retention
from gemb.analysis.neighbours import nearest, overlaps
from gemb.data.sources import beir
from gemb.inference.embedder import Embedder
from gemb.metrics.ranking import retrieval_metrics

KINDS = ("rotation", "affine", "rotation_low_rank")


def recall(documents: np.ndarray, queries: np.ndarray, qrels: list[dict]) -> float:
    rows, _ = nearest(documents, queries, 10)
    return float(np.mean(retrieval_metrics(rows, qrels, recall_at=(10,))["recall@10"]))


def agreement(adapter, old: np.ndarray, new: np.ndarray) -> float:
    """Neighbours of new rows among mapped old ones that encoding again finds as well."""
    mapped = adapter(old if adapter.direction == "documents" else new)
    rows = np.arange(min(1_000, len(old)))
    if adapter.direction == "documents":
        pairs = (new, new[rows]), (mapped, new[rows])
    else:
        pairs = (old, old[rows]), (old, mapped[rows])
    found = [nearest(corpus, asked, 10, rows)[0] for corpus, asked in pairs]
    return float(overlaps(*found).mean())


def show(**row) -> None:
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}))
    sys.stdout.flush()


def adapters(pairs, unseen, documents, queries, qrels, **about) -> None:
    """One line per direction: the estimate, the truth, and what the judgements say."""
    for direction in ("documents", "queries"):
        made = fit_adapter(*pairs, direction=direction, kinds=KINDS)
        found = judged_retention(made, documents, queries, qrels)
        show(
            direction=direction, kind=made.kind, pairs=len(pairs[0]), **about, **found,
            estimate=made.measured["estimate"], held_out=made.measured["agreement"][made.kind],
            truth=agreement(made, *unseen), no_adapter=recall(documents[0], queries[1], qrels),
        )  # fmt: skip


def other_queries(folder: Path, most: int) -> list[str]:
    """Queries of the training split, if there is one."""
    if not (folder / "qrels" / "train.tsv").exists():
        return []
    return beir.read_retrieval(folder, "train").query_texts[:most]


def judged(args) -> None:
    folder, rng = Path(args.corpus), np.random.default_rng(0)
    data = beir.read_retrieval(folder)
    asked = rng.permutation(len(data.query_ids))[: args.queries]
    wanted = sorted({row for query in asked for row in data.qrels[query]})
    others = rng.permutation(np.setdiff1d(np.arange(len(data.corpus_ids)), wanted))
    chosen = [*wanted, *others][: args.rows]
    place = {row: number for number, row in enumerate(chosen)}
    qrels = [{place[row]: g for row, g in data.qrels[q].items() if row in place} for q in asked]
    kept = [number for number, each in enumerate(qrels) if each]
    qrels = [qrels[number] for number in kept]
    queries = [data.query_texts[asked[number]] for number in kept]
    texts = [data.corpus_texts[row] for row in others[len(chosen) - len(wanted) :]]
    texts = texts[: args.pairs] + other_queries(folder, max(args.pairs - len(texts), 0))
    # queries are grouped by article: what is not fitted on has to be drawn like what is
    texts = [texts[row] for row in rng.permutation(len(texts))]
    shown, sides = [data.corpus_texts[row] for row in chosen], []
    for name in (args.old, args.new):
        model = Embedder.load(name, max_length=args.max_length)
        found = [
            model.encode(shown, kind="document", progress=name),
            model.encode(queries, kind="query", progress=name),
            model.encode(texts, kind="document", progress=name),
        ]
        sides.append(found)
    documents, queries, every = zip(*sides, strict=True)
    half = min(args.pairs, len(texts)) * 2 // 3
    pairs = tuple(each[:half] for each in every)
    unseen = tuple(each[half:] for each in every)
    adapters(pairs, unseen, documents, queries, qrels, corpus=folder.name)


def trained(args) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "tutorials"))
    import small_model

    import gemb

    folder = Path(args.folder)
    code = str(folder / "code")
    small_model.harvest(code)
    pairs = small_model.pairs(code)
    settings = {"steps": args.steps, "learning_rate": 2e-2}
    half = np.random.default_rng(0).permutation(len(pairs))[: len(pairs) // 2]
    start = small_model.small_model(code)
    some = [pairs[row] for row in half]
    models = {"old": gemb.train(start, some, workdir=str(folder / "old"), **settings)}
    teacher = (
        "from gemb.training.distillation import teachers",
        f"teachers.live.models = ('{folder / 'old' / 'model'}',)",
        "TEACHER = @teachers.live()",
        "LOSS = @losses.backward_compatible",
    )
    for name, bindings in (("plain", ()), ("compatible", teacher)):
        models[name] = gemb.train(
            models["old"], pairs, workdir=str(folder / name), bindings=bindings, **settings
        )
    data = beir.read_retrieval(Path(code))
    vectors = {
        name: (
            model.encode(data.corpus_texts, kind="document"),
            model.encode(data.query_texts, kind="query"),
        )
        for name, model in models.items()
    }
    for asked, held in (
        ("old", "old"), ("plain", "plain"), ("plain", "old"), ("compatible", "compatible"),
        ("compatible", "old"), ("old", "compatible"),
    ):  # fmt: skip
        found = recall(vectors[held][0], vectors[asked][1], data.qrels)
        show(queries=asked, documents=held, **{"recall@10": found})
    order = np.random.default_rng(1).permutation(len(pairs))
    texts = [pairs[row]["document"] for row in order]
    every = [models[name].encode(texts, kind="document") for name in ("old", "plain")]
    cut = len(texts) // 2
    adapters(
        [each[:cut] for each in every], [each[cut:] for each in every],
        *zip(vectors["old"], vectors["plain"], strict=True), data.qrels, corpus="same lineage",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subject", choices=["judged", "trained"])
    parser.add_argument("--corpus", help="BEIR folder")
    parser.add_argument("--old", default="all-MiniLM-L6-v2")
    parser.add_argument("--new", default="bge-small-en-v1.5")
    parser.add_argument("--rows", type=int, default=2_000, help="documents that are searched")
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=3_000, help="two thirds are fitted on")
    parser.add_argument("--max_length", type=int, default=64)
    parser.add_argument("--folder", default="runs/compatible")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    {"judged": judged, "trained": trained}[args.subject](args)


if __name__ == "__main__":
    main()
