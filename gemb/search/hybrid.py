"""Hybrid search: several searchers' rankings joined by their ranks (BM25 and vectors, say)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gemb import checks
from gemb.search import searcher


@dataclass(frozen=True)
class Queries:
    """The same queries as texts and as vectors, for searchers that read one or the other.

    Example:
        >>> len(Queries(["a", "b"], np.zeros((2, 3)))[:1])
        1
    """

    texts: Sequence[str]
    vectors: np.ndarray

    def __post_init__(self):
        texts, vectors = len(self.texts), len(self.vectors)
        checks.check(
            texts == vectors, f"queries: expected as many texts as vectors, got {texts}, {vectors}"
        )

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, rows: slice) -> "Queries":
        return Queries(self.texts[rows], self.vectors[rows])


class FusedSearcher:
    """Joins the rankings of several searchers of one corpus by reciprocal-rank fusion.

    score = sum over searchers of weight / (constant + rank), ranks from 1, equal scores sharing
    the better rank; a document that a searcher did not find adds nothing.

    Args:
        searchers: two or more, over the same documents in the same order.
        depth: documents asked of each; at least k are.
        constant: the larger, the less the first ranks stand out.
        weights: one for each searcher; default 1.

    Raises:
        ValueError: fewer than two searchers, of different corpora, or weights that do not fit.

    Example:
        >>> from gemb.search import Bm25Searcher, ExactSearcher
        >>> both = FusedSearcher([Bm25Searcher(["red fox", "blue sea"]), ExactSearcher(np.eye(2))])
        >>> both.search(Queries(["the sea"], np.array([[0.2, 0.9]])), k=1).indices
        array([[1]])

    Reference: Cormack, Clarke and Buettcher, Reciprocal rank fusion outperforms Condorcet and
        individual rank learning methods, 2009.
    """

    def __init__(
        self,
        searchers: Sequence[searcher.Searcher],
        *,
        depth: int = 100,
        constant: float = 60.0,
        weights: Sequence[float] | None = None,
    ):
        checks.check(len(searchers) >= 2, f"searchers: expected two or more, got {len(searchers)}")
        sizes = {one.documents for one in searchers}
        checks.check(len(sizes) == 1, f"searchers: expected one corpus, got sizes {sorted(sizes)}")
        checks.check(depth >= 1, f"depth: expected 1 or more, got {depth}")
        checks.check(constant > 0, f"constant: expected above 0, got {constant}")
        weights = [1.0] * len(searchers) if weights is None else list(weights)
        checks.check(
            len(weights) == len(searchers) and min(weights) >= 0 and max(weights) > 0,
            f"weights: expected {len(searchers)} of 0 or more, not all 0, got {weights}",
        )
        self.searchers, self.weights = list(searchers), weights
        self.documents, self.dim = sizes.pop(), max(one.dim for one in searchers)
        kinds = {one.reads for one in searchers}
        self.reads = kinds.pop() if len(kinds) == 1 else "both"
        self._depth, self._constant = depth, constant

    def search(self, queries, k: int) -> searcher.Hits:
        """Finds the k best documents of each query; see `Searcher.search`.

        Args:
            queries: `Queries` where some searchers read texts and others vectors.
            k: documents wanted.
        """
        if self.reads == "both":
            came = type(queries).__name__
            checks.check(
                isinstance(queries, Queries), f"queries: expected texts and vectors, got {came}"
            )
        searcher.check_k(k)
        depth = max(k, self._depth)
        found = [one.search(_part(queries, one.reads), depth) for one in self.searchers]
        scores = np.full((len(queries), k), -np.inf, np.float32)
        indices = np.full((len(queries), k), -1, np.int64)
        for row in range(len(queries)):
            best, score = self._fuse([(hits.scores[row], hits.indices[row]) for hits in found], k)
            indices[row, : len(best)], scores[row, : len(best)] = best, score
        return searcher.Hits(scores, indices)

    def _fuse(self, rankings, k: int) -> tuple[np.ndarray, np.ndarray]:
        parts, gains = [], []
        for weight, (scores, indices) in zip(self.weights, rankings, strict=True):
            scores, indices = scores[indices >= 0], indices[indices >= 0]
            rank = 1 + np.searchsorted(-scores, -scores, side="left")
            parts.append(indices)
            gains.append(weight / (self._constant + rank))
        documents, place = np.unique(np.concatenate(parts), return_inverse=True)
        total = np.bincount(place, np.concatenate(gains), len(documents)).astype(np.float32)
        order = np.argsort(-total, kind="stable")[:k]
        return documents[order], total[order]

    def save(self, folder: Path) -> dict:
        """Returns the settings; the searchers are saved by themselves, see `index.save_index`."""
        return {"depth": self._depth, "constant": self._constant, "weights": self.weights}

    @classmethod
    def load(cls, folder: Path, settings: dict) -> "FusedSearcher":
        """Makes one of what `save` returned and of "searchers", those that were read."""
        return cls(**settings)


def _part(queries, reads: str):
    return getattr(queries, reads) if isinstance(queries, Queries) and reads != "both" else queries
