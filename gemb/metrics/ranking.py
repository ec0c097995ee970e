"""Measures of ranked lists: nDCG, recall and reciprocal rank, equal to trec_eval's.

Turns rankings and relevance grades into figures, in float64 numpy. Rankings are made in
gemb.search; gemb.evaluation chooses the texts.

Conventions, those of trec_eval: a document without a grade is not relevant; a grade below 1 is not
relevant and gains nothing; the gain is the grade itself (linear); recall divides by all relevant
documents, found or not; of equal scores the higher document id comes first (`in_trec_order`). A
query without any relevant document scores 0 in every measure, and `mean_metrics` leaves it out of
the mean, because no ranking could have scored more.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from gemb import checks


def metric_names(
    ndcg_at: Sequence[int] = (10,),
    recall_at: Sequence[int] = (10, 100),
    mrr_at: Sequence[int] = (10,),
) -> list[str]:
    """The names that `retrieval_metrics` gives its results, in order.

    Args:
        ndcg_at: cut-offs of nDCG.
        recall_at: cut-offs of recall.
        mrr_at: cut-offs of the reciprocal rank.

    Returns:
        Names such as "ndcg@10".

    Example:
        >>> metric_names()
        ['ndcg@10', 'recall@10', 'recall@100', 'mrr@10']
    """
    cuts = {"ndcg": ndcg_at, "recall": recall_at, "mrr": mrr_at}
    return [f"{name}@{cut}" for name, at in cuts.items() for cut in at]


def retrieval_metrics(
    ranked: np.ndarray,
    qrels: Sequence[Mapping[int, int]],
    *,
    ndcg_at: Sequence[int] = (10,),
    recall_at: Sequence[int] = (10, 100),
    mrr_at: Sequence[int] = (10,),
) -> dict[str, np.ndarray]:
    """Scores rankings of document indices against graded relevance, query by query.

    nDCG@k = sum_{r<=k} gain_r / log2(r + 1), divided by the same sum for the ideal ranking;
    recall@k = relevant among the first k / relevant in all; MRR@k = 1 / rank of the first relevant
    document, 0 where it comes after k.

    Args:
        ranked: [queries, k] integer document indices, best first; -1 where nothing was found.
        qrels: for each query, document index -> grade; grades of 1 and more are relevant.
        ndcg_at: cut-offs of nDCG. A cut-off beyond k counts what was ranked.
        recall_at: cut-offs of recall.
        mrr_at: cut-offs of the reciprocal rank.

    Returns:
        Name ("ndcg@10", ...) -> [queries] float64; 0 for a query without relevant documents.

    Raises:
        ValueError: `ranked` is not a matrix of integers with one row for each element of `qrels`,
            or a row names a document twice.

    Example:
        >>> scores = retrieval_metrics(np.array([[7, 3, 5]]), [{3: 1, 9: 1}])
        >>> {name: round(float(value[0]), 3) for name, value in scores.items()}
        {'ndcg@10': 0.387, 'recall@10': 0.5, 'recall@100': 0.5, 'mrr@10': 0.5}

    Reference: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002.
        The discount is that of trec_eval: the first rank is discounted by log2(2) = 1.
    """
    ranked = np.asarray(ranked)
    checks.check_rank("ranked", ranked, 2)
    checks.check_integer("ranked", ranked)
    checks.check(
        len(ranked) == len(qrels),
        f"qrels: expected one mapping for each of {len(ranked)} queries, got {len(qrels)}",
    )
    _check_distinct(ranked)
    gains = np.array(
        [
            [max(grades.get(index, 0), 0) for index in row]
            for row, grades in zip(ranked.tolist(), qrels, strict=True)
        ],
        dtype=np.float64,
    ).reshape(ranked.shape)
    relevant = np.array([sum(g > 0 for g in grades.values()) for grades in qrels], np.float64)
    values = [_ndcg(gains, qrels, cut) for cut in ndcg_at]
    values += [_share((gains[:, :cut] > 0).sum(axis=1), relevant) for cut in recall_at]
    values += [_reciprocal_rank(gains[:, :cut] > 0) for cut in mrr_at]
    return dict(zip(metric_names(ndcg_at, recall_at, mrr_at), values, strict=True))


def in_trec_order(
    ids: Sequence[str], qrels: Sequence[Mapping[int, int]]
) -> tuple[np.ndarray, list[dict[int, int]]]:
    """Documents in the order in which trec_eval ranks equal scores: the highest id first.

    Searchers rank equal scores by the lower number, so they rank as trec_eval does if they get the
    documents in this order.

    Args:
        ids: document ids.
        qrels: for each query, document index -> grade.

    Returns:
        [documents] the index of each document in turn, and the judgements by its new place.

    Example:
        >>> in_trec_order(["d1", "d3", "d10"], [{0: 1, 1: 2}])
        (array([1, 2, 0]), [{2: 1, 0: 2}])
    """
    order = sorted(range(len(ids)), key=ids.__getitem__, reverse=True)
    place = {old: new for new, old in enumerate(order)}
    judged = [{place[row]: grade for row, grade in grades.items()} for grades in qrels]
    return np.array(order, np.int64), judged


def run_metrics(
    run: Mapping[str, Mapping[str, float]],
    qrels: Mapping[str, Mapping[str, int]],
    **cuts: Sequence[int],
) -> dict[str, dict[str, float]]:
    """Scores a run as trec_eval does, ties included.

    Documents are ordered by score as float32, highest first; equal scores by document id, highest
    string first.

    Args:
        run: query id -> document id -> score.
        qrels: query id -> document id -> grade. Every query of it is scored (one that the run lacks
            with 0); queries of the run that it lacks are not.
        **cuts: `ndcg_at`, `recall_at`, `mrr_at`, as in `retrieval_metrics`.

    Returns:
        query id -> name -> value.

    Example:
        >>> run_metrics({"q": {"a": 1.0, "b": 1.0}}, {"q": {"a": 1}}, mrr_at=(1, 2))["q"]["mrr@2"]
        0.5
    """
    results = {}
    for query, grades in qrels.items():
        scores = run.get(query, {})
        order = sorted(sorted(scores, reverse=True), key=lambda d: -np.float32(scores[d]))
        index = {document: i for i, document in enumerate([*order, *(grades.keys() - scores)])}
        ranked = np.arange(len(order), dtype=np.int64)[None]
        graded = {index[document]: grade for document, grade in grades.items()}
        values = retrieval_metrics(ranked, [graded], **cuts)
        results[query] = {name: float(value[0]) for name, value in values.items()}
    return results


def mean_metrics(
    values: Mapping[str, np.ndarray], qrels: Sequence[Mapping[int, int]]
) -> dict[str, float]:
    """Means over the queries that have a relevant document, and how many those are.

    Args:
        values: name -> [queries] values, from `retrieval_metrics`.
        qrels: for each query, document index -> grade.

    Returns:
        name -> mean, and "queries" -> the number of queries counted.

    Raises:
        ValueError: no query has a relevant document.

    Example:
        >>> mean_metrics({"mrr@10": np.array([1.0, 0.0, 0.5])}, [{0: 1}, {}, {2: 3}])
        {'mrr@10': 0.75, 'queries': 2}
    """
    counted = np.array([any(g > 0 for g in grades.values()) for grades in qrels], dtype=bool)
    checks.check(
        bool(counted.any()),
        f"qrels: expected a relevant document for at least one of {len(qrels)} queries, got none",
    )
    means = {name: float(np.mean(value[counted])) for name, value in values.items()}
    return means | {"queries": int(counted.sum())}


def _check_distinct(ranked: np.ndarray) -> None:
    ordered = np.sort(ranked, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        query, place = np.argwhere(twice)[0]
        raise ValueError(
            "ranked: expected each document at most once for a query, got document "
            f"{ordered[query, place]} twice for query {query}"
        )


def _ndcg(gains: np.ndarray, qrels: Sequence[Mapping[int, int]], cut: int) -> np.ndarray:
    ideal = np.zeros((len(qrels), cut))
    for row, grades in zip(ideal, qrels, strict=True):
        best = sorted((g for g in grades.values() if g > 0), reverse=True)[:cut]
        row[: len(best)] = best
    return _share(_discounted(gains[:, :cut]), _discounted(ideal))


def _discounted(gains: np.ndarray) -> np.ndarray:
    return gains @ (1 / np.log2(np.arange(gains.shape[1]) + 2))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _reciprocal_rank(relevant: np.ndarray) -> np.ndarray:
    if relevant.shape[1] == 0:
        return np.zeros(len(relevant))
    return np.where(relevant.any(axis=1), 1 / (relevant.argmax(axis=1) + 1), 0.0)
