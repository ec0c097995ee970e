"""A funnel's policy, learned on a sample of queries: the cheapest that keeps the true neighbours.

For each width the rank of each true neighbour is measured once; what a cascade keeps follows from
these ranks alone, so that thousands of cascades are weighed without running one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gemb import checks
from gemb.metrics.geometry import truncate
from gemb.search import searcher
from gemb.search.exact import ExactSearcher
from gemb.search.funnel.policy import Policy, full_flops
from gemb.search.funnel.rotation import rotate

_SPREAD = 2**0.5  # neighbouring shortlists differ by this factor
_LONGEST = 5  # a shortlist holds at most a fifth of the corpus
_BEAM = 40  # cascades kept while longer ones are tried


class Calibration(NamedTuple):
    """A policy and what it is expected to do.

    Attributes:
        policy: widths and shortlists.
        agreement: share of exact search's first k that the sample's queries keep, at least.
        flops: multiplications and additions of one query.
        full_flops: those of exact search at full width.
        queries: size of the sample.
    """

    policy: Policy
    agreement: float
    flops: int
    full_flops: int
    queries: int


def choose_policy(
    vectors: np.ndarray,
    queries: np.ndarray,
    *,
    k: int = 10,
    target: float = 0.99,
    widths: Sequence[int] | None = None,
    stages: int = 4,
    axes: np.ndarray | None = None,
    scan_share: float = 1.0,
) -> Calibration:
    """The cascade of the fewest operations whose agreement@k with exact search meets a target.

    Agreement on the sample less two standard errors must reach the target, so that other queries of
    the same kind may be expected to reach it too. Ranks are those in the whole corpus, of which
    those in a shortlist can only be better: the reported agreement is a lower bound for the sample.

    Args:
        vectors: [documents, dim] floats of unit length.
        queries: [queries, dim] floats; a few hundred of the kind that will be asked.
        k: the hits that matter.
        target: share of them to keep, above 0 and below 1.
        widths: the widths to choose from; those of a model with nested widths; default a ladder of
            dim / 48 .. dim / 2.
        stages: the most passes, the last at full width included.
        axes: as for `FunnelSearcher`.
        scan_share: what an operation of the first pass costs relative to one of the later ones.
            1 finds the fewest operations; about 0.1 the least time where many queries are asked at
            once (dense products against scattered rows), or where ScaNN does the first pass. The
            choice depends on it, the reported operations do not.

    Returns:
        Calibration. Where no cascade is cheaper than exact search its policy is exact search.

    Raises:
        ValueError: k above the number of documents, a target outside (0, 1), fewer than two
            queries, or a width outside 1 to dim.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
        >>> x[:, 4:] *= 0.01
        >>> choose_policy(x, x[:50], k=1, widths=[2, 4]).policy.widths[-1]
        8
    """
    vectors = searcher.check_corpus("vectors", vectors)
    documents, dim = vectors.shape
    queries = searcher.check_vectors("queries", queries, dim)
    checks.check(len(queries) >= 2, f"queries: expected 2 or more, got {len(queries)}")
    checks.check(0 < target < 1, f"target: expected above 0 and below 1, got {target}")
    checks.check(
        1 <= k <= documents, f"k: expected 1 to {documents}, the corpus's documents, got {k}"
    )
    checks.check(stages >= 1, f"stages: expected 1 or more, got {stages}")
    widths = _ladder(dim) if widths is None else checks.check_widths("widths", widths, dim)
    narrow = sorted(width for width in widths if width < dim)
    true = ExactSearcher(vectors).search(queries, k).indices
    turned, asked = rotate(vectors, axes), rotate(queries, axes)
    ranks = {width: _ranks(turned, asked, width, true) for width in narrow}
    turning = 0 if axes is None else 2 * dim**2
    policy, agreement = _cheapest(ranks, documents, dim, k, target, stages, scan_share)
    whole = full_flops(documents, dim)
    return Calibration(policy, agreement, policy.flops(documents) + turning, whole, len(queries))


def _ladder(dim: int) -> list[int]:
    """Widths from dim / 48 to dim / 2, in whole numbers."""
    shares = (48, 32, 24, 16, 12, 8, 6, 4, 3, 2)
    return sorted({dim // share for share in shares if dim // share >= 1})


def _ranks(vectors, queries, width: int, true: np.ndarray) -> np.ndarray:
    """[queries, k] how many documents come before each true neighbour at a width.

    Equal scores count as before it: the bound stays a bound.
    """
    documents = truncate(vectors, width, "vectors")
    queries = np.ascontiguousarray(queries[:, :width])
    before = np.zeros(true.shape, np.int64)
    for start in range(0, len(queries), 32):
        scores = queries[start : start + 32] @ documents.T
        for row, score in enumerate(scores, start):
            own = score[true[row]]
            before[row] = [np.count_nonzero(score >= value) - 1 for value in own]  # itself
    return before


def _cheapest(
    ranks: dict, documents: int, dim: int, k: int, target: float, stages: int, share: float
):
    """The cheapest (Policy, agreement) that meets the target, by a beam over the cascades."""
    lengths = _lengths(k, documents)
    best = Policy((dim,), ()), 1.0

    def cost(policy: Policy) -> float:
        return policy.flops(documents) - (1 - share) * 2 * documents * policy.widths[0]

    beam = [((), (), documents, None)]
    for _ in range(stages - 1):
        longer, hopes = [], []
        for widths, shortlists, scored, kept in beam:
            for width in (w for w in ranks if not widths or w > widths[-1]):
                for length in (n for n in lengths if n < scored):
                    policy = Policy((*widths, width, dim), (*shortlists, length))
                    hope = cost(_hoped(policy))
                    if hope >= cost(best[0]):
                        break  # and longer shortlists cost more
                    now = ranks[width] < length
                    now = now if kept is None else now & kept
                    if _safe(now) < target:
                        continue
                    longer.append((policy.widths[:-1], policy.shortlists, length, now))
                    hopes.append(hope)
                    if cost(policy) < cost(best[0]):
                        best = policy, float(now.mean())
        beam = _promising(longer, hopes)
    return best


def _promising(cascades: list, costs: list[float]) -> list:
    """The cheapest few cascades of each first width, to be lengthened."""
    taken, kept = {}, []
    for i in sorted(range(len(costs)), key=costs.__getitem__):
        first = cascades[i][0][0]
        taken[first] = taken.get(first, 0) + 1
        if taken[first] <= _BEAM:
            kept.append(cascades[i])
    return kept


def _hoped(policy: Policy) -> Policy:
    """The cascade as if its last pass could be had at half the full width."""
    *widths, last = policy.widths
    return Policy((*widths, max(widths[-1] + 1, last // 2)), policy.shortlists)


def _safe(kept: np.ndarray) -> float:
    """The mean over queries less two standard errors."""
    each = kept.mean(axis=1)
    return float(each.mean() - 2 * each.std(ddof=1) / len(each) ** 0.5)


def _lengths(k: int, documents: int) -> list[int]:
    """Shortlists to choose from: k, then longer by a factor, to a fifth of the corpus."""
    lengths, length = [], float(k)
    while length <= max(k, documents / _LONGEST):
        lengths.append(int(length))
        length *= _SPREAD
    return sorted(set(lengths))
