"""Users, items and their events as training data: records for the columns, batches of links."""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError, check
from gemb.data.interactions import histories, reading, splits
from gemb.data.interactions.frequencies import StreamingFrequencies, shares
from gemb.data.interactions.reading import InteractionData
from gemb.data.interactions.splits import Split
from gemb.data.mixing import record_numbers
from gemb.data.randomness import bits
from gemb.processors.features import FeaturesProcessor
from gemb.recommendation.baselines.tuning import inner_split
from gemb.structs import SIDES, Batch, Features, Processors

SPLITS = ("column", "random", "last", "time", "cold")
PARTS = ("validation", "test")
CANDIDATES = ("batch", "catalogue")
LOG_Q = ("exact", "streaming", "none")
HISTORIES = ("others", "before")
USER, ITEM, HISTORY = "user", "item", "history"
_ORDER = 1  # raise it when the same state would give other batches
_PADDED = 64  # a catalogue of candidates is filled up to a multiple


@dataclasses.dataclass(frozen=True, eq=False)
class Links:
    """Events to train on, and the tables that they count.

    Attributes:
        data: the tables of users and items.
        split: the events to train on, and those to measure on.
        among: items among which the measured ones are looked for; None: all.
    """

    data: InteractionData
    split: Split
    among: np.ndarray | None = None

    @functools.cached_property
    def histories(self) -> histories.Histories:
        """The training events of each user."""
        return histories.Histories(self.split.train, len(self.data.users.ids))

    @functools.cached_property
    def fingerprint(self) -> str:
        """The identity of the ids and the events to train on."""
        digest = hashlib.sha256()
        for ids in (self.data.users.ids, self.data.items.ids):
            digest.update("\n".join(ids).encode())
        for array in (self.split.train.user, self.split.train.item):
            digest.update(np.ascontiguousarray(array, np.int64).tobytes())
        return digest.hexdigest()

    def records(self, side: str, names: Sequence[str], rows: Sequence[int] | None = None) -> list:
        """Records of users ("query") or items ("document") with the named columns.

        A user's "history" are the ids of its training items, the latest last; "user" and "item" are
        the ids themselves.

        Args:
            side: "query" or "document".
            names: of the columns.
            rows: of the table; default all.

        Raises:
            UserError: for a column that the table lacks.
        """
        table = self.data.users if side == "query" else self.data.items
        own = USER if side == "query" else ITEM
        for name in names:
            if name not in (own, HISTORY, *table.columns):
                raise UserError(
                    f"columns: the table of {own}s has no {name!r}; it has {own}, "
                    f"{', '.join(table.columns)}" + (f", {HISTORY}" if own == USER else "")
                )
        rows = range(len(table.ids)) if rows is None else rows
        made = []
        for row in rows:
            record = {name: table.columns[name][row] for name in names if name in table.columns}
            if own in names:
                record[own] = table.ids[row]
            if HISTORY in names and side == "query":
                record[HISTORY] = [self.data.items.ids[item] for item in self.histories.of(row)]
            made.append(record)
        return made


def read(
    folder: str | Path,
    *,
    split: str = "column",
    part: str = "validation",
    share: float = 0.2,
    seed: int = 0,
    tied_share: float = splits.TIED_SHARE,
) -> Links:
    """Reads a folder of interactions and splits it.

    Args:
        folder: see `gemb.data.interactions.reading.read_folder`.
        split: "column", "random", "last", "time", or "cold": a share of the items has no training
            event, and is measured among itself.
        part: "validation" takes events out of train and measures on them, to choose settings;
            "test" trains on all of train and measures on the test.
        share: of the events, or of the items of a cold split, that are the test.
        seed: of the split.
        tied_share: of "last": the share of users whose last times may tie; of these the higher item
            is the last.

    Raises:
        UserError: as the reader and the split.
    """
    return _read(str(folder), split, part, share, seed, tied_share)


@functools.lru_cache(maxsize=4)
def _read(folder: str, split: str, part: str, share: float, seed: int, tied_share: float) -> Links:
    for name, value, known in (("split", split, SPLITS), ("part", part, PARTS)):
        check(value in known, f"{name}: expected one of {known}, got {value!r}")
    data = reading.read_folder(folder)
    events, items = data.events, len(data.items.ids)
    if split == "column":
        made = splits.by_column(data)
    elif split == "random":
        made = splits.random(events, share=share, seed=seed)
    elif split == "last":
        made = splits.last(events, tied_share=tied_share)
    elif split == "time":
        made = splits.by_time(events, share=share)
    else:
        made = splits.cold_items(events, items, share=share, seed=seed)
    if part == "validation" and split == "cold":
        inner = splits.cold_items(made.train, items, share=share, seed=seed + 1)
        made = inner._replace(cold=np.setdiff1d(inner.cold, made.cold))
    elif part == "validation":
        made = inner_split(made)
    return Links(data, made, made.cold if split == "cold" else None)


def batches(
    processors: Processors,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    *,
    links: Links,
    batch_size: int,
    candidates: str = "batch",
    uniform: int = 0,
    log_q: str = "exact",
    known: int = 128,
    histories: str = "others",
) -> "LinkBatches":
    """Batches of links: each user with its item taken out of its history.

    Every batch has the fields `log_q` and `known_positives` (see gemb.losses.Fields).

    Args:
        processors: the model's: one FeaturesProcessor.
        seed: of the order.
        shard: (index, count) of hosts.
        links: the events and the tables.
        batch_size: links in a batch over all hosts.
        candidates: "batch": the items of the batch compete; "catalogue": all items do, so that the
            softmax is whole (for small catalogues).
        uniform: items for each link that are drawn evenly from the catalogue and compete too (mixed
            negatives).
        log_q: "exact" from the counts of the training events, "streaming" estimated from the
            batches so far, "none" for no correction. With the catalogue it is 0.
        known: items of a user's history, at most, that are masked as negatives; 0 for none.
        histories: "others": the history of an event are the user's other items; "before": those
            before it, for models of the next item. An event without history then trains nothing.

    Raises:
        UserError: for a model of another modality, a batch that is larger than the events or that
            the hosts do not divide, or unknown choices.
    """
    for name, value, choices in (
        ("candidates", candidates, CANDIDATES), ("log_q", log_q, LOG_Q),
        ("histories", histories, HISTORIES),
    ):  # fmt: skip
        check(value in choices, f"{name}: expected one of {choices}, got {value!r}")
    processor = processors.document
    if not isinstance(processor, FeaturesProcessor) or processors.query != processor:
        raise UserError("batches: links train a model of features; bind MODEL to towers.from_links")
    events = len(links.split.train.user)
    if not 2 <= batch_size <= events:
        raise UserError(f"batch_size: expected 2 to {events:,}, the events, got {batch_size}")
    if batch_size % shard[1]:
        raise UserError(f"batch_size: {batch_size} does not divide over {shard[1]} hosts")
    if uniform and candidates == "catalogue":
        raise UserError("uniform: with candidates = 'catalogue' every item competes already")
    catalogue = len(links.data.items.ids)
    if candidates == "batch" and not uniform and batch_size > catalogue:
        raise UserError(
            f"batch_size: {batch_size} links have more places than the catalogue's {catalogue:,} "
            "items; bind candidates = 'catalogue', or a smaller batch"
        )
    if histories == "before" and HISTORY not in {column.name for column in processor.query}:
        raise UserError("histories: 'before' needs a model with a column of the kind history")
    return LinkBatches(
        processor, seed, shard, links, batch_size, candidates, uniform, log_q, known, histories
    )


class LinkBatches:
    """An endless iterator of Batch; made by `batches`.

    Batches are functions of the seed and their number, so a run resumes exactly.

    Attributes:
        description: "folder", "fingerprint" and counts.
        warnings: lines for the user.
    """

    def __init__(
        self,
        processor,
        seed,
        shard,
        links,
        batch_size,
        candidates,
        uniform,
        log_q,
        known,
        histories,
    ):
        self._links, self._shard, self._size = links, shard, batch_size
        self._candidates, self._uniform, self._log_q = candidates, uniform, log_q
        self._seed, self._number = seed, 0
        self._train, self._items = links.split.train, len(links.data.items.ids)
        self._sides = {side: _arrays(processor, side, links) for side in SIDES}
        users = np.arange(len(links.data.users.ids))
        column = next((c for c in processor.query if c.name == HISTORY), None)
        self._each = processor.vocabulary(column.table).each if column else 0
        self._limit, self._before = column.limit if column else 0, histories == "before"
        if self._before:
            words = processor.vocabulary(column.table)
            self._item_rows = np.array([*map(words.of, links.data.items.ids), (0,) * self._each])
        self._history = links.histories.before(users, column.limit) if column else None
        most = int(np.diff(links.histories.starts).max())
        self._known = links.histories.before(users, min(known, most))
        self._shares = shares(self._train.item, self._items)
        self._stream = StreamingFrequencies(self._items)
        if candidates == "catalogue":
            self._catalogue = self._all_items()
        settings = f"{batch_size} {candidates} {uniform} {log_q} {known} {_ORDER}"
        settings += " before" * self._before
        content = f"{links.fingerprint} {processor.identity()} {settings}"
        self.description = {
            "folder": "",
            "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
            "users": len(users),
            "items": self._items,
            "events": len(self._train.user),
        }
        self.warnings = list(links.data.notes)
        if candidates == "batch" and log_q == "none":
            self.warnings.append(
                "log_q: without it the in-batch softmax pushes popular items away, and often ends "
                "below popularity"
            )
        if not known:
            self.warnings.append("known: other items of a user are used as its negatives")

    def __iter__(self):
        return self

    def __next__(self) -> Batch:
        rows = self._rows(self._number)
        number, self._number = self._number, self._number + 1
        if self._log_q == "streaming":
            self._stream.update(self._train.item[rows])
        index, count = self._shard
        own = rows[index * len(rows) // count : (index + 1) * len(rows) // count]
        user, item = self._train.user[own], self._train.item[own]
        users, real = self._users(user, item, own)
        if self._candidates == "catalogue":
            document, ids, mask = self._catalogue
            positive, log_q = item, np.zeros(len(ids), np.float32)
        else:
            ids = np.concatenate([item, self._drawn(number, index, len(own))])
            document = {name: array[ids] for name, array in self._sides["document"].items()}
            mask = np.ones(len(ids), bool)
            positive = np.arange(len(own), dtype=np.int32) + index * len(ids)
            log_q = self._log_probability(ids)
        return Batch(
            query=Features(users),
            document=Features(document),
            positive=positive.astype(np.int32),
            query_id=user.astype(np.int32),
            document_id=ids.astype(np.int32),
            query_mask=real,
            document_mask=mask,
            fields={"log_q": log_q, "known_positives": self._known[user]},
        )

    def get_state(self) -> dict[str, int]:
        """The position, as integers that a checkpoint holds."""
        content = hashlib.sha256(self.description["fingerprint"].encode()).digest()
        return {"batches": self._number, "data": int.from_bytes(content[:7], "big")}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position: the next batch is the one that followed it.

        Raises:
            UserError: if the state was made with other data.
        """
        if state["data"] != self.get_state()["data"]:
            raise UserError(
                "data: it has changed since the checkpoint was written, so the run cannot go on "
                "exactly; start a new --workdir"
            )
        self._number, self._stream = state["batches"], StreamingFrequencies(self._items)
        if self._log_q == "streaming":
            for number in range(self._number):
                self._stream.update(self._train.item[self._rows(number)])

    def _rows(self, number: int) -> np.ndarray:
        places = number * self._size + np.arange(self._size)
        return record_numbers(places, len(self._train.user), self._seed)

    def _users(
        self, user: np.ndarray, item: np.ndarray, events: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The users' arrays, each target out of its history; which rows are trained on."""
        made = {name: array[user] for name, array in self._sides["query"].items()}
        real, name = np.ones(len(user), bool), f"query/{HISTORY}"
        if self._before:
            found = self._links.histories.before_events(user, events, self._limit)
            real = (found >= 0).any(axis=1)
            rows = self._item_rows[found].reshape(len(user), -1)  # -1 is the row of padding
            made[name] = rows.astype(np.int32)
        elif self._history is not None:
            target = np.repeat(self._history[user] == item[:, None], self._each, axis=1)
            made[name] = np.where(target, 0, made[name])
        return made, real

    def _drawn(self, number: int, index: int, rows: int) -> np.ndarray:
        """[rows * uniform] items, evenly from the catalogue."""
        places = (index * rows * self._uniform) + np.arange(rows * self._uniform)
        return (bits(self._seed, 7, number, places) % np.uint64(self._items)).astype(np.int64)

    def _log_probability(self, ids: np.ndarray) -> np.ndarray:
        """[candidates] float32: how likely each item is a candidate."""
        if self._log_q == "none":
            return np.zeros(len(ids), np.float32)
        if self._log_q == "streaming":
            found = self._stream.shares(ids) / self._size
        else:
            found = self._shares[ids]
        if self._uniform:
            share = 1 / (1 + self._uniform)
            found = share * found + (1 - share) / self._items
        check(bool((found > 0).all()), "log_q: a candidate has the probability 0")
        return np.log(found).astype(np.float32)

    def _all_items(self) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """This host's part of the catalogue, filled up with masked rows."""
        index, count = self._shard
        size = -(-self._items // (_PADDED * count)) * _PADDED
        ids = index * size + np.arange(size)
        mask = ids < self._items
        rows = np.where(mask, ids, 0)
        arrays = {name: array[rows] for name, array in self._sides["document"].items()}
        return arrays, ids, mask


def _arrays(processor: FeaturesProcessor, side: str, links: Links) -> dict[str, np.ndarray]:
    names = list(dict.fromkeys(column.entry for column in getattr(processor, side)))
    return processor.collate(processor.prepare(links.records(side, names), side)).columns
