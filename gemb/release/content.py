"""What changed between two sets of records: a join on ids, decided by content keys."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.store.rows import id_bytes

MOST_GONE = 0.2  # of the records before
FEWEST_LEFT = 0.5


class Counts(NamedTuple):
    """Records by what became of them.

    Attributes:
        same, changed, new: records now; `changed` are there under the same id with other content.
        gone: records before whose id is not there any more.
    """

    same: int
    changed: int
    new: int
    gone: int

    def __str__(self) -> str:
        return ", ".join(f"{count:,} {name}" for name, count in self._asdict().items())


class Difference(NamedTuple):
    """Records now, compared with those of the parent.

    Attributes:
        counts: of records.
        keys: [rows, 16] uint8 content keys of the records now.
        same: [rows] bool, whether the id is there with the same content.
        parent: [rows] the row of the parent that has the vector; -1 for one to encode. A record
            whose content was there under another id, as when a file is renamed, needs none.
        distinct: rows to encode, one of each content.
        place: [rows] where in `distinct` a row's content is; -1 where `parent` has it.
        gone: ids.
    """

    counts: Counts
    keys: np.ndarray
    same: np.ndarray
    parent: np.ndarray
    distinct: np.ndarray
    place: np.ndarray
    gone: list[str | int]


def compare(
    ids: Sequence[str | int],
    keys: np.ndarray,
    before: Sequence[str | int] = (),
    keys_before: np.ndarray | None = None,
    *,
    where: object = "records",
) -> Difference:
    """Joins records on their ids.

    Args:
        ids: of the records now.
        keys: [ids, 16] uint8, their content keys.
        before, keys_before: the same of the parent; nothing where there is no parent.
        where: for messages.

    Raises:
        UserError: an id that comes twice, or is not accepted.

    Example:
        >>> keys = np.arange(3, dtype=np.uint8)[:, None].repeat(16, axis=1)
        >>> found = compare(["a", "c", "d"], keys, ["a", "b", "c"], keys[[0, 2, 0]])
        >>> str(found.counts), found.gone, found.parent  # "d" has the content of "b"
        ('1 same, 1 changed, 1 new, 1 gone', ['b'], array([ 0, -1,  1]))
    """
    encoded = id_bytes(ids, where)
    old = {each: row for row, each in enumerate(id_bytes(before, where))}
    rows = np.fromiter((old.get(each, -1) for each in encoded), np.int64, len(encoded))
    there = rows >= 0
    same = there.copy()
    if there.any():
        same[there] = (keys[there] == keys_before[rows[there]]).all(axis=1)
    held = np.zeros(len(old), bool)
    held[rows[there]] = True
    gone = [before[int(row)] for row in np.flatnonzero(~held)]
    parent = _moved(np.where(same, rows, -1), keys, keys_before)
    distinct, place = _distinct(keys, np.flatnonzero(parent < 0))
    counts = Counts(
        int(same.sum()), int((there & ~same).sum()), int((~there).sum()), int((~held).sum())
    )
    return Difference(counts, keys, same, parent, distinct, place, gone)


def _moved(parent: np.ndarray, keys: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """Completes rows of the parent by content; each is taken once before any is taken twice."""
    left = np.flatnonzero(parent < 0)
    if before is None or not len(before) or not len(left):
        return parent
    free = np.ones(len(before), bool)
    free[parent[parent >= 0]] = False
    known: dict[bytes, list[int]] = {}
    order = np.argsort(free, kind="stable")  # free rows last, so that they are taken first
    for row, key in zip(order.tolist(), _flat(before)[order].tolist(), strict=True):
        known.setdefault(key, []).append(row)
    for row, key in zip(left.tolist(), _flat(keys)[left].tolist(), strict=True):
        rows = known.get(key)
        if rows:
            parent[row] = rows.pop() if len(rows) > 1 else rows[0]
    return parent


def _flat(keys: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(keys).view("V16").ravel()


def _distinct(keys: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first row of each content among some rows, and where in that list each row is."""
    place = np.full(len(keys), -1)
    known: dict[bytes, int] = {}
    for row, key in zip(wanted, _flat(keys[wanted]).tolist(), strict=True):
        place[row] = known.setdefault(key, len(known))
    first = np.zeros(len(known), np.int64)
    for row in wanted[::-1]:
        first[place[row]] = row
    return first, place


def check_shrinkage(counts: Counts, where: object, allowed: bool) -> None:
    """Refuses a change by which a large part of the records would be lost.

    Args:
        counts: of the change.
        where: for the message.
        allowed: whether it is meant.

    Raises:
        UserError: more than 20 % of the parent's records are gone, or less than half are left.
    """
    before = counts.same + counts.changed + counts.gone
    rows = counts.same + counts.changed + counts.new
    if not allowed and (counts.gone > MOST_GONE * before or rows < FEWEST_LEFT * before):
        raise UserError(
            f"{where}: {counts.gone:,} of {before:,} records are gone, and {rows:,} are left; if "
            "this is meant, add --allow_shrink. Nothing was changed"
        )
