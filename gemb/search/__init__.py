"""Finding the nearest documents: every way of searching answers to one protocol, `Searcher`.

Here belong the indexes themselves. What a ranking is worth is gemb.metrics' and gemb.evaluation's
affair, and turning texts into vectors gemb.inference's; only BM25 reads texts itself.

`ExactSearcher` and `ScannSearcher` take vectors, `Bm25Searcher` takes texts. JAX, ScaNN and bm25s
are each imported with the first searcher that needs them.
"""

from gemb.search.exact import ExactSearcher
from gemb.search.lexical import Bm25Searcher
from gemb.search.scann import ScannSearcher
from gemb.search.searcher import Hits, Searcher

__all__ = ["Bm25Searcher", "ExactSearcher", "Hits", "ScannSearcher", "Searcher"]
