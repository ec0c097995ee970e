"""What waits to be encoded: two lanes, by length, and which of it the next batch holds.

A request is a job; its texts are entries. Interactive entries go first, those of a length that have
waited longest; bulk entries take the rows that would be padding, and batches of their own when no
interactive entry waits or when their share of the device is due. Without lanes one client with a
long list makes everybody else wait. Pure Python without threads: the caller holds a lock.
"""

import collections
import dataclasses
import itertools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from gemb.processors.processor import Example

INTERACTIVE, BULK = "interactive", "bulk"
LANES = (INTERACTIVE, BULK)
_RECENT = 1.0  # seconds for which an interactive entry makes bulk batches small


@dataclasses.dataclass(eq=False)
class Job:
    """The texts of one request.

    Attributes:
        lane: INTERACTIVE or BULK.
        deadline: on the clock of `time.monotonic`.
        vectors: [texts, dim] float32, filled row by row.
        done: called once, from the thread that encodes, when the last row is there or the job
            failed.
        left: rows that are not there yet.
        cancelled: the client has gone, or the answer was sent.
        error: why it failed; None if it did not.
        queued, started, finished: times on the same clock; 0 where not yet.
    """

    lane: str
    deadline: float
    vectors: np.ndarray
    done: Callable[["Job"], None]
    left: int = 0
    cancelled: bool = False
    error: Exception | None = None
    queued: float = 0.0
    started: float = 0.0
    finished: float = 0.0

    def dead(self, now: float) -> bool:
        """Whether its answer is not wanted any more."""
        return self.cancelled or self.error is not None or now >= self.deadline


@dataclasses.dataclass(eq=False, slots=True)
class Entry:
    """One text of a job.

    Attributes:
        job, row: where its vector goes.
        example: the tokenized text.
        tower: what encodes it; entries of one tower share batches.
        length: positions that it is padded to, one of the tower's shapes.
        number: order of arrival.
    """

    job: Job
    row: int
    example: Example
    tower: Hashable
    length: int
    number: int = 0

    @property
    def key(self) -> tuple:
        """Equal entries of one tower have one vector."""
        return tuple(self.example.content), self.example.unpooled


@dataclasses.dataclass(frozen=True)
class Shapes:
    """The shapes that a tower computes: rows x length.

    Attributes:
        lengths: rising; the last is the tower's limit.
        budget: padded positions in a batch, at most, except that one row always fits.

    Example:
        >>> shapes = Shapes.upto(256, budget=1024)
        >>> shapes.lengths, len(shapes.all())
        ((16, 32, 64, 128, 256), 25)
        >>> shapes.length(17), shapes.rows(5, 32), shapes.most(256)
        (32, 8, 4)
    """

    lengths: tuple[int, ...]
    budget: int

    @classmethod
    def upto(cls, limit: int, *, budget: int, shortest: int = 16) -> "Shapes":
        """Powers of two, and the limit."""
        steps = itertools.takewhile(
            lambda length: length < limit, (shortest << n for n in range(40))
        )
        return cls((*steps, limit), budget)

    def length(self, size: int) -> int:
        """The shortest length that holds `size` positions."""
        return next(length for length in self.lengths if length >= size)

    def most(self, length: int, budget: int | None = None) -> int:
        """Rows of a full batch, a power of two."""
        fit = max(1, (budget or self.budget) // length)
        return 1 << (fit.bit_length() - 1)

    def rows(self, count: int, length: int) -> int:
        """Rows of the shape that holds `count`."""
        return min(self.most(length), 1 << max(count - 1, 0).bit_length())

    def all(self) -> list[tuple[int, int]]:
        """Every (rows, length), the cheapest first."""
        found = [
            (1 << power, length)
            for length in self.lengths
            for power in range(self.most(length).bit_length())
        ]
        return sorted(found, key=lambda shape: shape[0] * shape[1])


@dataclasses.dataclass(eq=False)
class Batch:
    """What is encoded together.

    Attributes:
        tower: that encodes it.
        length, rows: the shape, one of the tower's.
        entries: key -> those that get this row; in the order of the rows.
        lane: that it was made for.
    """

    tower: Any
    length: int
    lane: str
    rows: int = 0
    entries: dict[tuple, list[Entry]] = dataclasses.field(default_factory=dict)

    @property
    def examples(self) -> list[Example]:
        """One for each row that is not padding."""
        return [entries[0].example for entries in self.entries.values()]

    @property
    def positions(self) -> int:
        """Padded positions: what the batch costs."""
        return self.rows * self.length


class Lanes:
    """Entries that wait.

    Args:
        bulk_share: of the device that bulk entries get while interactive ones wait.

    Attributes:
        positions: lane -> padded positions that wait.
        bulk_budget: padded positions of a bulk batch while there is interactive traffic, so that
            the next interactive entry waits only for a short batch.
        dropped: entries that were dropped before they cost anything.
    """

    def __init__(self, *, bulk_share: float = 0.1, bulk_budget: int = 256):
        self.positions = dict.fromkeys(LANES, 0)
        self.bulk_budget, self.dropped = bulk_budget, 0
        self._share = bulk_share
        self._waiting = {lane: {} for lane in LANES}
        self._numbers = itertools.count()
        self._owed = 0.0  # positions that bulk entries are due
        self._interactive_at = float("-inf")

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def push(self, entries: Sequence[Entry], now: float) -> None:
        """Adds the entries of one job."""
        lane = entries[0].job.lane
        if lane == INTERACTIVE:
            self._interactive_at = now
        for entry in entries:
            entry.number = next(self._numbers)
            bucket = entry.tower, entry.length
            self._waiting[lane].setdefault(bucket, collections.deque()).append(entry)
            self.positions[lane] += entry.length

    def pop(self, now: float) -> Batch | None:
        """The next batch; None where nothing waits that is still wanted."""
        for lane in self._order():
            batch = self._batch(lane, now)
            if batch is not None:
                self._account(batch)
                return batch
        return None

    def _order(self) -> tuple[str, ...]:
        return (BULK, INTERACTIVE) if self._owed >= self.bulk_budget else LANES

    def _account(self, batch: Batch) -> None:
        if batch.lane == BULK:
            self._owed = max(0.0, self._owed - batch.positions)
        elif self._waiting[BULK]:
            self._owed += batch.positions * self._share / (1 - self._share)

    def _batch(self, lane: str, now: float) -> Batch | None:
        while (bucket := self._oldest(lane)) is not None:
            tower, length = bucket
            calm = lane == BULK and now - self._interactive_at > _RECENT
            budget = self.bulk_budget if lane == BULK and not calm else None
            batch = Batch(tower, length, lane)
            self._fill(batch, lane, bucket, tower.shapes.most(length, budget), now)
            if not batch.entries:
                continue
            batch.rows = tower.shapes.rows(len(batch.entries), length)
            for other in LANES if lane == INTERACTIVE else (BULK,):
                self._pad(batch, other, now)
            return batch
        return None

    def _oldest(self, lane: str) -> tuple | None:
        waiting = self._waiting[lane]
        return min(waiting, key=lambda bucket: waiting[bucket][0].number, default=None)

    def _pad(self, batch: Batch, lane: str, now: float) -> None:
        """Puts entries of the same or shorter lengths where padding would be."""
        fitting = [
            (tower, length)
            for tower, length in self._waiting[lane]
            if tower is batch.tower and length <= batch.length
        ]
        for bucket in sorted(fitting, key=lambda bucket: -bucket[1]):
            self._fill(batch, lane, bucket, batch.rows, now)

    def _fill(self, batch: Batch, lane: str, bucket: tuple, most: int, now: float) -> None:
        """Moves entries into a batch of at most `most` rows; equal ones share a row."""
        entries = self._waiting[lane].get(bucket)
        while entries:
            entry = entries[0]
            if entry.job.dead(now):
                self.dropped += 1
            elif (same := batch.entries.get(entry.key)) is not None:
                same.append(entry)
            elif len(batch.entries) < most:
                batch.entries[entry.key] = [entry]
            else:
                return
            entries.popleft()
            self.positions[lane] -= entry.length
        self._waiting[lane].pop(bucket, None)
