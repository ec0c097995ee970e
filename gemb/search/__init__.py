"""Finding the nearest documents: every way of searching answers to one protocol, `Searcher`.

Only searching belongs here: gemb.metrics and gemb.evaluation measure rankings, gemb.inference turns
texts into vectors. BM25 alone reads texts itself.

`ExactSearcher`, `ScannSearcher`, `HnswSearcher`, `FunnelSearcher` and `QuantizedSearcher` take
vectors, `Bm25Searcher` takes texts, and `FusedSearcher` joins any of them. `DeltaSearcher`
searches a corpus that changed by the index of an earlier one. `build` makes one of any
of the `KINDS`, with settings found by `choose_policy` (funnels), `tune` (ScaNN) or `tune_hnsw` for
a target; `save_index` and `load_index` keep it in a folder. JAX, ScaNN, usearch and bm25s are each
imported with the first searcher that needs them.
"""

from gemb.search.delta import DeltaSearcher
from gemb.search.exact import ExactSearcher
from gemb.search.funnel.calibration import Calibration, choose_policy
from gemb.search.funnel.cascade import FunnelSearcher
from gemb.search.funnel.policy import Policy, full_flops
from gemb.search.funnel.rotation import principal_axes
from gemb.search.hnsw import HnswSearcher
from gemb.search.hybrid import FusedSearcher, Queries
from gemb.search.index import load_index, read_manifest, save_index
from gemb.search.lexical import Bm25Searcher
from gemb.search.quantized import QuantizedSearcher
from gemb.search.registry import KINDS, build
from gemb.search.scann import ScannSearcher
from gemb.search.searcher import Hits, Searcher
from gemb.search.tuning import Tuning, tune

__all__ = [
    "KINDS",
    "Bm25Searcher",
    "Calibration",
    "DeltaSearcher",
    "ExactSearcher",
    "FunnelSearcher",
    "FusedSearcher",
    "Hits",
    "HnswSearcher",
    "Policy",
    "QuantizedSearcher",
    "Queries",
    "ScannSearcher",
    "Searcher",
    "Tuning",
    "build",
    "choose_policy",
    "full_flops",
    "load_index",
    "principal_axes",
    "read_manifest",
    "save_index",
    "tune",
]
