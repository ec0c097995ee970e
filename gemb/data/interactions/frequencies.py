"""How often items occur: exact counts, and an estimate over a stream.

The in-batch softmax draws its negatives by these frequencies; the logQ correction takes them out.
"""

import numpy as np

from gemb import checks


def counts(items: np.ndarray, size: int) -> np.ndarray:
    """[size] int64, how many events each item has.

    Args:
        items: [events] rows of items.
        size: how many items the catalogue has.

    Raises:
        ValueError: for a row outside of the catalogue.
    """
    items = np.asarray(items)
    inside = not len(items) or (items.min() >= 0 and items.max() < size)
    checks.check(inside, f"items: expected rows from 0 to {size - 1}, got others")
    return np.bincount(items, minlength=size)


def shares(items: np.ndarray, size: int) -> np.ndarray:
    """[size] float64, the share q of events that each item has; they add up to 1.

    Raises:
        ValueError: without events, or for a row outside of the catalogue.

    Example:
        >>> shares(np.array([0, 0, 2, 1]), 4)
        array([0.5 , 0.25, 0.25, 0.  ])
    """
    found = counts(items, size)
    checks.check(len(items) > 0, "items: expected at least one event, got none")
    return found / found.sum()


class StreamingFrequencies:
    """Estimates how often ids occur from the steps between their occurrences.

    delta <- (1 - rate) delta + rate (step - last step); q = 1 / delta, the share of batches that
    hold the id. Ids share places by a hash of several arrays, of which the rarest estimate counts,
    so a collision cannot raise q by more than the least collision does.

    Args:
        places: the size of each array.
        rate: how fast the estimate follows.
        hashes: arrays.

    Raises:
        ValueError: for sizes below 1 or a rate outside of (0, 1].

    Reference: Yi et al., Sampling-bias-corrected neural modeling for large corpus item
        recommendations, RecSys 2019, algorithm 2.
    """

    def __init__(self, places: int, *, rate: float = 0.01, hashes: int = 1):
        checks.check(places >= 1 and hashes >= 1, "places, hashes: expected at least 1")
        checks.check(0 < rate <= 1, f"rate: expected a number in (0, 1], got {rate}")
        self._rate, self._step = rate, 0
        odd = np.random.default_rng(0).integers(1, 2**62, (hashes, 1), np.uint64)
        self._factors = odd * np.uint64(2) + np.uint64(1)
        self._last = np.zeros((hashes, places), np.int64)
        self._delta = np.zeros((hashes, places))

    def update(self, ids: np.ndarray) -> None:
        """Counts one batch: [batch] ids, repeats count once."""
        self._step += 1
        for last, delta, places in zip(self._last, self._delta, self._hash(ids), strict=True):
            here = np.unique(places)
            gap = self._step - last[here]
            old = np.where(last[here] > 0, delta[here], gap)
            delta[here] = (1 - self._rate) * old + self._rate * gap
            last[here] = self._step

    def shares(self, ids: np.ndarray) -> np.ndarray:
        """[ids] float64 q, the share of batches with each id; 0 for one that never came."""
        delta = np.stack(
            [d[places] for d, places in zip(self._delta, self._hash(ids), strict=True)]
        )
        seen = (delta > 0).all(axis=0)
        return np.where(seen, 1 / np.maximum(delta.max(axis=0), 1), 0.0)

    def _hash(self, ids: np.ndarray) -> np.ndarray:
        """[hashes, ids] places; with one array and enough places an id is its own place."""
        ids = np.asarray(ids, np.int64)
        size = self._last.shape[1]
        if len(self._last) == 1 and (not len(ids) or (ids.min() >= 0 and ids.max() < size)):
            return ids[None]
        mixed = ids.astype(np.uint64)[None] * self._factors
        return ((mixed >> np.uint64(31)) % np.uint64(size)).astype(np.int64)
