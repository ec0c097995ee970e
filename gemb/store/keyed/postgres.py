"""Rows in PostgreSQL: a table divided by generation, so that an old one is dropped at once."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from gemb.checks import UserError, needs
from gemb.store.keyed.protocol import HostError

_STEP = 2_000  # rows of one FETCH
_TABLES = """
CREATE TABLE IF NOT EXISTS gemb_ledgers (name text PRIMARY KEY, ledger text NOT NULL);
CREATE TABLE IF NOT EXISTS {table} (generation integer, id bytea, value bytea NOT NULL,
    PRIMARY KEY (generation, id)) PARTITION BY LIST (generation);
ALTER TABLE {table} ALTER COLUMN value SET STORAGE EXTERNAL;
INSERT INTO gemb_ledgers VALUES ('{name}', '') ON CONFLICT DO NOTHING;
"""


class PostgresRows:
    """Rows in a PostgreSQL database.

    Args:
        url: such as postgresql://user@127.0.0.1:5432/database.
        name: of the tables, so that several stores share a database.
        timeout: seconds to wait for a connection, and for the server to answer a `fetch`.

    Raises:
        HostError: the server does not answer.
    """

    def __init__(self, url: str, name: str, *, timeout: float = 5.0):
        with needs("a key store at postgresql://", extra="postgres"):
            import psycopg
        self._psycopg, self._url, self._timeout = psycopg, url, timeout
        self._name, self._table = name, f"gemb_{name}"
        self._where = url.partition("?")[0].rpartition("@")[2].rpartition("://")[2]
        self._lock, self._connections = threading.Lock(), {}
        self.read()

    def __str__(self) -> str:
        return f"postgresql://{self._where} ({self._name})"

    @contextlib.contextmanager
    def _answers(self, kind: str = "write") -> Iterator:
        """A connection for reads, which have a time limit, or for writes; one user at a time."""
        with self._lock:
            try:
                yield self._connection(kind)
            except self._psycopg.errors.UndefinedTable:
                raise
            except (self._psycopg.Error, OSError) as error:
                self._drop_connection(kind)
                raise HostError(f"{self}: {' '.join(str(error).split())[:200]}") from None

    def _connection(self, kind: str):
        if kind not in self._connections:
            limit = f"-c statement_timeout={int(self._timeout * 1000)}" if kind == "read" else ""
            try:
                made = self._psycopg.connect(
                    self._url, autocommit=True, connect_timeout=max(int(self._timeout), 1),
                    options=limit, tcp_user_timeout=int(self._timeout * 1000),
                )  # fmt: skip
            except self._psycopg.ProgrammingError as error:
                raise UserError(f"{self}: {' '.join(str(error).split())}") from None
            self._connections[kind] = made
        return self._connections[kind]

    def _drop_connection(self, kind: str) -> None:
        made = self._connections.get(kind)
        if made is not None and (made.broken or made.closed):
            del self._connections[kind]

    def read(self) -> bytes | None:
        """See `Rows.read`."""
        try:
            with self._answers("read") as connection:
                query = "SELECT ledger FROM gemb_ledgers WHERE name = %s"
                found = connection.execute(query, (self._name,)).fetchone()
        except self._psycopg.errors.UndefinedTable:
            return None
        return found[0].encode() if found and found[0] else None

    def change(self, function: Callable[[bytes | None], str]) -> None:
        """See `Rows.change`."""
        where = (self._name,)
        with self._answers() as connection:
            if not self._has_tables(connection):
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(hashtext('gemb'))")
                    connection.execute(_TABLES.format(table=self._table, name=self._name))
            with connection.transaction():
                query = "SELECT ledger FROM gemb_ledgers WHERE name = %s FOR UPDATE"
                (text,) = connection.execute(query, where).fetchone()
                text = function(text.encode() or None)
                query = "UPDATE gemb_ledgers SET ledger = %s WHERE name = %s"
                connection.execute(query, (text, *where))

    def _has_tables(self, connection) -> bool:
        query = "SELECT to_regclass('gemb_ledgers') IS NOT NULL AND to_regclass(%s) IS NOT NULL"
        if not connection.execute(query, (self._table,)).fetchone()[0]:
            return False
        query = "SELECT 1 FROM gemb_ledgers WHERE name = %s"
        return connection.execute(query, (self._name,)).fetchone() is not None

    def prepare(self, generation: int) -> None:
        """Makes the partition."""
        with self._answers() as connection:
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {self._partition(generation)} PARTITION OF "
                f"{self._table} FOR VALUES IN ({int(generation)})"
            )

    def _partition(self, generation: int) -> str:
        return f"{self._table}_g{int(generation):04d}"

    def write(self, generation: int, ids: Sequence[bytes], values: Sequence[bytes]) -> None:
        """See `Rows.write`."""
        query = (
            f"INSERT INTO {self._table} SELECT %s, * FROM unnest(%b::bytea[], %b::bytea[]) "
            "ON CONFLICT (generation, id) DO UPDATE SET value = excluded.value"
        )
        with self._answers() as connection:
            connection.execute(query, (generation, list(ids), list(values)))

    def fetch(
        self, ids: Sequence[bytes], generations: Sequence[int]
    ) -> tuple[bytes | None, dict[tuple[bytes, int], bytes]]:
        """See `Rows.fetch`: one statement."""
        query = (
            "SELECT ''::bytea, 0, convert_to(ledger, 'UTF8') FROM gemb_ledgers WHERE name = %s "
            f"UNION ALL SELECT id, generation, value FROM {self._table} "
            "WHERE generation = ANY(%s) AND id = ANY(%b)"
        )
        asked = (self._name, list(generations), list(ids))
        try:
            with self._answers("read") as connection:
                rows = connection.execute(query, asked, binary=True).fetchall()
        except self._psycopg.errors.UndefinedTable:
            return None, {}
        text = next((value for *_, generation, value in rows if generation == 0), b"")
        found = {(each, number): value for each, number, value in rows if number}
        return text or None, found

    def scan(self, generation: int) -> Iterator[tuple[bytes, bytes]]:
        """See `Rows.scan`."""
        query = f"SELECT id, value FROM {self._table} WHERE generation = %s"
        with self._answers() as connection, connection.transaction():
            cursor = connection.cursor(name="gemb_scan")
            cursor.itersize = _STEP
            yield from cursor.execute(query, (generation,), binary=True)

    def delete(self, ids: Iterable[bytes], generation: int | None) -> int:
        """See `Rows.delete`."""
        only = "" if generation is None else f" AND generation = {int(generation)}"
        query = f"DELETE FROM {self._table} WHERE id = ANY(%b){only} RETURNING id"
        try:
            with self._answers() as connection:
                return len({row[0] for row in connection.execute(query, (list(ids),))})
        except self._psycopg.errors.UndefinedTable:
            return 0

    def drop(self, generation: int) -> None:
        """Drops the partition."""
        with self._answers() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {self._partition(generation)}")

    def close(self) -> None:
        """See `Rows.close`."""
        for made in self._connections.values():
            made.close()
        self._connections.clear()
