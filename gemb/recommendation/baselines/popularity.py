"""Popularity: the same list for everybody. What a recommender must beat first."""

from collections.abc import Mapping

import numpy as np
import scipy.sparse

from gemb import checks
from gemb.checks import UserError
from gemb.structs import Interactions


class Popularity:
    """Scores that do not depend on the user.

    Args:
        counts: [items] the score of each item.
    """

    kind = "popularity"

    def __init__(self, counts: np.ndarray):
        self.counts = np.asarray(counts, np.float32)

    def scores(
        self, histories: scipy.sparse.csr_array, users: np.ndarray | None = None
    ) -> np.ndarray:
        """[users, items] float32, each row the same."""
        return np.tile(self.counts, (histories.shape[0], 1))

    def tensors(self) -> Mapping[str, np.ndarray]:
        """The scores."""
        return {"counts": self.counts}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "Popularity":
        """The model of saved tensors."""
        return cls(tensors["counts"])


def popularity(events: Interactions, users: int, items: int) -> Popularity:
    """Counts the events of each item.

    Args:
        events: the train events.
        users: how many users the table has; not read.
        items: how many items the catalogue has.
    """
    del users
    return Popularity(np.bincount(events.item, minlength=items))


def recent_popularity(
    events: Interactions, users: int, items: int, *, half_life: float = 0.25
) -> Popularity:
    """Counts events, an older one less: 2^(-age / half-life).

    Args:
        events: the train events, with times.
        users: how many users the table has; not read.
        items: how many items the catalogue has.
        half_life: the age at which an event counts half, as a share of the time that the events
            span.

    Raises:
        ValueError: for a half-life that is not above 0.
        UserError: without times.
    """
    del users
    checks.check(half_life > 0, f"half_life: expected a number above 0, got {half_life}")
    if events.time is None:
        raise UserError("recent popularity needs times; name the time column")
    newest = events.time.max()
    span = max(newest - events.time.min(), 1.0)
    weight = np.exp2(-(newest - events.time) / (half_life * span))
    return Popularity(np.bincount(events.item, weight, minlength=items))
