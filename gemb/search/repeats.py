"""Documents with equal vectors: they are found together and share one score.

On some CPUs the rounding of a matrix product depends on the row's place (the last rows of a block
go through another kernel), so equal rows can get scores that differ in the last bit. A searcher
therefore finds its equal rows once, when it is built, and gives all of them the same score. Where
all rows differ, searches do no extra work.
"""

import numpy as np

from gemb.search.searcher import Hits, ordered_hits

_ROWS = 1 << 12  # rows compared at a time, which fit in the CPU's cache
_KEY_BYTES = 8  # rows that differ in their first bytes are not compared any further


class Repeats:
    """The documents of a corpus whose row occurs more than once.

    Args:
        rows: [documents, dim] of any numeric dtype, without NaN; 0 and -0 are equal.

    Example:
        >>> repeats = Repeats(np.array([[1.0, 2], [3, 4], [1, 2]]))
        >>> repeats.settle(np.array([[0.5, 0.4999]]), np.array([[2, 1]]), k=3)
        Hits(scores=array([[0.5   , 0.5   , 0.4999]], dtype=float32), indices=array([[0, 2, 1]]))
    """

    def __init__(self, rows: np.ndarray):
        self._start(_groups(rows))

    @classmethod
    def of(cls, groups: np.ndarray) -> "Repeats":
        """Those of [documents] numbers, one for all that are equal; -1 where no other is."""
        made = cls.__new__(cls)
        made._start(groups)
        return made

    def groups(self, documents: int) -> np.ndarray:
        """[documents] int64 as `of` takes them."""
        return np.full(documents, -1) if self._group is None else self._group

    def _start(self, group: np.ndarray) -> None:
        self._group = group if (group >= 0).any() else None
        if self._group is not None:
            repeated = np.flatnonzero(group >= 0)
            self._members = repeated[np.argsort(group[repeated], kind="stable")]
            self._starts = np.cumsum([0, *np.bincount(group[repeated])])

    def unify(self, made: np.ndarray) -> np.ndarray:
        """Makes rows computed from the documents equal where the documents are; works in place.

        Args:
            made: [documents, any] such as rotated vectors.

        Returns:
            The array.
        """
        if self._group is not None:
            firsts = np.repeat(self._members[self._starts[:-1]], np.diff(self._starts))
            made[self._members] = made[firsts]
        return made

    def settle(self, scores: np.ndarray, indices: np.ndarray, k: int) -> Hits:
        """Orders what a search found, and adds all documents equal to one that was found.

        Equal documents share the best of their scores.

        Args:
            scores: [queries, found] scores; -inf or NaN marks an empty place.
            indices: [queries, found] rows of the corpus, each at most once.
            k: columns of the result; at least k documents were found, where there are so many.

        Returns:
            Hits of [queries, k].
        """
        hits = ordered_hits(scores, indices, k)
        if self._group is None:
            return hits
        groups = np.where(hits.indices >= 0, self._group[hits.indices], -1)
        for row in np.flatnonzero((groups >= 0).any(axis=1)):
            found = hits.indices[row] >= 0
            parts = hits.scores[row][found], hits.indices[row][found], groups[row][found]
            hits.scores[row], hits.indices[row] = (part[0] for part in self._together(*parts, k))
        return hits

    def _together(self, scores: np.ndarray, indices: np.ndarray, groups: np.ndarray, k: int):
        """One query's hits, best first, with all documents of the groups among them."""
        alone = groups < 0
        names, first = np.unique(groups[~alone], return_index=True)  # hits come best first
        best = scores[~alone][first]
        members = [self._members[self._starts[name] : self._starts[name + 1]][:k] for name in names]
        documents = np.concatenate([indices[alone], *members])
        values = np.concatenate([scores[alone], np.repeat(best, [len(each) for each in members])])
        return ordered_hits(values[None], documents[None], k)


def _groups(rows: np.ndarray) -> np.ndarray:
    """[documents] int64, one number for all that are equal; -1 where no other row is equal."""
    group, count = np.full(len(rows), -1), 0
    beginning = rows[:, : -(-_KEY_BYTES // rows.itemsize)]
    left = _shared(_digest(beginning.copy()))
    while len(left):
        digests = np.concatenate([_digest(rows[part]) for part in _parts(left)])
        again = _shared(digests)
        left, digests = left[again], digests[again]
        _, first, number = np.unique(digests, return_index=True, return_inverse=True)
        equal = _equal(rows, left, left[first][number])
        group[left[equal]] = count + number[equal]
        count += len(first)
        left = left[~equal]  # their digests met by chance
    several = np.bincount(group[group >= 0], minlength=count) > 1
    names = np.append(np.where(several, np.cumsum(several) - 1, -1), -1)
    return names[group]


def _shared(keys: np.ndarray) -> np.ndarray:
    """The places, rising, of keys that occur more than once."""
    ordered = np.sort(keys)  # several times quicker than argsort
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    return np.flatnonzero(np.isin(keys, twice)) if len(twice) else np.zeros(0, np.int64)


def _digest(rows: np.ndarray) -> np.ndarray:
    """[rows] uint64, the same for equal rows: their bits summed by fixed random weights.

    Changes the rows: -0 becomes 0.
    """
    rows += rows.dtype.type(0)
    octets = np.ascontiguousarray(rows).view(np.uint8)
    missing = -octets.shape[1] % 4
    words = (np.pad(octets, ((0, 0), (0, missing))) if missing else octets).view(np.uint32)
    weights = np.random.default_rng(0).integers(1 << 63, size=words.shape[1], dtype=np.uint64)
    return np.einsum("nw,w->n", words.astype(np.uint64), weights)


def _equal(rows: np.ndarray, places: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[places] bool, whether the rows at two lists of places are equal."""
    pairs = zip(_parts(places), _parts(others), strict=True)
    parts = [(rows[here] == rows[there]).all(axis=1) for here, there in pairs]
    return np.concatenate([np.zeros(0, bool), *parts])


def _parts(places: np.ndarray) -> list[np.ndarray]:
    return [places[start : start + _ROWS] for start in range(0, len(places), _ROWS)]
