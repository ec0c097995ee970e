"""A PostgreSQL database with ledgers of versions in it: one for each store or index.

What changes several ledgers within `together` is published at once, or not at all.
"""

import contextlib
import copy
import threading
from collections.abc import Callable, Iterator

from gemb.checks import UserError, needs
from gemb.store.keyed.protocol import HostError

_LEDGERS = """
CREATE TABLE IF NOT EXISTS gemb_ledgers (name text PRIMARY KEY, ledger text NOT NULL);
INSERT INTO gemb_ledgers VALUES ('{name}', '') ON CONFLICT DO NOTHING;
"""


class Database:
    """Connections to a database, and one ledger.

    Args:
        url: such as postgresql://user@127.0.0.1:5432/database.
        name: of the ledger.
        what: what needs the client, for messages.
        timeout: seconds to wait for a connection, and for the server to answer a read.

    Raises:
        MissingExtra: psycopg is not installed.
    """

    def __init__(self, url: str, name: str, *, what: str, timeout: float = 5.0):
        with needs(what, extra="postgres"):
            import psycopg
        self.errors = psycopg.errors
        self._psycopg, self._url, self._timeout = psycopg, url, timeout
        self.name = name
        self._where = url.partition("?")[0].rpartition("@")[2].rpartition("://")[2]
        self._lock, self._connections = threading.RLock(), {}

    def __str__(self) -> str:
        return f"postgresql://{self._where} ({self.name})"

    @contextlib.contextmanager
    def answers(self, kind: str = "write") -> Iterator:
        """A connection for reads, which have a time limit, or for writes; one user at a time.

        Raises:
            HostError: the server does not answer, or answers something else.
        """
        with self._lock:
            try:
                yield self._connection(kind)
            except self.errors.UndefinedTable:
                raise
            except (self._psycopg.Error, OSError) as error:
                self._drop_connection(kind)
                raise HostError(f"{self}: {' '.join(str(error).split())[:200]}") from None

    def named(self, name: str) -> "Database":
        """Another ledger in the same database, through the same connections."""
        other = copy.copy(self)
        other.name = name
        return other

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """All changes within the block are visible at its end, or none of them."""
        with self.answers() as connection, connection.transaction():
            yield

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
            with self.answers("read") as connection:
                query = "SELECT ledger FROM gemb_ledgers WHERE name = %s"
                found = connection.execute(query, (self.name,)).fetchone()
        except self.errors.UndefinedTable:
            return None
        return found[0].encode() if found and found[0] else None

    def change(self, function: Callable[[bytes | None], str], *, prepare: str = "") -> None:
        """See `Rows.change`.

        Args:
            function: old text -> new text.
            prepare: statements that make what is missing, such as tables.
        """
        with self.answers() as connection:
            if not self._has_ledger(connection):
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(hashtext('gemb'))")
                    connection.execute(_LEDGERS.format(name=self.name) + prepare)
            with connection.transaction():
                query = "SELECT ledger FROM gemb_ledgers WHERE name = %s FOR UPDATE"
                (text,) = connection.execute(query, (self.name,)).fetchone()
                text = function(text.encode() or None)
                query = "UPDATE gemb_ledgers SET ledger = %s WHERE name = %s"
                connection.execute(query, (text, self.name))

    def _has_ledger(self, connection) -> bool:
        query = "SELECT to_regclass('gemb_ledgers') IS NOT NULL"
        if not connection.execute(query).fetchone()[0]:
            return False
        query = "SELECT 1 FROM gemb_ledgers WHERE name = %s"
        return connection.execute(query, (self.name,)).fetchone() is not None

    def close(self) -> None:
        """Gives the connections back."""
        for made in self._connections.values():
            made.close()
        self._connections.clear()
