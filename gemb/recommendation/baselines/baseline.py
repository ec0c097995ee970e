"""What a baseline is, and the matrix of users and items that all of them read."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import scipy.sparse

from gemb.structs import Interactions


class Baseline(Protocol):
    """A fitted model: scores for any user of whom some items are known.

    Attributes:
        kind: the name under which `Recommender` saves and loads it.
    """

    kind: str

    def scores(
        self, histories: scipy.sparse.csr_array, users: np.ndarray | None = None
    ) -> np.ndarray:
        """[users, items] float32 scores of users by their items, a matrix of 0 and 1.

        The items of the history itself are scored too; the caller leaves them out. `users` are the
        users' rows, -1 for unknown ones: only models with vectors of users read them.
        """

    def tensors(self) -> Mapping[str, np.ndarray]:
        """What makes it up, by name; its class takes them again by `from_tensors`."""


def interaction_matrix(events: Interactions, users: int, items: int) -> scipy.sparse.csr_array:
    """[users, items] float32: 1 where a user has an item with a weight above 0, else 0.

    Args:
        events: the events.
        users: how many users the table has.
        items: how many items the catalogue has.
    """
    used = np.asarray(events.weight) > 0
    user, item = np.asarray(events.user)[used], np.asarray(events.item)[used]
    ones = np.ones(len(user), np.float32)
    made = scipy.sparse.csr_array((ones, (user, item)), shape=(users, items))
    made.sum_duplicates()
    made.data[:] = 1.0
    return made
