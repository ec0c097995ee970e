"""Documents without a direction: their vector is zero, as that of an empty text.

They come after all other documents, with the score 0, even where the others' scores are negative.
"""

from collections.abc import Callable

import numpy as np

from gemb.search.searcher import Hits, ordered_hits

_ROWS = 1 << 14  # rows looked at at a time


class Directions:
    """The documents of a corpus that have a direction, and those that have none.

    Args:
        rows: [documents, dim] the corpus; a mapped file is read in parts.

    Attributes:
        empty: numbers of the documents without one, rising.

    Example:
        >>> directions = Directions(np.array([[0.0, 0], [-1, 0], [0, 0], [1, 0]]))
        >>> scores = np.array([[0.0, -1, 0, 1]])
        >>> directions.last(scores, np.arange(4)[None], k=3)
        Hits(scores=array([[ 1., -1.,  0.]], dtype=float32), indices=array([[3, 1, 0]]))
    """

    def __init__(self, rows: np.ndarray):
        starts = range(0, len(rows), _ROWS)
        parts = [at + np.flatnonzero(~np.any(rows[at : at + _ROWS], axis=1)) for at in starts]
        self.empty, self._documents = np.concatenate([np.zeros(0, np.int64), *parts]), len(rows)

    @classmethod
    def of(cls, empty: list[int], documents: int) -> "Directions":
        """Those of a corpus of this many documents, `empty` of which have none."""
        made = cls(np.zeros((0, 1)))
        made.empty, made._documents = np.array(empty, np.int64), documents
        return made

    def candidates(self, k: int) -> int:
        """How many documents a search has to find, so that k with a direction are among them."""
        return min(k + len(self.empty), self._documents)

    def last(
        self, scores: np.ndarray, indices: np.ndarray, k: int, order: Callable = ordered_hits
    ) -> Hits:
        """Orders what a search found, the documents without a direction behind all others.

        Args:
            scores: [queries, found] scores; -inf or NaN marks an empty place.
            indices: [queries, found] rows of the corpus; `candidates(k)` of them, or all there are.
            k: columns of the result.
            order: (scores, indices, k) -> Hits of the others.
        """
        if not len(self.empty):
            return order(scores, indices, k)
        hits = order(np.where(np.isin(indices, self.empty), -np.inf, scores), indices, k)
        missing = hits.indices < 0
        place = np.cumsum(missing, axis=1) - 1
        added = missing & (place < len(self.empty))
        hits.indices[added], hits.scores[added] = self.empty[place[added]], 0.0
        return hits
