"""Splits of events into train and test, seeded; each is checked for leaks before it is returned.

by_column     a column of the data says which
random        a share, or a count, of every user's events
last          every user's latest events; refused where many users' last times tie
by_time       all events from a time on
cold_items    all events of some items: items that training never sees
"""

from typing import NamedTuple

import numpy as np

from gemb import checks
from gemb.checks import UserError
from gemb.data.interactions.reading import InteractionData
from gemb.structs import Interactions

TIED_SHARE = 0.01  # of users, above which "last" means nothing


class Split(NamedTuple):
    """Events to train on and events to find.

    Attributes:
        train: the events of training.
        test: the events that are looked for; none of them is in `train`.
        cold: [cold] int64, items of the test that no train event has, in order.
        notes: what was left out or is worth knowing, one line each.
    """

    train: Interactions
    test: Interactions
    cold: np.ndarray
    notes: list[str]


SPLITS = ("auto", "column", "random", "one", "last", "time", "cold")


def named(data: InteractionData, name: str = "auto", *, seed: int = 0, share: float = 0.2) -> Split:
    """A split by its name.

    Args:
        data: the events.
        name: "column" (the data's own column "split"), "random" (a share of each user's events),
            "one" (one random event of each user), "last", "time", "cold" (a share of the items) or
            "auto": the data's column where there is one, else random.
        seed: of the draws.
        share: of a user's events, of all events by time, or of the items.

    Raises:
        UserError: for another name; see the functions of the splits.
    """
    if name == "auto":
        name = "column" if "split" in data.context else "random"
    if name == "column":
        return by_column(data)
    if name == "random":
        return random(data.events, share=share, seed=seed)
    if name == "one":
        return random(data.events, count=1, seed=seed)
    if name == "last":
        return last(data.events)
    if name == "time":
        return by_time(data.events, share=share)
    if name == "cold":
        return cold_items(data.events, len(data.items.ids), share=share, seed=seed)
    raise UserError(f"unknown split {name!r}; expected one of {', '.join(SPLITS)}")


def take(events: Interactions, rows: np.ndarray) -> Interactions:
    """The events at some places, or where a mask is True."""
    return Interactions(*(None if column is None else column[rows] for column in events))


def by_column(
    data: InteractionData, column: str = "split", *, test: str = "test", train: str = "train"
) -> Split:
    """The split that a column of the data names.

    Args:
        data: read with this column in its context.
        column: the column.
        test: its value for test events.
        train: its value for train events; events of other values are left out.

    Raises:
        UserError: without the column, or without an event of either part; see `checked`.
    """
    if column not in data.context:
        raise UserError(
            f"the interactions have no column {column!r}; choose a split: random, last or time"
        )
    values = data.context[column]
    return checked(take(data.events, values == train), take(data.events, values == test))


def random(
    events: Interactions,
    *,
    share: float = 0.2,
    count: int = 0,
    seed: int = 0,
    always: bool = True,
) -> Split:
    """Takes a share (or a count) of each user's events, in the order of users and items.

    Args:
        events: all events.
        share: of each user's events, rounded half to even.
        count: a number for each user instead of a share.
        seed: of the draws.
        always: whether at least one event of a user is taken; one always stays in train, so a user
            with a single event has none in the test.

    Raises:
        ValueError: for a share outside of (0, 1), or a count below 0.
        UserError: if no user has two events.
    """
    checks.check(0 < share < 1, f"share: expected a number between 0 and 1, got {share}")
    checks.check(count >= 0, f"count: expected 0 or more, got {count}")
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(events.user), bool)
    for rows in _by_user(events):
        wanted = count or max(round(share * len(rows)), int(always))
        wanted = min(wanted, len(rows) - 1)
        chosen[rows[rng.permutation(len(rows))[:wanted]]] = True
    return checked(take(events, ~chosen), take(events, chosen))


def last(events: Interactions, *, count: int = 1, tied_share: float = TIED_SHARE) -> Split:
    """Takes each user's latest events; of equal times the higher item.

    Args:
        events: all events, with times.
        count: events for each user; one always stays in train.
        tied_share: the share of users whose last times may tie.

    Raises:
        UserError: without times; if more users tie between train and test.
    """
    if events.time is None:
        raise UserError("the split 'last' needs times; name the time column or choose random")
    chosen, tied, users = np.zeros(len(events.user), bool), 0, 0
    for rows in _by_user(events):
        if len(rows) <= count:
            continue
        order = rows[np.argsort(events.time[rows], kind="stable")]
        chosen[order[-count:]] = True
        users += 1
        tied += bool(events.time[order[-count - 1]] == events.time[order[-count]])
    if users and tied > tied_share * users:
        raise UserError(
            f"the split 'last' is not defined here: {tied / users:.0%} of the users have several "
            "events at their last time, so that chance would choose; use the split 'random'"
        )
    return checked(take(events, ~chosen), take(events, chosen))


def by_time(events: Interactions, *, share: float = 0.2, at: float | None = None) -> Split:
    """Takes the events from a time on; test events of users without a train event are left out.

    Args:
        events: all events, with times.
        share: of the events that come last; events of one time stay together.
        at: the first test time in seconds, instead of a share.

    Raises:
        ValueError: for a share outside of (0, 1).
        UserError: without times; if either part is empty.
    """
    checks.check(0 < share < 1, f"share: expected a number between 0 and 1, got {share}")
    if events.time is None:
        raise UserError("the split 'time' needs times; name the time column or choose random")
    if at is None:
        at = np.sort(events.time)[int((1 - share) * len(events.time))]
    later = events.time >= at
    known = np.isin(events.user, events.user[~later])
    split = checked(take(events, ~later), take(events, later & known))
    new = int(np.sum(later & ~known))
    note = [f"{new:,} test events of users without a train event were left out"] if new else []
    return split._replace(notes=note + split.notes)


def cold_items(events: Interactions, items: int, *, share: float = 0.1, seed: int = 0) -> Split:
    """Takes all events of some items, which training then never sees.

    Users whose every event is taken stay in the test: features alone can serve them.

    Args:
        events: all events.
        items: how many items the catalogue has.
        share: of the catalogue, rounded half to even.
        seed: of the choice.

    Raises:
        ValueError: for a share outside of (0, 1).
        UserError: if either part is empty.
    """
    checks.check(0 < share < 1, f"share: expected a number between 0 and 1, got {share}")
    cold = np.random.default_rng(seed).permutation(items)[: round(share * items)]
    chosen = np.isin(events.item, cold)
    split = checked(take(events, ~chosen), take(events, chosen), new_users=True)
    return split._replace(cold=np.sort(cold).astype(np.int64))


def everything(events: Interactions) -> Split:
    """All events to train on, and none to find: for a model that is served."""
    none = take(events, np.zeros(len(events.user), bool))
    return Split(events, none, np.zeros(0, np.int64), [])


def checked(train: Interactions, test: Interactions, *, new_users: bool = False) -> Split:
    """A split of two parts, checked for leaks.

    Args:
        train: the events of training.
        test: the events to find.
        new_users: whether test users may have no train event.

    Raises:
        UserError: if a part is empty, an event is in both, or a test user has no train event.
    """
    for name, part in (("train", train), ("test", test)):
        if not len(part.user):
            raise UserError(f"the split has no {name} events; take another split or more data")
    size = 1 + int(max(train.item.max(), test.item.max()))
    both = np.intersect1d(_pairs(train, size), _pairs(test, size))
    if len(both):
        user, item = divmod(int(both[0]), size)
        raise UserError(
            f"{len(both):,} test events are also train events, the first of user row {user} and "
            f"item row {item}: what is looked for would be known"
        )
    lost = np.setdiff1d(test.user, train.user)
    if len(lost) and not new_users:
        raise UserError(
            f"{len(lost):,} test users have no train event, the first is user row {lost[0]}; "
            "remove them, or evaluate new users with cold_items"
        )
    cold = np.setdiff1d(test.item, train.item).astype(np.int64)
    notes = []
    if len(cold):
        cases = int(np.isin(test.item, cold).sum())
        notes.append(f"{len(cold):,} items of {cases:,} test events have no train event (cold)")
    if len(lost):
        notes.append(f"{len(lost):,} test users have no train event")
    return Split(train, test, cold, notes)


def _pairs(events: Interactions, items: int) -> np.ndarray:
    return events.user.astype(np.int64) * items + events.item


def _by_user(events: Interactions) -> list[np.ndarray]:
    """For each user in order the places of the events, in the order of items."""
    order = np.lexsort((events.item, events.user))
    ends = np.flatnonzero(np.diff(events.user[order])) + 1
    return np.split(order, ends)
