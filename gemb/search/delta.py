"""An index of an earlier corpus, and exact search over what was added or changed since."""

from pathlib import Path

import numpy as np

from gemb import checks
from gemb.search import searcher
from gemb.search.directions import Directions
from gemb.search.exact import ExactSearcher
from gemb.search.repeats import Repeats

_SPARE = 16  # hits asked of the base beyond k, so that few searches have to ask again
_DEEPER = 4


class DeltaSearcher:
    """Searches a corpus by the index of an earlier one.

    Documents that are the same are found in the base, those that changed or are new in an exact
    search over their vectors, and those that are gone are left out. The base is asked for more hits
    until enough of them are still there, so that over exact search the answers are those of an
    index that is built again.

    Args:
        base: a searcher of vectors whose scores are inner products.
        rows: [base.documents] the document of each row of the base now; -1 where it changed or is
            gone.
        vectors: [documents, dim] the whole corpus as it is now; what the base covers is only looked
            at for equal rows.
        deltas: how many times the corpus changed since the base was built.

    Raises:
        ValueError: rows that do not fit the base or the corpus, or vectors of another dim.

    Example:
        >>> base = ExactSearcher(np.eye(3, dtype=np.float32))
        >>> now = np.array([[0, 0, 1], [1, 0, 0], [0, 0.6, 0.8]], np.float32)
        >>> index = DeltaSearcher(base, np.array([1, -1, 0]), now)
        >>> index.search(np.array([[0, 1, 0.0]], np.float32), k=1).indices
        array([[2]])
    """

    reads = "vectors"

    def __init__(self, base, rows: np.ndarray, vectors: np.ndarray, *, deltas: int = 1):
        rows = np.asarray(rows, np.int64)
        checks.check_shape("rows", rows, (base.documents,))
        vectors = searcher.check_corpus("vectors", vectors)
        checks.check_shape("vectors", vectors, (None, base.dim))
        held = rows[rows >= 0]
        fits = len(np.unique(held)) == len(held) and (rows < len(vectors)).all()
        checks.check(fits, "rows: expected documents of the corpus, each at most once")
        added = np.setdiff1d(np.arange(len(vectors)), held)
        repeats, directions = Repeats(vectors), Directions(vectors)
        self._start(base, rows, added, np.asarray(vectors[added], np.float32), deltas)
        self._repeats, self._directions = repeats, directions

    def _start(self, base, rows, added, vectors, deltas: int) -> None:
        self.searchers, self.base_rows, self.deltas = (base,), rows, deltas
        self._added, self._vectors = added, vectors
        self.documents, self.dim = int((rows >= 0).sum()) + len(added), base.dim
        self._delta = ExactSearcher(vectors) if len(added) else None

    @property
    def base(self) -> searcher.Searcher:
        """The index of the earlier corpus."""
        return self.searchers[0]

    def search(self, queries: np.ndarray, k: int) -> searcher.Hits:
        """Finds the k best documents of each query; see `Searcher.search`."""
        queries = searcher.check_vectors("queries", queries, self.dim)
        searcher.check_k(k)
        wanted = self._directions.candidates(k)
        scores, indices = self._in_base(queries, wanted)
        if self._delta is not None:
            hits = self._delta.search(queries, min(wanted, len(self._added)))
            found = np.where(hits.indices >= 0, self._added[hits.indices], -1)
            scores = np.concatenate([scores, hits.scores], axis=1)
            indices = np.concatenate([indices, found], axis=1)
        return self._directions.last(scores, indices, k, self._repeats.settle)

    def _in_base(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and documents of hits of the base that are still there, k where it has as many.

        It is asked for more until none of the k best can be among what it left out, documents with
        the score of the last hit included.
        """
        depth = k + _SPARE
        while True:
            depth = min(depth, self.base.documents)
            hits = self.base.search(queries, depth)
            indices = np.where(hits.indices >= 0, self.base_rows[hits.indices], -1)
            scores = np.where(indices >= 0, hits.scores, -np.inf)
            better = (scores > hits.scores[:, -1:]).sum(axis=1)
            ended = hits.indices[:, -1] < 0
            if depth == self.base.documents or (ended | (better >= k)).all():
                return scores, indices
            depth *= _DEEPER

    def save(self, folder: Path) -> dict:
        """Writes what changed since the base; returns the settings."""
        np.save(folder / "rows.npy", self.base_rows)
        np.save(folder / "added.npy", self._added)
        np.save(folder / "vectors.npy", self._vectors)
        np.save(folder / "groups.npy", self._repeats.groups(self.documents))
        return {"deltas": self.deltas, "empty": self._directions.empty.tolist()}

    @classmethod
    def load(cls, folder: Path, settings: dict) -> "DeltaSearcher":
        """Makes one of what `save` wrote and of "searchers", the base that was read."""
        names = ("rows", "added", "vectors", "groups")
        rows, added, vectors, groups = (
            np.load(folder / f"{name}.npy", allow_pickle=False) for name in names
        )
        (base,) = settings["searchers"]
        checks.check_shape("rows.npy", rows, (base.documents,))
        checks.check_shape("vectors.npy", vectors, (len(added), base.dim))
        made = cls.__new__(cls)
        made._start(base, rows, added, vectors, settings["deltas"])
        checks.check_shape("groups.npy", groups, (made.documents,))
        made._repeats = Repeats.of(groups)
        made._directions = Directions.of(settings["empty"], made.documents)
        return made
