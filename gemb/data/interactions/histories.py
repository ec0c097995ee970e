"""What a user had done before a moment, as padded rows; the target is always taken out."""

import numpy as np

from gemb.structs import Interactions

PADDING = -1


class Histories:
    """The events of every user, in the order of time (of the data where there are no times).

    Args:
        events: the events, those of training.
        users: how many users the table has.

    Attributes:
        starts: [users + 1] int64, where each user's events begin in `items` and `times`.
        items: [events] int32.
        times: [events] float64; None without times.
        places: [events] int64, where each of the given events is in `items`.
    """

    def __init__(self, events: Interactions, users: int):
        time = np.zeros(len(events.user)) if events.time is None else events.time
        order = np.lexsort((np.arange(len(time)), time, events.user))
        self.places = np.empty(len(order), np.int64)
        self.places[order] = np.arange(len(order))
        self.items = np.asarray(events.item)[order].astype(np.int32)
        self.times = None if events.time is None else np.asarray(events.time)[order]
        self.starts = np.zeros(users + 1, np.int64)
        np.cumsum(np.bincount(events.user, minlength=users), out=self.starts[1:])

    def of(self, user: int) -> np.ndarray:
        """[events] int32, all items of one user."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    def before(
        self,
        users: np.ndarray,
        length: int,
        *,
        targets: np.ndarray | None = None,
        times: np.ndarray | None = None,
    ) -> np.ndarray:
        """The latest items of users as of a time, without their targets.

        Args:
            users: [rows] users.
            length: items of a row; older ones are left out.
            targets: [rows] the item that a row is to predict: it is never in its own history.
                Without `times` only it is left out, and later events remain.
            times: [rows] only events before this time count.

        Returns:
            [rows, length] int32 items, the oldest first; PADDING behind the last.

        Raises:
            ValueError: times are given and the events have none.
        """
        if times is not None and self.times is None:
            raise ValueError("times: the events have no times")
        made = np.full((len(users), length), PADDING, np.int32)
        for row, user in enumerate(np.asarray(users).tolist()):
            start, end = self.starts[user], self.starts[user + 1]
            if times is not None:
                end = start + np.searchsorted(self.times[start:end], times[row], side="left")
            found = self.items[start:end]
            if targets is not None:
                found = found[found != targets[row]]
            found = found[-length:] if length else found[:0]
            made[row, : len(found)] = found
        return made

    def before_events(self, users: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
        """The latest items of users before some of the events.

        Args:
            users: [rows] the events' users.
            rows: [rows] the events, by their numbers.
            length: items of a row; older ones are left out.

        Returns:
            [rows, length] int32 items, the oldest first; PADDING behind the last.
        """
        end = self.places[rows][:, None]
        first = np.maximum(self.starts[users][:, None], end - length)
        place = first + np.arange(length)
        found = self.items[np.minimum(place, len(self.items) - 1)]
        return np.where(place < end, found, PADDING).astype(np.int32)
