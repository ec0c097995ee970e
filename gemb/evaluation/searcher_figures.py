"""Quality and speed of searchers on a retrieval set: vectors at every width, ScaNN, BM25.

A retrieval set is anything with the fields of `gemb.data.sources.beir.RetrievalSet`: corpus_ids,
corpus_texts, corpus_metadata, query_ids, query_texts, and qrels as document index -> grade for each
query.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from gemb import checks, metrics, search
from gemb.metrics.similarity import prepared
from gemb.search import scann

DEPTH = 100  # documents ranked for each query: what recall@100 asks for


def evaluate_vectors(
    query_vectors: np.ndarray,
    document_vectors: np.ndarray,
    qrels: Sequence[Mapping[int, int]],
    *,
    widths: Sequence[int],
    approximate: bool = True,
    similarity: str = "cosine",
    ids: Sequence[str] = (),
    intervals: bool = False,
) -> dict[str, dict[str, float]]:
    """Measures retrieval by cosine or dot product at each width, by exact search and by ScaNN.

    Args:
        query_vectors: [queries, dim] floats.
        document_vectors: [documents, dim] floats.
        qrels: for each query, document index -> grade; grades of 1 and more are relevant.
        widths: nested widths; vectors are truncated to each and made unit length again.
        approximate: whether to measure ScaNN too, where it is installed.
        similarity: "cosine" or "dot"; by dot product vectors keep their length.
        ids: of the documents; equal scores are ranked by the higher id, as trec_eval does, and
            without ids by the lower index.
        intervals: whether to add the ends of the 95 % interval of each mean of exact search over
            the queries, "ndcg@10_low" and "ndcg@10_high" of "ndcg@10".

    Returns:
        str(width), widest first -> name -> figure: "ndcg@10", "recall@10", "recall@100", "mrr@10",
        "queries_per_second" (all queries in one call, 100 documents each, best of several passes)
        and "queries" (those with a relevant document, over which the means are taken). With ScaNN
        the same with the prefix "scann_", without "queries", and "scann_agreement@10": the share of
        exact search's first ten that ScaNN finds among its own.

    Raises:
        ValueError: vectors that are not finite, all zero or of different dims; a width outside 1 to
            dim; qrels for another number of queries, to unknown documents, or with none relevant.

    Example:
        >>> eye = np.eye(4, dtype=np.float32)
        >>> result = evaluate_vectors(eye, eye, [{0: 1}, {1: 1}, {2: 1}, {3: 1}], widths=[4],
        ...                           approximate=False)
        >>> result["4"]["ndcg@10"], result["4"]["queries"]
        (1.0, 4)
    """
    _check_inputs(query_vectors, document_vectors, qrels)
    if ids:
        order, qrels = metrics.in_trec_order(ids, qrels)
        document_vectors = document_vectors[order]
    approximate = approximate and scann.available()
    results = {}
    widths = checks.check_widths("widths", widths, document_vectors.shape[1])
    for width in tqdm(widths, desc="evaluating", unit="width", leave=False):
        queries = prepared(query_vectors, width, similarity, "query_vectors")
        documents = prepared(document_vectors, width, similarity, "document_vectors")
        exact, values = measure(
            search.ExactSearcher(documents), queries, qrels, intervals=intervals
        )
        if approximate:
            near, others = measure(search.ScannSearcher(documents), queries, qrels)
            del others["queries"]
            values |= {f"scann_{name}": value for name, value in others.items()}
            values["scann_agreement@10"] = _agreement(exact.indices[:, :10], near.indices[:, :10])
        results[str(width)] = values
    return results


def evaluate_bm25(retrieval_set: Any, *, intervals: bool = False) -> dict[str, dict[str, float]]:
    """Measures retrieval by BM25 over the texts.

    Args:
        retrieval_set: see the module's docstring.
        intervals: as for `evaluate_vectors`.

    Returns:
        {"text": name -> figure}, the names as in `evaluate_vectors`, without ScaNN's.

    Raises:
        ValueError: an empty corpus, or qrels that do not fit.
    """
    qrels, documents = retrieval_set.qrels, retrieval_set.corpus_texts
    _check_qrels(qrels, len(retrieval_set.query_texts), len(documents))
    order, qrels = metrics.in_trec_order(retrieval_set.corpus_ids, qrels)
    searcher = search.Bm25Searcher([documents[row] for row in order])
    _, values = measure(searcher, retrieval_set.query_texts, qrels, intervals=intervals)
    return {"text": values}


def measure(
    searcher: search.Searcher,
    queries,
    qrels: Sequence[Mapping[int, int]],
    passes: int = 3,
    *,
    intervals: bool = False,
) -> tuple[search.Hits, dict[str, float]]:
    """Searches and judges: figures as in `evaluate_vectors`; speed over `passes` passes or more."""
    hits = searcher.search(queries, DEPTH)  # compiles and warms up as well
    each = metrics.retrieval_metrics(hits.indices, qrels)
    values = metrics.mean_metrics(each, qrels)
    counted = values.pop("queries")
    if intervals:
        values |= _intervals(each, qrels)
    seconds = _best_seconds(lambda: searcher.search(queries, DEPTH), passes)
    return hits, values | {"queries_per_second": len(queries) / seconds, "queries": counted}


def _intervals(each: Mapping[str, np.ndarray], qrels: Sequence[Mapping[int, int]]) -> dict:
    """The ends of each figure's 95 % interval over the queries with a relevant document."""
    counted = [any(grade > 0 for grade in grades.values()) for grades in qrels]
    found = {}
    for name, values in each.items():
        found[f"{name}_low"], found[f"{name}_high"] = metrics.mean_interval(values[counted])
    return found


def _best_seconds(run: Callable[[], Any], passes: int, budget_seconds: float = 1.0) -> float:
    """The shortest of `passes` to three times as many, while the budget lasts."""
    taken = []
    while len(taken) < passes or (len(taken) < 3 * passes and sum(taken) < budget_seconds):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _agreement(exact: np.ndarray, near: np.ndarray) -> float:
    found = (exact[:, :, None] == near[:, None, :]).any(axis=2) & (exact >= 0)
    return float(found.sum() / (exact >= 0).sum())


def _check_inputs(query_vectors, document_vectors, qrels) -> None:
    checks.check_rank("document_vectors", document_vectors, 2)
    checks.check_shape("query_vectors", query_vectors, (None, document_vectors.shape[1]))
    _check_qrels(qrels, len(query_vectors), len(document_vectors))


def _check_qrels(qrels: Sequence[Mapping[int, int]], queries: int, documents: int) -> None:
    checks.check(documents > 0, "corpus: expected at least one document, got none")
    checks.check(
        len(qrels) == queries,
        f"qrels: expected one mapping for each of {queries} queries, got {len(qrels)}",
    )
    for query, grades in enumerate(qrels):
        unknown = [index for index in grades if not 0 <= index < documents]
        if unknown:
            raise ValueError(
                f"qrels: expected document indices below {documents}, got {unknown[0]} for query "
                f"{query}"
            )
