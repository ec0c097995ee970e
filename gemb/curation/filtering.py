"""Consistency: a pair stays if a retriever finds its document among the query's first k.

Reference: Wang et al., Text Embeddings by Weakly-Supervised Contrastive Pre-training, 2022, arXiv
2212.03533, where k is 2. Here the query's other known answers do not take up ranks.
"""

import time
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.curation import report
from gemb.curation.chunks import Chunks, Piece
from gemb.curation.retrieval import Retrieval
from gemb.curation.tables import Documents, PairTable
from gemb.data.sources.records import digest

VERSION = 2
PAIRS, REJECTED = "pairs.jsonl", "rejected.jsonl"
_SEEN_RANKS = 100  # ranks that the report shows separately


def filter_pairs(
    pairs: PairTable,
    documents: Documents,
    query_vectors: np.ndarray,
    document_vectors: np.ndarray,
    output: str | Path,
    *,
    model: str,
    k: int = 2,
    search: str = "exact",
    chunk: int = 4096,
    about: dict | None = None,
    progress: bool = True,
) -> dict:
    """Writes the pairs that are consistent to OUTPUT/pairs.jsonl, the others to rejected.jsonl.

    From a list of documents those within the first k are kept. A rejected record has its best
    "rank", or null if it is beyond the search depth.

    Args:
        pairs: the pairs.
        documents: what is searched.
        query_vectors: [queries, dim], of `pairs.queries`.
        document_vectors: [documents, dim], of `documents`.
        output: folder to write into.
        model: the fingerprint of the vectors' model.
        k: the last rank that is consistent; ranks count from 1.
        search: "exact", "scann" or "auto".
        chunk: pairs at a time.
        about: what to name in the report.
        progress: whether to show a bar.

    Returns:
        The content of results.json.

    Raises:
        UserError: k below 1, or a place that cannot be written.
    """
    if k < 1:
        raise UserError(f"k: expected 1 or more, got {k}")
    started, output = time.monotonic(), Path(output)
    retrieval = Retrieval(
        pairs, documents, query_vectors, document_vectors,
        ranks=max(k, _SEEN_RANKS), search=search, work=output / "work", model=model,
    )  # fmt: skip
    key = digest(str(VERSION), retrieval.fingerprint, pairs.fingerprint, str(k), search, str(chunk))

    def one(start: int, stop: int) -> Piece:
        hits, kinds = retrieval.hits(start, stop)
        before = np.cumsum(kinds.free, axis=1)
        ranks = [
            _ranks(pairs, start + i, hits.indices[i], before[i], documents)
            for i in range(stop - start)
        ]
        return _piece(pairs, start, ranks, k)

    chunks = Chunks(output / "work" / f"filter-{key[:16]}")
    notes = chunks.run(len(pairs), chunk, one, "filter" if progress else "")
    chunks.join(PAIRS, output / PAIRS)
    chunks.join(REJECTED, output / REJECTED)
    counts = report.total(notes) | {"documents": len(documents)}
    counts |= {"bad_pairs": pairs.records.counts["bad"], "bad_documents": documents.bad}
    rates = {"pairs rejected": report.share(counts, "rejected", "pairs")}
    advice = "raise k, or read the examples: the model may not suit these texts"
    results = report.results("filter", (about or {}) | {"k": k}, counts, rates, advice=advice)
    results["seconds"] = round(time.monotonic() - started, 1)
    shown = {f"Ranks up to {_SEEN_RANKS}": {"documents": report.joined(notes, "ranks")}}
    report.write(output, results, shown, report.evenly(notes, "examples"))
    chunks.remove()
    return results


def _ranks(pairs: PairTable, pair: int, rows, before, documents: Documents) -> list[int | None]:
    """The rank of each document of a pair: one more than the number of free documents above it."""
    own = documents.row_of[pairs.starts[pair] : pairs.starts[pair + 1]]
    keys = documents.keys[np.maximum(rows, 0)]
    ranks = []
    for row in own:
        found = np.flatnonzero((keys == documents.keys[row]) & (rows >= 0))
        ranks.append(int(before[found[0]]) + 1 if len(found) else None)
    return ranks


def _piece(pairs: PairTable, start: int, ranks: list[list[int | None]], k: int) -> Piece:
    kept, rejected, examples = [], [], []
    for i, of_pair in enumerate(ranks):
        record, texts = pairs.records[start + i], pairs.documents(start + i)
        good = [t for t, rank in zip(texts, of_pair, strict=True) if rank and rank <= k]
        best = min((rank for rank in of_pair if rank), default=None)
        if good:
            is_list = isinstance(record[pairs.document], list)
            kept.append(record | ({pairs.document: good} if is_list else {}))
        else:
            rejected.append(record | {"rank": best})
            label = f"document, rank {best}" if best else "document, not found"
            examples.append(report.example(record[pairs.query], [(label, texts[0])]))
    flat = [rank for of_pair in ranks for rank in of_pair]
    notes = {
        "counts": {
            "pairs": len(ranks),
            "kept": len(kept),
            "rejected": len(rejected),
            "documents_beyond_the_search": sum(rank is None for rank in flat),
        },
        "ranks": report.sample([r for r in flat if r and r <= _SEEN_RANKS]),
        "examples": report.spread(examples),
    }
    return Piece({PAIRS: kept, REJECTED: rejected}, notes)
