"""Events and side tables of files: JSON lines, CSV, TSV (also .gz), Parquet, Arrow.

A folder of interactions has

    interactions.EXT   one event per record: user, item, and where there are any time, weight, split
    items.EXT          one item per record: its id in the first column (or in "id"), its features
    users.EXT          likewise; both are optional, and fix the order of ids where they exist
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemb.checks import UserError, suggest
from gemb.data.sources import reading
from gemb.data.sources.records import Records
from gemb.structs import Interactions

ENDINGS = ("tsv.gz", "tsv", "csv.gz", "csv", "jsonl.gz", "jsonl", "parquet", "arrow")
ONE_USERS_SHARE = 0.1  # a user with more of all events is named in the notes
# Numbers of seconds, milliseconds, microseconds and nanoseconds since 1970 differ by magnitude: a
# number of seconds above the first limit is beyond the year 5000.
_UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (math.inf, 1e9))


class Columns(NamedTuple):
    """The columns of a file of events.

    Attributes:
        user: ids of users.
        item: ids of items.
        time: numbers (seconds, or milliseconds, since 1970) or ISO 8601 texts; "": no times.
        weight: numbers, 0 and more; "": every event weighs 1.
        context: other columns to keep, such as "split".
    """

    user: str = "user"
    item: str = "item"
    time: str = ""
    weight: str = ""
    context: tuple[str, ...] = ()


class SideTable(NamedTuple):
    """Ids and what is known of them.

    Attributes:
        ids: [rows] ids, each once; `Interactions` count rows of this.
        columns: name -> [rows] values as the file has them.
    """

    ids: list[str]
    columns: dict[str, list[Any]]

    def rows(self, ids: Sequence[str]) -> np.ndarray:
        """[ids] int64, the row of each id; -1 for one that the table lacks."""
        place = {name: row for row, name in enumerate(self.ids)}
        return np.array([place.get(name, -1) for name in ids], np.int64)


class InteractionData(NamedTuple):
    """Events with the tables that their rows count.

    Attributes:
        events: one event for each pair of user and item.
        users: the table of users.
        items: the table of items: the catalogue.
        context: name -> [events] values of other columns.
        notes: what a reader of results should know, one line each, such as merged events.
    """

    events: Interactions
    users: SideTable
    items: SideTable
    context: dict[str, np.ndarray]
    notes: list[str]


def read_folder(folder: str | Path, columns: Columns | None = None) -> InteractionData:
    """Reads a folder of interactions, see the module's docstring.

    Args:
        folder: the folder.
        columns: the columns of the events; default "user", "item", and "time", "weight" and
            "split" where the file has them.

    Raises:
        UserError: as `read_events` and `read_table`; for a folder without events.
    """
    folder = Path(folder).expanduser()
    path = _find(folder, "interactions")
    if path is None:
        raise UserError(
            f"{folder}: no interactions file; expected interactions.tsv, .csv, .jsonl "
            "or .parquet with the columns user and item"
        )
    if columns is None:
        columns = _usual_columns(path)
    tables = {name: _find(folder, name) for name in ("users", "items")}
    read = {name: read_table(path) if path else None for name, path in tables.items()}
    return read_events(path, columns, users=read["users"], items=read["items"])


def read_events(
    paths: str | Path | Sequence[str | Path],
    columns: Columns | None = None,
    *,
    users: SideTable | None = None,
    items: SideTable | None = None,
) -> InteractionData:
    """Reads events; several of one user and item become one, with the sum of their weights.

    The merged event has the latest time, and the other columns of the latest event.

    Args:
        paths: what `gemb.data.sources.reading.files` takes.
        columns: the columns; default "user" and "item" alone.
        users: the table of users; default the users of the events, in the order of their ids.
        items: the table of items; likewise.

    Returns:
        The events in the order of the file, and their tables.

    Raises:
        UserError: naming file and line: a missing column, an empty id, an id that its table lacks,
            a weight that is negative or not a number, a time that cannot be read; times in several
            units; no event at all.
    """
    columns = columns or Columns()
    records = reading.files(paths)
    found = _Found([], [], [], [], {name: [] for name in columns.context})
    for row in range(len(records)):
        try:
            record = records[row]
            if record:
                _add(found, record, columns)
        except ValueError as error:
            raise UserError(f"{records.where(row)}: {error}") from None
    if not found.user:
        raise UserError(f"{paths}: there are no events")
    users = users or SideTable(sorted(set(found.user)), {})
    items = items or SideTable(sorted(set(found.item)), {})
    rows = [
        _rows(records, ids, table, kind)
        for ids, table, kind in ((found.user, users, "user"), (found.item, items, "item"))
    ]
    time = _seconds(found.time, str(paths)) if columns.time else None
    weight = np.array(found.weight, np.float64)
    events, context, merged = _merge(rows, weight, time, found.context, len(items.ids))
    return InteractionData(
        events, users, items, context, _notes(events, users, merged, bool(columns.weight))
    )


def read_table(paths: str | Path, key: str = "") -> SideTable:
    """Reads a side table: one record for each id.

    Args:
        paths: what `gemb.data.sources.reading.files` takes.
        key: the column of ids; default "id", or the first column.

    Raises:
        UserError: naming file and line, for a missing key, an empty id, or an id that occurs twice.
    """
    records = reading.files(paths)
    ids: dict[str, int] = {}
    columns: dict[str, list[Any]] = {}
    for row in range(len(records)):
        try:
            record = records[row]
            if not record:
                continue
            if not key:
                key = "id" if "id" in record else next(iter(record))
            if not columns:
                columns = {name: [] for name in record if name != key}
            name = _id(record, key)
            if name in ids:
                raise ValueError(f"the {key} {name!r} occurs twice")
        except ValueError as error:
            raise UserError(f"{records.where(row)}: {error}") from None
        ids[name] = row
        for column, values in columns.items():
            values.append(record.get(column))
    if not ids:
        raise UserError(f"{paths}: the table is empty")
    return SideTable(list(ids), columns)


class _Found(NamedTuple):
    user: list[str]
    item: list[str]
    weight: list[float]
    time: list[float]
    context: dict[str, list[Any]]


def _add(found: _Found, record: Mapping[str, Any], columns: Columns) -> None:
    user, item = _id(record, columns.user), _id(record, columns.item)
    weight = _weight(_cell(record, columns.weight)) if columns.weight else 1.0
    if columns.time:
        found.time.append(_time(_cell(record, columns.time)))
    for name, values in found.context.items():
        values.append(_cell(record, name))
    found.user.append(user)
    found.item.append(item)
    found.weight.append(weight)


def _cell(record: Mapping[str, Any], column: str) -> Any:
    if column not in record:
        known = ", ".join(map(str, record))
        raise ValueError(f"no column {column!r} among {known}.{suggest(column, map(str, record))}")
    return record[column]


def _id(record: Mapping[str, Any], column: str) -> str:
    value = _cell(record, column)
    name = "" if value is None else str(value).strip()
    if not name:
        raise ValueError(f"the {column} is empty")
    return name


def _weight(value: Any) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the weight {value!r} is not a number") from None
    if not 0 <= weight < math.inf:
        raise ValueError(f"the weight {value} is negative or not finite; expected 0 or more")
    return weight


def _time(value: Any) -> float:
    """Seconds, or another unit of a number, that `_seconds` finds by its magnitude."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    try:
        time = float(value)
    except (TypeError, ValueError):
        try:
            return _time(datetime.fromisoformat(str(value)))
        except ValueError:
            raise ValueError(
                f"the time {value!r} is not a number and not an ISO 8601 date"
            ) from None
    if not math.isfinite(time):
        raise ValueError(f"the time {value} is not finite")
    return time


def _seconds(times: list[float], place: str) -> np.ndarray:
    """[events] float64 seconds; refuses times of several units."""
    given = np.array(times, np.float64)
    limits = [limit for limit, _ in _UNITS]
    unit = np.searchsorted(limits, np.abs(given), side="right")
    known = unit[given != 0]
    if len(known) and known.min() != known.max():
        small, large = int((known == known.min()).sum()), int((known > known.min()).sum())
        raise UserError(
            f"{place}: times are in several units: {small:,} events look like "
            f"{_NAMES[known.min()]} since 1970 and {large:,} like {_NAMES[known.max()]} (the first "
            f"is event {1 + int(np.flatnonzero((unit > known.min()) & (given != 0))[0]):,}); write "
            "one unit"
        )
    return given / (_UNITS[known[0]][1] if len(known) else 1.0)


_NAMES = ("seconds", "milliseconds", "microseconds", "nanoseconds")


def _rows(records: Records, ids: list[str], table: SideTable, kind: str) -> np.ndarray:
    rows = table.rows(ids)
    if (rows < 0).any():
        missing = np.flatnonzero(rows < 0)
        raise UserError(
            f"{records.where(0).rpartition(':')[0]}: {len(missing):,} events have a {kind} that "
            f"the table of {kind}s lacks, the first {ids[missing[0]]!r}; add it there or remove "
            "the events"
        )
    return rows


def _merge(
    rows: Sequence[np.ndarray],
    weight: np.ndarray,
    time: np.ndarray | None,
    context: Mapping[str, list[Any]],
    items: int,
) -> tuple[Interactions, dict[str, np.ndarray], int]:
    """One event for each pair, at the place of its first; how many events went into others."""
    pair = rows[0] * items + rows[1]
    _, first, which = np.unique(pair, return_index=True, return_inverse=True)
    # the latest event of each pair; without times the last one
    order = np.arange(len(pair)) if time is None else np.argsort(time, kind="stable")
    latest = np.zeros(len(first), np.int64)
    latest[which[order]] = order
    place = np.argsort(first, kind="stable")
    latest = latest[place]
    sums = np.bincount(which, weight)[place]
    events = Interactions(
        user=rows[0][latest].astype(np.int32),
        item=rows[1][latest].astype(np.int32),
        weight=sums.astype(np.float32),
        time=None if time is None else time[latest],
    )
    kept = {name: np.array(values, object)[latest] for name, values in context.items()}
    return events, kept, len(pair) - len(first)


def _notes(events: Interactions, users: SideTable, merged: int, weighted: bool) -> list[str]:
    notes = []
    if merged:
        notes.append(f"{merged:,} events repeat a user and item and were added to the first one")
    if weighted and len(events.weight) > 1 and (events.weight == events.weight[0]).all():
        notes.append(f"all weights are {events.weight[0]:g}: they change nothing")
    each = np.bincount(events.user)
    if len(events.user) > 100 and each.max() > ONE_USERS_SHARE * len(events.user):
        name = users.ids[int(each.argmax())]
        notes.append(f"the user {name!r} has {each.max() / len(events.user):.0%} of all events")
    return notes


def _usual_columns(path: Path) -> Columns:
    records = reading.files(path)
    try:
        names = next((r for row in range(len(records)) if (r := records[row])), {})
    except ValueError as error:
        raise UserError(f"{records.where(0)}: {error}") from None
    context = ("split",) if "split" in names else ()
    return Columns(
        time="time" if "time" in names else "",
        weight="weight" if "weight" in names else "",
        context=context,
    )


def _find(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}.{ending}" for ending in ENDINGS)
    return next((path for path in paths if path.is_file()), None)
