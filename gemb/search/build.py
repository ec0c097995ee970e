"""A searcher of any kind by name, its settings found from the corpus and a sample of queries."""

from collections.abc import Sequence

import numpy as np

from gemb.checks import UserError, suggest
from gemb.search.calibration import choose_policy
from gemb.search.exact import ExactSearcher
from gemb.search.funnel import FunnelSearcher
from gemb.search.hybrid import FusedSearcher
from gemb.search.lexical import Bm25Searcher
from gemb.search.quantized import PRECISIONS, QuantizedSearcher
from gemb.search.rotation import principal_axes
from gemb.search.scann import ScannSearcher
from gemb.search.searcher import Searcher
from gemb.search.tuning import tune

KINDS = ("exact", "scann", "funnel", "funnel-scann", *PRECISIONS, "bm25", "hybrid")
_RESCORE = {"bfloat16": 2, "int8": 2, "binary": 10}
_SCANN_SHARE = 0.1


def build(
    kind: str,
    vectors: np.ndarray | None,
    *,
    texts: Sequence[str] = (),
    sample: np.ndarray | None = None,
    widths: Sequence[int] = (),
    target: float = 0.99,
    k: int = 10,
) -> Searcher:
    """Builds a searcher.

    Args:
        kind: "exact"; "scann", tuned; "funnel" with the cheapest policy; "funnel-scann", the same
            with ScaNN as its first stage, tuned; "bfloat16", "int8" or "binary", re-scored;
            "bm25"; "hybrid", of BM25 and exact search.
        vectors: [documents, dim] floats of unit length; None for "bm25".
        texts: the documents, for "bm25" and "hybrid".
        sample: [queries, dim] a few hundred queries of the kind that will be asked, for "scann"
            (its defaults hold without) and the funnels.
        widths: the model's nested widths; with no other than dim a funnel looks for its own on
            the principal axes too.
        target: agreement@k with exact search, for "scann" and the funnels.
        k: the hits that matter.

    Returns:
        The searcher.

    Raises:
        UserError: an unknown kind, scann not installed, or a target that no setting reaches.
        ValueError: what the searchers, `choose_policy` and `tune` refuse.
    """
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise UserError(f"unknown kind of index {kind!r}; known are {known}.{suggest(kind, KINDS)}")
    if kind == "bm25":
        return Bm25Searcher(texts)
    if kind == "hybrid":
        return FusedSearcher([Bm25Searcher(texts), ExactSearcher(vectors)])
    if kind == "exact":
        return ExactSearcher(vectors)
    if kind in PRECISIONS:
        return QuantizedSearcher(vectors, precision=kind, rescore=_RESCORE[kind])
    if kind == "scann":
        made = ScannSearcher(vectors)
        if sample is not None:
            tune(made, vectors, sample, k=k, target=target)
        return made
    return _funnel(vectors, sample, widths, kind == "funnel-scann", target, k)


def _funnel(vectors, sample, widths, by_scann: bool, target: float, k: int) -> FunnelSearcher:
    settings = {"k": k, "target": target}
    if by_scann:  # the policy's own loss and ScaNN's add up
        settings |= {"stages": 2, "scan_share": _SCANN_SHARE, "target": (1 + target) / 2}
    nested = [width for width in widths if width < vectors.shape[1]]
    if nested:
        axes, chosen = None, choose_policy(vectors, sample, widths=nested, **settings)
    else:
        tried = [(None, choose_policy(vectors, sample, **settings))]
        turned = principal_axes(vectors)
        tried.append((turned, choose_policy(vectors, sample, axes=turned, **settings)))
        axes, chosen = min(tried, key=lambda pair: pair[1].flops)
    widths, shortlists = chosen.policy
    first = "scann" if by_scann and shortlists else "exact"
    made = FunnelSearcher(vectors, widths=widths, shortlists=shortlists, axes=axes, first=first)
    if made.scann is not None:
        tune(made, vectors, sample, k=k, target=target)
    return made
