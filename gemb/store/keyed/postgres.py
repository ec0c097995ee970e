"""Rows in PostgreSQL: a table divided by generation, so that an old one is dropped at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from gemb.store.keyed.database import Database

_STEP = 2_000  # rows of one FETCH
_TABLE = """
CREATE TABLE IF NOT EXISTS {table} (generation integer, id bytea, value bytea NOT NULL,
    PRIMARY KEY (generation, id)) PARTITION BY LIST (generation);
ALTER TABLE {table} ALTER COLUMN value SET STORAGE EXTERNAL;
"""


class PostgresRows:
    """Rows in a PostgreSQL database.

    Args:
        url: such as postgresql://user@127.0.0.1:5432/database.
        name: of the tables, so that several stores share a database.
        timeout: seconds to wait for a connection, and for the server to answer a `fetch`.
        database: an open one, such as an index host's, to publish both in one transaction.

    Raises:
        HostError: the server does not answer.
    """

    def __init__(
        self, url: str, name: str, *, timeout: float = 5.0, database: Database | None = None
    ):
        self._table = f"gemb_{name}"
        self._database = database or Database(
            url, name, what="a key store at postgresql://", timeout=timeout
        )
        self.read()

    def __str__(self) -> str:
        return str(self._database)

    def read(self) -> bytes | None:
        """See `Rows.read`."""
        return self._database.read()

    def change(self, function: Callable[[bytes | None], str]) -> None:
        """See `Rows.change`."""
        self._database.change(function, prepare=_TABLE.format(table=self._table))

    def prepare(self, generation: int) -> None:
        """Makes the partition."""
        with self._database.answers() as connection:
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
        with self._database.answers() as connection:
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
        asked = (self._database.name, list(generations), list(ids))
        try:
            with self._database.answers("read") as connection:
                rows = connection.execute(query, asked, binary=True).fetchall()
        except self._database.errors.UndefinedTable:
            return None, {}
        text = next((value for *_, generation, value in rows if generation == 0), b"")
        found = {(each, number): value for each, number, value in rows if number}
        return text or None, found

    def scan(self, generation: int) -> Iterator[tuple[bytes, bytes]]:
        """See `Rows.scan`."""
        query = f"SELECT id, value FROM {self._table} WHERE generation = %s"
        with self._database.answers() as connection, connection.transaction():
            cursor = connection.cursor(name="gemb_scan")
            cursor.itersize = _STEP
            yield from cursor.execute(query, (generation,), binary=True)

    def delete(self, ids: Iterable[bytes], generation: int | None) -> int:
        """See `Rows.delete`."""
        only = "" if generation is None else f" AND generation = {int(generation)}"
        query = f"DELETE FROM {self._table} WHERE id = ANY(%b){only} RETURNING id"
        try:
            with self._database.answers() as connection:
                return len({row[0] for row in connection.execute(query, (list(ids),))})
        except self._database.errors.UndefinedTable:
            return 0

    def drop(self, generation: int) -> None:
        """Drops the partition."""
        with self._database.answers() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {self._partition(generation)}")

    def close(self) -> None:
        """See `Rows.close`."""
        self._database.close()
