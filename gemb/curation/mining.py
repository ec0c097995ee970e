"""Hard negatives: the documents nearest to a query that are not its answers.

Pairs are processed in chunks: search, removal of known answers, rank window, optional re-scoring,
margin, choice. Finished chunks are saved, so that a killed run resumes and ends with the
same file, byte for byte.
"""

import time
from pathlib import Path

import numpy as np

from gemb.curation import report
from gemb.curation.candidates import Choice, Sorted, choose, in_window
from gemb.curation.chunks import Chunks, Piece
from gemb.curation.rescoring import Rescorer, VectorScores
from gemb.curation.retrieval import Retrieval
from gemb.curation.tables import Documents, PairTable
from gemb.data.sources.records import digest

VERSION = 2  # increase it when the same input would give another output
PAIRS = "pairs.jsonl"


def mine(
    pairs: PairTable,
    documents: Documents,
    query_vectors: np.ndarray,
    document_vectors: np.ndarray,
    output: str | Path,
    *,
    model: str,
    choice: Choice,
    search: str = "exact",
    rescorer: Rescorer | None = None,
    chunk: int = 4096,
    about: dict | None = None,
    progress: bool = True,
) -> dict:
    """Mines hard negatives and writes OUTPUT/pairs.jsonl, results.json and report.html.

    A line is the pair's record with "query", "document", "negatives", "document_score" (of the
    lowest of its documents), "negative_scores" and, where the corpus has them, "negative_ids".

    Args:
        pairs: the pairs.
        documents: the documents to search.
        query_vectors: [queries, dim], of `pairs.queries`.
        document_vectors: [documents, dim], of `documents`.
        output: folder to write into.
        model: the fingerprint of the vectors' model.
        choice: settings of the choice of negatives.
        search: "exact", "scann" or "auto", see `nearest.searcher`.
        rescorer: replaces the scores of the search within the rank window.
        chunk: pairs per chunk; a kill loses at most one chunk. A corpus that does not fit
        on the device is read once per chunk.
        about: what to name in the report.
        progress: whether to show a bar.

    Returns:
        The content of results.json.

    Raises:
        UserError: unusable vectors, or a place that cannot be written.
    """
    started, output = time.monotonic(), Path(output)
    retrieval = Retrieval(
        pairs, documents, query_vectors, document_vectors,
        ranks=choice.last_rank, search=search, work=output / "work", model=model,
    )  # fmt: skip
    key = digest(
        str(VERSION), retrieval.fingerprint, pairs.fingerprint, repr(choice), search, str(chunk),
        rescorer.fingerprint if rescorer else "",
    )  # fmt: skip
    base = VectorScores(query_vectors, document_vectors)
    miner = _Miner(pairs, documents, retrieval, choice, base, rescorer)
    chunks = Chunks(output / "work" / f"mine-{key[:16]}")
    notes = chunks.run(len(pairs), chunk, miner.mine, "mine" if progress else "")
    chunks.join(PAIRS, output / PAIRS)
    results = _results(notes, pairs, documents, choice, about or {})
    results["seconds"] = round(time.monotonic() - started, 1)
    report.write(output, results, _shown(notes), report.evenly(notes, "examples"))
    chunks.remove()
    return results


class _Miner:
    """One chunk of pairs at a time."""

    def __init__(
        self,
        pairs: PairTable,
        documents: Documents,
        retrieval: Retrieval,
        choice: Choice,
        base: Rescorer,
        rescorer: Rescorer | None,
    ):
        self.pairs, self.documents = pairs, documents
        self.retrieval, self.choice = retrieval, choice
        self.rescorer, self.rescores = rescorer or base, rescorer is not None

    def mine(self, start: int, stop: int) -> Piece:
        numbers, queries = np.arange(start, stop), self.pairs.query_of[start:stop]
        hits, kinds = self.retrieval.hits(start, stop)
        window = in_window(kinds.free, self.choice.first_rank, self.choice.last_rank)
        scores = hits.scores
        if self.rescores:
            scores = self._rescored(queries, hits.indices, window)
        positive = self._positive(start, stop)
        allowed = window & self.choice.margin.allows(scores, positive)
        columns = choose(hits.indices, scores, allowed, numbers, self.choice)
        rows = [
            self._row(pair, hits.indices[i], scores[i], columns[i], positive[i])
            for i, pair in enumerate(numbers)
        ]
        notes = _notes(kinds, window, allowed, columns, scores, positive)
        notes["examples"] = [_example(row) for row in report.spread(rows)]
        return Piece({PAIRS: rows}, notes)

    def _rescored(self, queries, rows, window) -> np.ndarray:
        """[pairs, k] the re-scorer's scores within the window, -inf elsewhere."""
        scores = np.full(rows.shape, -np.inf, np.float32)
        pair, _ = np.nonzero(window)
        scores[window] = self.rescorer.scores(queries[pair], rows[window])
        return scores

    def _positive(self, start: int, stop: int) -> np.ndarray:
        """[pairs] the lowest score of each pair's documents."""
        starts = self.pairs.starts[start : stop + 1]
        owner = np.repeat(self.pairs.query_of[start:stop], np.diff(starts))
        found = self.rescorer.scores(owner, self.documents.row_of[starts[0] : starts[-1]])
        return np.minimum.reduceat(found, starts[:-1] - starts[0])

    def _row(self, pair: int, rows, scores, columns, positive: float) -> dict:
        record, columns = self.pairs.records[int(pair)], columns[columns >= 0]
        chosen = [int(row) for row in rows[columns]]
        made = {name: value for name, value in record.items() if name != "negative_ids"} | {
            "query": record[self.pairs.query],
            "document": record[self.pairs.document],
            "negatives": [self.documents[row] for row in chosen],
            "document_score": _rounded(positive),
            "negative_scores": [_rounded(score) for score in scores[columns]],
        }
        ids = [self.documents.id(row) for row in chosen]
        return made | ({"negative_ids": ids} if any(ids) else {})


def _notes(kinds: Sorted, window, allowed, columns, scores, positive) -> dict:
    mined = columns >= 0
    chosen = np.take_along_axis(scores, np.maximum(columns, 0), axis=1)[mined]
    return {
        "counts": {
            "pairs": len(positive),
            "hits": int(sum(kind.sum() for kind in kinds)),
            "known_answers": int(kinds.known.sum()),
            "repeated_texts": int(kinds.repeated.sum()),
            "candidates": int(window.sum()),
            "rejected_by_margin": int((window & ~allowed).sum()),
            "negatives": int(mined.sum()),
            "pairs_with_fewer": int((~mined.all(axis=1) & mined.any(axis=1)).sum()),
            "pairs_without": int((~mined.any(axis=1)).sum()),
        },
        "positive": report.sample(positive),
        "negatives": report.sample(chosen),
        "rejected by the margin": report.sample(scores[window & ~allowed]),
    }


def _results(notes: list[dict], pairs: PairTable, documents: Documents, choice, about) -> dict:
    counts = report.total(notes) | {"documents": len(documents), "queries": len(pairs.query_keys)}
    counts |= {"bad_pairs": pairs.records.counts["bad"], "bad_documents": documents.bad}
    rates = {
        "candidates rejected by the margin": report.share(
            counts, "rejected_by_margin", "candidates"
        ),
        "pairs without a negative": report.share(counts, "pairs_without", "pairs"),
        "pairs with fewer than asked": report.share(counts, "pairs_with_fewer", "pairs"),
    }
    settings = {name: getattr(choice, name) for name in choice.__dataclass_fields__}
    settings["margin"] = vars(choice.margin)
    return report.results(
        "mine",
        about | settings,
        counts,
        rates,
        advice="loosen the margin, or widen the rank window",
    )


def _shown(notes: list[dict]) -> dict:
    series = ("positive", "negatives", "rejected by the margin")
    return {"Scores": {name: report.joined(notes, name) for name in series}}


def _example(row: dict) -> dict:
    negatives = zip(row["negatives"], row["negative_scores"], strict=True)
    lines = [(f"negative, {score:.3f}", text) for text, score in negatives]
    documents = row["document"] if isinstance(row["document"], list) else [row["document"]]
    positive = [(f"document, {row['document_score']:.3f}", text) for text in documents]
    return report.example(row["query"], positive + lines[:3])


def _rounded(score: float) -> float:
    return round(float(score), 6)
