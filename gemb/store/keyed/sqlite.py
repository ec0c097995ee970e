"""Rows in SQLite: one file, no server; readers go on while a writer writes.

Write-ahead log with synchronous=FULL: what `write` has returned from survives a power cut. A file
on NFS is not safe, for SQLite's log is in shared memory.
"""

import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gemb.store.keyed.protocol import HostError

_FORMAT = 1
_IDS = 500  # in one SELECT: SQLite limits the parameters of a statement
_LEDGER = (None, 0)  # in place of an id and a generation
_TABLES = """
CREATE TABLE IF NOT EXISTS rows(
    id BLOB, generation INTEGER, value BLOB, PRIMARY KEY(id, generation)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger(one INTEGER PRIMARY KEY CHECK (one = 1), text BLOB);
"""


class SqliteRows:
    """Rows in a file of SQLite.

    Args:
        path: the file; made where there is none.
        timeout: seconds to wait for another writer.

    Raises:
        HostError: the file cannot be opened, or is something else.
    """

    def __init__(self, path: str | Path, *, timeout: float = 30.0):
        self._path, self._timeout = Path(path), timeout
        self._local, self._opened = threading.local(), []
        with self._answers():
            self._connection()

    def __str__(self) -> str:
        return f"sqlite:{self._path}"

    def _connection(self) -> sqlite3.Connection:
        """One for each thread."""
        made = getattr(self._local, "connection", None)
        if made is None:
            made = sqlite3.connect(
                self._path, timeout=self._timeout, isolation_level=None, check_same_thread=False
            )
            self._opened.append(made)
            self._set_up(made)
            self._local.connection = made
        return made

    def _set_up(self, made: sqlite3.Connection) -> None:
        (found,) = made.execute("PRAGMA user_version").fetchone()
        (tables,) = made.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if found != _FORMAT and (found or tables):
            raise HostError(
                f"{self}: of format {found}, but this gemb reads format {_FORMAT}; choose another"
            )
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("PRAGMA synchronous=FULL")
        if not tables:
            made.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={_FORMAT}; COMMIT;")

    @contextlib.contextmanager
    def _answers(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise HostError(f"{self}: {error}; nothing of this was stored") from None

    @contextlib.contextmanager
    def _transaction(self, kind: str) -> Iterator[sqlite3.Connection]:
        with self._answers():
            connection = self._connection()
            connection.execute(f"BEGIN {kind}")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def read(self) -> bytes | None:
        """See `Rows.read`."""
        with self._answers():
            return _ledger(self._connection())

    def change(self, function: Callable[[bytes | None], str]) -> None:
        """See `Rows.change`."""
        with self._transaction("IMMEDIATE") as connection:
            text = function(_ledger(connection)).encode()
            connection.execute("INSERT OR REPLACE INTO ledger VALUES (1, ?)", (text,))
        with self._answers():  # a long log makes reads slow
            self._connection().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def prepare(self, generation: int) -> None:
        """Nothing to do."""

    def write(self, generation: int, ids: Sequence[bytes], values: Sequence[bytes]) -> None:
        """See `Rows.write`."""
        rows = ((each, generation, value) for each, value in zip(ids, values, strict=True))
        with self._transaction("IMMEDIATE") as connection:
            connection.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", rows)

    def fetch(
        self, ids: Sequence[bytes], generations: Sequence[int]
    ) -> tuple[bytes | None, dict[tuple[bytes, int], bytes]]:
        """See `Rows.fetch`: one statement, which sees one state of the file.

        More ids than a statement takes are asked for within a transaction.
        """
        if len(ids) <= _IDS:
            try:
                rows = self._connection().execute(
                    _fetching(len(ids), len(generations)), (*ids, *generations)
                )
                found = {(each, generation): value for each, generation, value in rows}
            except sqlite3.Error as error:
                raise HostError(f"{self}: {error}") from None
            return found.pop(_LEDGER, None), found
        text, found = None, {}
        with self._transaction("DEFERRED"):
            for start in range(0, len(ids), _IDS):
                text, some = self.fetch(ids[start : start + _IDS], generations)
                found |= some
        return text, found

    def scan(self, generation: int) -> Iterator[tuple[bytes, bytes]]:
        """See `Rows.scan`."""
        with self._answers():
            query = "SELECT id, value FROM rows WHERE generation = ? ORDER BY id"
            yield from self._connection().execute(query, (generation,))

    def delete(self, ids: Iterable[bytes], generation: int | None) -> int:
        """See `Rows.delete`."""
        count = 0
        only = "" if generation is None else f" AND generation = {int(generation)}"
        with self._transaction("IMMEDIATE") as connection:
            for each in ids:
                gone = connection.execute(f"DELETE FROM rows WHERE id = ?{only}", (each,))
                count += gone.rowcount > 0
        return count

    def drop(self, generation: int) -> None:
        """See `Rows.drop`."""
        with self._transaction("IMMEDIATE") as connection:
            connection.execute("DELETE FROM rows WHERE generation = ?", (generation,))

    def close(self) -> None:
        """See `Rows.close`."""
        while self._opened:
            self._opened.pop().close()
        self._local = threading.local()


def _ledger(connection: sqlite3.Connection) -> bytes | None:
    found = connection.execute("SELECT text FROM ledger").fetchone()
    return bytes(found[0]) if found else None


@functools.lru_cache(maxsize=64)
def _fetching(ids: int, generations: int) -> str:
    """The statement that reads the ledger and some rows; SQLite prepares each of them once."""
    return (
        "SELECT NULL, 0, text FROM ledger UNION ALL SELECT id, generation, value FROM rows "
        f"WHERE id IN ({_marks(ids)}) AND generation IN ({_marks(generations)})"
    )


def _marks(count: int) -> str:
    return ",".join("?" * count)
