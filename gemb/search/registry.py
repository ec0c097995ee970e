"""The kinds of searcher: what each is called, how it is built from a corpus, how it is saved.

A new kind is one row of `KINDS`; `gemb index --kind`, index folders and the tests read it there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError, suggest
from gemb.search.delta import DeltaSearcher
from gemb.search.exact import ExactSearcher
from gemb.search.funnel.calibration import choose_policy
from gemb.search.funnel.cascade import FunnelSearcher
from gemb.search.funnel.rotation import principal_axes
from gemb.search.hnsw import HnswSearcher, tune_hnsw
from gemb.search.hybrid import FusedSearcher
from gemb.search.lexical import Bm25Searcher
from gemb.search.quantized import QuantizedSearcher
from gemb.search.scann import ScannSearcher
from gemb.search.searcher import Searcher
from gemb.search.tuning import tune

_SCANN_SHARE = 0.1


@dataclass(frozen=True)
class Corpus:
    """What a searcher is built from.

    Attributes:
        vectors: [documents, dim] floats of unit length; None for BM25.
        texts: the documents, for BM25.
        sample: [queries, dim] a few hundred queries of the kind that will be asked, for ScaNN, HNSW
            and the funnels.
        widths: the model's nested widths.
        target: agreement@k with exact search, for ScaNN, HNSW and the funnels.
        k: the hits that matter.
    """

    vectors: np.ndarray | None
    texts: Sequence[str] = ()
    sample: np.ndarray | None = None
    widths: Sequence[int] = ()
    target: float = 0.99
    k: int = 10


class Kind(NamedTuple):
    """One kind of searcher.

    Attributes:
        searcher: its class, whose `load` reads what its `save` wrote.
        saved_as: the "kind" in index.json; kinds of one class share it.
        build: makes one with the settings that suit the corpus.
    """

    searcher: type
    saved_as: str
    build: Callable[[Corpus], Searcher]


def _scann(corpus: Corpus) -> ScannSearcher:
    made = ScannSearcher(corpus.vectors)
    if corpus.sample is not None:
        tune(made, corpus.vectors, corpus.sample, k=corpus.k, target=corpus.target)
    return made


def _hnsw(corpus: Corpus) -> HnswSearcher:
    made = HnswSearcher(corpus.vectors)
    if corpus.sample is not None:
        tune_hnsw(made, corpus.vectors, corpus.sample, k=corpus.k, target=corpus.target)
    return made


def _funnel(corpus: Corpus, by_scann: bool) -> FunnelSearcher:
    vectors, sample = corpus.vectors, corpus.sample
    settings = {"k": corpus.k, "target": corpus.target}
    if by_scann:  # the policy's own loss and ScaNN's add up
        settings |= {"stages": 2, "scan_share": _SCANN_SHARE, "target": (1 + corpus.target) / 2}
    nested = [width for width in corpus.widths if width < vectors.shape[1]]
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
        tune(made, vectors, sample, k=corpus.k, target=corpus.target)
    return made


def _quantized(corpus: Corpus, precision: str, rescore: int) -> QuantizedSearcher:
    return QuantizedSearcher(corpus.vectors, precision=precision, rescore=rescore)


def _bm25(corpus: Corpus) -> Bm25Searcher:
    return Bm25Searcher(corpus.texts)


def _exact(corpus: Corpus) -> ExactSearcher:
    return ExactSearcher(corpus.vectors)


def _hybrid(corpus: Corpus) -> FusedSearcher:
    return FusedSearcher([_bm25(corpus), _exact(corpus)])


def _in_bits(precision: str, rescore: int) -> Kind:
    build = partial(_quantized, precision=precision, rescore=rescore)
    return Kind(QuantizedSearcher, "quantized", build)


KINDS = {
    "exact": Kind(ExactSearcher, "exact", _exact),
    "scann": Kind(ScannSearcher, "scann", _scann),
    "hnsw": Kind(HnswSearcher, "hnsw", _hnsw),
    "funnel": Kind(FunnelSearcher, "funnel", partial(_funnel, by_scann=False)),
    "funnel-scann": Kind(FunnelSearcher, "funnel", partial(_funnel, by_scann=True)),
    "bfloat16": _in_bits("bfloat16", rescore=2),
    "int8": _in_bits("int8", rescore=2),
    "binary": _in_bits("binary", rescore=10),
    "bm25": Kind(Bm25Searcher, "bm25", _bm25),
    "hybrid": Kind(FusedSearcher, "hybrid", _hybrid),
}


def saved() -> dict[str, type]:
    """The "kind" in index.json -> the class that reads such a folder."""
    return {kind.saved_as: kind.searcher for kind in KINDS.values()} | {"delta": DeltaSearcher}


def build(kind: str, vectors: np.ndarray | None, **corpus) -> Searcher:
    """Builds a searcher, its settings found from the corpus and a sample of queries.

    Args:
        kind: "exact"; "scann" or "hnsw", tuned; "funnel" with the cheapest policy; "funnel-scann",
            the same with ScaNN as its first stage, tuned; "bfloat16", "int8" or "binary",
            re-scored; "bm25"; "hybrid", of BM25 and exact search.
        vectors: [documents, dim] floats of unit length; None for "bm25".
        **corpus: the other fields of `Corpus`. The defaults of ScaNN and HNSW hold without a
            sample; without widths below dim a funnel tries its own, also on the principal axes.

    Returns:
        The searcher.

    Raises:
        UserError: an unknown kind, scann not installed, or a target that no setting reaches.
        ValueError: what the searchers, `choose_policy` and `tune` refuse.
    """
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise UserError(f"unknown kind of index {kind!r}; known are {known}.{suggest(kind, KINDS)}")
    return KINDS[kind].build(Corpus(vectors, **corpus))
