"""Finding the nearest documents: every way of searching answers to one protocol, `Searcher`.

Here belong the indexes themselves. What a ranking is worth is gemb.metrics' and gemb.evaluation's
affair, and turning texts into vectors gemb.inference's; only BM25 reads texts itself.

`ExactSearcher`, `ScannSearcher`, `FunnelSearcher` and `QuantizedSearcher` take vectors,
`Bm25Searcher` texts, `FusedSearcher` joins any of them. `choose_policy` and `tune` find the
settings of a funnel and of ScaNN that meet a target; `save_index` and `load_index` keep any of them
in a folder. JAX, ScaNN and bm25s are each imported with the first searcher that needs them.
"""

from gemb.search.calibration import Calibration, choose_policy
from gemb.search.exact import ExactSearcher
from gemb.search.funnel import FunnelSearcher
from gemb.search.hybrid import FusedSearcher, Queries
from gemb.search.index import load_index, read_manifest, save_index
from gemb.search.lexical import Bm25Searcher
from gemb.search.policy import Policy, full_flops
from gemb.search.quantized import QuantizedSearcher
from gemb.search.rotation import principal_axes
from gemb.search.scann import ScannSearcher
from gemb.search.searcher import Hits, Searcher
from gemb.search.tuning import Tuning, tune

__all__ = [
    "Bm25Searcher",
    "Calibration",
    "ExactSearcher",
    "FunnelSearcher",
    "FusedSearcher",
    "Hits",
    "Policy",
    "QuantizedSearcher",
    "Queries",
    "ScannSearcher",
    "Searcher",
    "Tuning",
    "choose_policy",
    "full_flops",
    "load_index",
    "principal_axes",
    "read_manifest",
    "save_index",
    "tune",
]
