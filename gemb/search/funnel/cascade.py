"""Funnel search: a pass over narrow vectors, then ever wider re-ranking of ever shorter lists.

The narrow coordinates are in a separate array, so that the full pass reads nothing else.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb import checks
from gemb.metrics.geometry import truncate
from gemb.search import searcher
from gemb.search.directions import Directions
from gemb.search.funnel import first_stage
from gemb.search.funnel import policy as policies
from gemb.search.funnel.rotation import rotate
from gemb.search.repeats import Repeats
from gemb.search.scann import ScannSearcher
from gemb.search.selection import best_rows

FIRSTS = ("exact", "scann")


class FunnelSearcher:
    """Finds documents by a cascade over nested widths (Matryoshka), the last pass at full width.

    Each stage but the last ranks by the inner product of prefixes, a document's prefix made unit
    length again; the last by the full inner product.

    Args:
        vectors: [documents, dim] floats, unit length for cosine.
        widths: rising; the first is that of the full pass, the last is dim.
        shortlists: documents that each stage but the last hands on; at least k are, whatever it
            says. See `gemb.search.choose_policy`.
        axes: [dim, dim] an orthogonal matrix that turns documents and queries first, see
            `gemb.search.principal_axes`: for a model without nested widths. None for one that has
            them.
        first: how the first stage finds its shortlist: "exact", or "scann" on the narrow vectors
            (`gemb.search.tune` sets it to a target).

    Raises:
        ValueError: no vectors, values that are not finite, or widths and shortlists that do not
            fit.
        UserError: first is "scann" and that is not installed.

    Example:
        >>> eye = np.eye(4, dtype=np.float32) + 0.1
        >>> FunnelSearcher(eye, widths=[2, 4], shortlists=[3]).search(eye[:2], k=1).indices
        array([[0],
               [1]])

    Reference: Kusupati et al., Matryoshka representation learning, 2022, arXiv 2205.13147. There a
        stage keeps prefixes as they are; here they are made unit length again.
    """

    reads = "vectors"

    def __init__(
        self,
        vectors: np.ndarray,
        *,
        widths: Sequence[int],
        shortlists: Sequence[int],
        axes: np.ndarray | None = None,
        first: str = "exact",
    ):
        checks.check(first in FIRSTS, f"first: expected one of {FIRSTS}, got {first!r}")
        vectors = searcher.check_corpus("vectors", vectors)
        self.documents, self.dim = vectors.shape
        if axes is not None:
            checks.check_shape("axes", axes, (self.dim, self.dim))
        self.policy = policies.check_policy(widths, shortlists, self.dim)
        self.first, self._axes = first, axes
        self._repeats, self._directions = Repeats(vectors), Directions(vectors)
        self._wide = vectors if axes is None else self._repeats.unify(rotate(vectors, axes))
        narrow, *middle = self.policy.widths
        self._narrow = truncate(self._wide, narrow, "vectors") if middle else self._wide
        self._lengths = [_lengths(self._wide, width) for width in self.policy.widths[:-1]]
        # Each stage adds the coordinates that the one before left out. Those of the middle stages
        # lie in arrays of their own; the last stage's, few rows of many, may lie in a file.
        self._added = [
            np.ascontiguousarray(self._wide[:, low:high])
            for low, high in itertools.pairwise(self.policy.widths[:-1])
        ]
        self._added += [self._wide[:, self.policy.widths[-2] :]] if middle else []
        self.scann = ScannSearcher(self._narrow) if first == "scann" else None
        self._shortlist = self._first_stage()

    @property
    def flops(self) -> int:
        """Multiplications and additions of one query, those of turning it included."""
        turning = 0 if self._axes is None else 2 * self.dim**2
        total = turning + self.policy.flops(self.documents)
        if self.scann is None:
            return total
        return total - 2 * self.documents * self.policy.widths[0] + self.scann.flops

    def search(self, queries: np.ndarray, k: int) -> searcher.Hits:
        """Finds about the k best documents of each query; see `Searcher.search`."""
        queries = searcher.check_vectors("queries", queries, self.dim)
        searcher.check_k(k)
        queries = rotate(queries, self._axes)
        found = self._directions.candidates(k)
        count = max((found, *self.policy.shortlists[:1]))
        best = list(self._shortlist(queries, min(count, self.documents), self._rerank(found)))
        scores = np.array([row for row, _ in best], np.float32).reshape(len(queries), found)
        indices = np.array([row for _, row in best], np.int64).reshape(len(queries), found)
        return self._directions.last(scores, indices, k, self._repeats.settle)

    def save(self, folder: Path) -> dict:
        """Writes the (turned) vectors and the axes; returns the policy."""
        np.save(folder / "vectors.npy", self._wide)
        if self._axes is not None:
            np.save(folder / "axes.npy", self._axes)
        widths, shortlists = map(list, self.policy)
        settings = {"widths": widths, "shortlists": shortlists, "first": self.first}
        if self.scann is not None:
            settings["scann"] = self.scann.save(folder)
        return settings

    @classmethod
    def load(cls, folder: Path, settings: dict) -> "FunnelSearcher":
        """Reads what `save` wrote. The full-width vectors stay in their file."""
        vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
        scann = settings.get("scann")
        made = cls(vectors, widths=settings["widths"], shortlists=settings["shortlists"])
        if scann is not None:
            made.first, made.scann = "scann", ScannSearcher.load(folder, scann)
            made._shortlist = made._first_stage()
        if (folder / "axes.npy").exists():  # the vectors are turned already, the queries are not
            made._axes = np.load(folder / "axes.npy", allow_pickle=False)
        return made

    def _first_stage(self):
        if self.scann is not None:
            return first_stage.by_searcher(self.scann, self.policy.widths[0])
        return first_stage.by_full_pass(self._narrow)

    def _rerank(self, k: int):
        """(query, shortlist, its narrow scores) -> scores and rows of its k best, unordered."""
        keeps = [max(count, k) for count in (*self.policy.shortlists[1:], k)]
        widths, added, lengths = self.policy.widths, self._added, self._lengths

        def finish(query: np.ndarray, kept: np.ndarray, scores: np.ndarray):
            total = scores * lengths[0][kept] if added else scores
            for number, more in enumerate(added):
                low, high = widths[number : number + 2]
                # einsum, not a matrix product: BLAS would start threads of its own for each query.
                rows = more.take(kept, axis=0) if number + 1 < len(added) else more[kept]
                rows = np.asarray(rows, np.float32)  # of a file of another dtype
                total = total + np.einsum("nd,d->n", rows, query[low:high])
                if number + 1 < len(added):
                    best = best_rows(total / lengths[number + 1][kept], keeps[number])
                    kept, total = kept[best], total[best]
            best = best_rows(total, k)
            missing = 0, k - len(best)  # ScaNN can find fewer than it was asked for
            return (
                np.pad(total[best] + np.float32(0), missing, constant_values=-np.inf),
                np.pad(kept[best], missing, constant_values=-1),
            )

        return finish


def _lengths(vectors: np.ndarray, width: int) -> np.ndarray:
    """[documents] float32 of each prefix; of one of zeros 1, since lengths divide."""
    found = np.empty(len(vectors), np.float32)
    for start in range(0, len(vectors), 1 << 15):
        prefix = np.asarray(vectors[start : start + (1 << 15), :width], np.float32)
        found[start : start + (1 << 15)] = np.sqrt(np.einsum("nd,nd->n", prefix, prefix))
    return np.where(found > 0, found, 1)
