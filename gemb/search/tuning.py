"""ScaNN's settings for a recall wanted: the cheapest that meet it on a sample of queries."""

from typing import NamedTuple

import numpy as np

from gemb import checks
from gemb.checks import UserError
from gemb.search import searcher
from gemb.search.exact import ExactSearcher
from gemb.search.funnel.cascade import FunnelSearcher
from gemb.search.scann import ScannSearcher

_REORDERS = (1, 2, 4, 8, 16, 32)  # times k, or times a funnel's first shortlist


class Tuning(NamedTuple):
    """Settings of a ScannSearcher and what they gave on the sample.

    Attributes:
        leaves_to_search: leaves that a query visits.
        reorder: candidates scored again in float32.
        recall: share of exact search's first k that was found.
        queries: size of the sample.
    """

    leaves_to_search: int
    reorder: int
    recall: float
    queries: int


def tune(
    index: ScannSearcher | FunnelSearcher,
    vectors: np.ndarray,
    queries: np.ndarray,
    *,
    k: int = 10,
    target: float = 0.95,
) -> Tuning:
    """Sets an index to the cheapest search whose recall@k on a sample meets a target.

    For each length of the re-ordering the fewest leaves that suffice are found by bisection; among
    these pairs the fewest operations win. Recall less two standard errors must reach the target, so
    that other queries of the same kind may be expected to reach it too.

    Args:
        index: built from `vectors`, a funnel's first stage being ScaNN; its settings are changed.
        vectors: [documents, dim] floats.
        queries: [queries, dim] floats; a few hundred of the kind that will be asked.
        k: the hits that matter.
        target: share of them to find, above 0 and below 1.

    Returns:
        Tuning.

    Raises:
        ValueError: an index of other vectors, k above the number of documents, a target outside
            (0, 1), or fewer than two queries.
        UserError: if no setting reaches the target; the message has the best recall.
    """
    vectors = searcher.check_corpus("vectors", vectors)
    checks.check_shape("vectors", vectors, (index.documents, index.dim))
    stage = index.scann if isinstance(index, FunnelSearcher) else index
    checks.check(stage is not None, "index: expected one by ScaNN, got a funnel with an exact pass")
    checks.check(len(queries) >= 2, f"queries: expected 2 or more, got {len(queries)}")
    checks.check(0 < target < 1, f"target: expected above 0 and below 1, got {target}")
    documents = index.documents
    checks.check(
        1 <= k <= documents, f"k: expected 1 to {documents}, the corpus's documents, got {k}"
    )
    true = ExactSearcher(vectors).search(queries, k).indices
    found, best = [], 0.0
    least, most = k if stage is index else index.policy.shortlists[0], stage.leaves
    for reorder in sorted({min(times * least, documents) for times in _REORDERS}):

        def recall_of(leaves: int, reorder: int = reorder) -> tuple[float, float]:
            stage.set(leaves, reorder)
            return _recall(true, index.search(queries, k).indices)

        leaves, recall = _fewest_leaves(recall_of, most, target)
        best = max(best, recall[0])
        if recall[1] >= target:
            stage.set(leaves, reorder)
            found.append((index.flops, leaves, reorder, recall[0]))
            most = leaves  # a longer re-ordering needs no more of them
    if not found:
        stage.set()
        raise UserError(
            f"no setting of this ScaNN index reaches recall@{k} {target}; the best found was "
            f"{best:.4f}: lower the target or search exactly"
        )
    _, leaves, reorder, recall = min(found)
    stage.set(leaves, reorder)
    return Tuning(leaves, reorder, recall, len(queries))


def _fewest_leaves(recall_of, most: int, target: float):
    """The fewest leaves that meet the target, else `most`, and (recall, recall less its errors)."""
    low, high = 1, most
    reached = recall_of(high)
    if reached[1] < target:
        return high, reached
    while low < high:
        middle = (low + high) // 2
        recall = recall_of(middle)
        if recall[1] >= target:
            high, reached = middle, recall
        else:
            low = middle + 1
    return high, reached


def _recall(true: np.ndarray, found: np.ndarray) -> tuple[float, float]:
    each = (true[:, :, None] == found[:, None, :]).any(axis=2).mean(axis=1)
    return float(each.mean()), float(each.mean() - 2 * each.std(ddof=1) / len(each) ** 0.5)
