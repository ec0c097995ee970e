"""Metrics of re-ranking: average precision and reciprocal rank, equal to trec_eval's."""

from collections.abc import Sequence

import numpy as np

from gemb import checks


def reranking_metrics(
    scores: Sequence[np.ndarray], relevant: Sequence[np.ndarray], *, mrr_at: int = 10
) -> dict[str, np.ndarray]:
    """Scores the order of each query's candidates, query by query.

    AP = (1 / relevant) sum over relevant candidates of relevant up to its rank / rank;
    MRR@k = 1 / rank of the first relevant candidate, 0 where it comes after k

    Args:
        scores: for each query [candidates] numbers; the highest is ranked first. Of equal scores
            those not relevant come first: a model that scores all alike earns nothing by the order
            of the file.
        relevant: for each query [candidates] bool, at least one of them True.
        mrr_at: cut-off of the reciprocal rank.

    Returns:
        {"map": [queries], "mrr@10": [queries]} float64.

    Raises:
        ValueError: lists of different lengths, scores not finite, or a query with nothing relevant.

    Example:
        >>> values = reranking_metrics([np.array([0.1, 0.9, 0.5])], [np.array([True, False, True])])
        >>> round(float(values["map"][0]), 4), float(values["mrr@10"][0])
        (0.5833, 0.5)
    """
    checks.check(
        len(scores) == len(relevant),
        f"relevant: expected one list for each of {len(scores)} queries, got {len(relevant)}",
    )
    precisions, reciprocals = [], []
    for query, (values, right) in enumerate(zip(scores, relevant, strict=True)):
        values, right = np.asarray(values, np.float64), np.asarray(right, bool)
        checks.check_shape(f"relevant[{query}]", right, values.shape)
        checks.check(
            bool(right.any()), f"relevant[{query}]: expected a relevant candidate, got none"
        )
        checks.check(bool(np.isfinite(values).all()), f"scores[{query}]: expected finite values")
        ranks = np.flatnonzero(right[np.lexsort((right, -values))]) + 1
        precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        reciprocals.append(1 / ranks[0] if ranks[0] <= mrr_at else 0.0)
    return {"map": np.array(precisions), f"mrr@{mrr_at}": np.array(reciprocals)}
