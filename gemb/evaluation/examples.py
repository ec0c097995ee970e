"""Example queries and what was found for them, described for people to read.

A retrieval set has the fields named in `gemb.evaluation.searcher_figures`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemb import search
from gemb.evaluation.searcher_figures import DEPTH
from gemb.metrics.similarity import prepared

_SHOWN = 160  # characters of a document without a name


def top_hits(
    retrieval_set: Any, hits: search.Hits, queries: Sequence[int]
) -> list[list[dict[str, Any]]]:
    """Describes what a search found, for people to read.

    Args:
        retrieval_set: the set searched. Where its metadata is empty, a document's name is
            its id.
        hits: what a searcher found for `queries`, row by row.
        queries: the indices of those queries in the set.

    Returns:
        For each query its hits, best first: {"name", "path", "line", "score", "relevant"}; path and
        line are None where unknown, and there is "text", its beginning, where there is no name.
    """
    shown = []
    for query, scores, indices in zip(queries, hits.scores, hits.indices, strict=True):
        relevant = _relevant(retrieval_set.qrels[query])
        shown.append(
            [
                _describe(retrieval_set, int(i))
                | {"score": float(score), "relevant": int(i) in relevant}
                for score, i in zip(scores, indices, strict=True)
                if i >= 0
            ]
        )
    return shown


def example_queries(
    retrieval_set: Any,
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    *,
    count: int = 10,
    hits: int = 5,
    similarity: str = "cosine",
) -> list[dict[str, Any]]:
    """Queries with their first hits by two models, as `write_report` shows them.

    The queries are evenly spaced in the set: they are not selected by result.

    Args:
        retrieval_set: the set searched.
        before: the query and the document vectors of one model, as in `evaluate_vectors`.
        after: those of the other.
        count: queries wanted.
        hits: documents shown for each.
        similarity: "cosine" or "dot".

    Returns:
        For each query {"query", "relevant": name of the best document by grade, "before", "after":
        hits as in `top_hits`, "before_rank", "after_rank": the rank of the first relevant document,
        None beyond 100}.
    """
    judged = [i for i, grades in enumerate(retrieval_set.qrels) if _relevant(grades)]
    places = np.linspace(0, len(judged) - 1, min(count, len(judged))).round().astype(int)
    chosen = [judged[place] for place in places]
    examples = []
    for query in chosen:
        grades = retrieval_set.qrels[query]
        best = _describe(retrieval_set, max(grades, key=grades.get))
        examples.append({"query": retrieval_set.query_texts[query], "relevant": best["name"]})
    for side, (query_vectors, document_vectors) in {"before": before, "after": after}.items():
        queries, documents = (
            prepared(vectors, vectors.shape[1], similarity, side)
            for vectors in (query_vectors[chosen], document_vectors)
        )
        found = search.ExactSearcher(documents).search(queries, DEPTH)
        described = top_hits(retrieval_set, found, chosen)
        for example, ranked in zip(examples, described, strict=True):
            right = (rank for rank, hit in enumerate(ranked, 1) if hit["relevant"])
            example |= {side: ranked[:hits], f"{side}_rank": next(right, None)}
    return examples


def _relevant(grades: Mapping[int, int]) -> set[int]:
    return {index for index, grade in grades.items() if grade > 0}


def _describe(retrieval_set: Any, index: int) -> dict[str, Any]:
    metadata = retrieval_set.corpus_metadata
    known = metadata[index] if index < len(metadata) else {}
    name = known.get("name") or retrieval_set.corpus_ids[index]
    about = {"name": name, "path": known.get("path"), "line": known.get("line")}
    if not known.get("name"):  # an id tells people nothing
        text = " ".join(retrieval_set.corpus_texts[index].split())
        about["text"] = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "\u2026"
    return about
