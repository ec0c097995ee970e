"""An index in PostgreSQL with pgvector: a table for each version, which says its space.

    gemb_ledgers                    what versions there are
    gemb__NAME_g0007_r0003          id, vector, attributes; its comment is the id of the space

A key store in the same database can be published in the same transaction, see `keys`.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from gemb.checks import UserError
from gemb.identity import Space, Version
from gemb.store.hosts.filters import Condition
from gemb.store.hosts.host import Gone, ServerHost, check_place
from gemb.store.hosts.inputs import by_cosine
from gemb.store.hosts.protocol import Settings
from gemb.store.keyed.database import Database
from gemb.store.keyed.postgres import PostgresRows
from gemb.store.keyed.store import KeyedStore

_STEP = 2_000  # rows of one FETCH
_MOST_HNSW_DIM = 2_000  # of pgvector
_TABLE = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS {table} (
    id bytea PRIMARY KEY, vector vector({dim}) NOT NULL, attributes jsonb NOT NULL)
"""
_HEADER_BYTES = 4  # of a vector in PostgreSQL's binary format: dim and an unused number


class PgvectorHost(ServerHost):
    """`IndexHost` in a PostgreSQL database with pgvector.

    Args:
        url: such as postgresql://user@127.0.0.1:5432/database.
        name: of the index, so that several share a database.
        timeout: seconds to wait for a connection, and for the answer to a search.
        seconds: see `ServerHost`.

    Raises:
        MissingExtra: psycopg is not installed.
        HostError: the server does not answer.
    """

    def __init__(self, url: str, name: str, *, timeout: float = 5.0, seconds: float = 1.0):
        self._tables = _Tables(url, name, timeout)
        super().__init__(self._tables, seconds=seconds)
        self.versions()

    def keys(self, name: str = "vectors", *, dtype: str = "float32") -> KeyedStore:
        """A key store in the same database, which `together` publishes with the index."""
        database = self._tables.database.named(name)
        return KeyedStore(PostgresRows("", name, database=database), dtype=dtype)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is published within the block, here and in `keys`, is visible at its end."""
        try:
            with self._tables.database.together():
                yield
        finally:
            self._until = 0.0


class _Tables:
    """`Collections` in PostgreSQL."""

    kinds = ("exact", "hnsw")

    def __init__(self, url: str, name: str, timeout: float):
        self._name = name
        what = "an index at postgresql://"
        # the space keeps it apart from the names of key stores
        self.database = Database(url, f"index {name}", what=what, timeout=timeout)

    def __str__(self) -> str:
        return str(self.database)

    def _table(self, version: Version) -> str:
        return f"gemb__{self._name}_g{version.generation:04d}_r{version.refresh:04d}"

    def read(self) -> bytes | None:
        """See `Collections.read`."""
        return self.database.read()

    def change(self, function: Callable[[bytes | None], str]) -> None:
        """See `Collections.change`."""
        self.database.change(function)

    @contextlib.contextmanager
    def _answers(self, version: Version, kind: str = "write") -> Iterator:
        try:
            with self.database.answers(kind) as connection:
                yield connection
        except self.database.errors.UndefinedTable:
            raise Gone(f"{self}: version {version} is not there") from None

    def create(self, version: Version, space: Space) -> None:
        """See `Collections.create`."""
        table = self._table(version)
        with self._answers(version) as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('gemb'))")
            connection.execute(_TABLE.format(table=table, dim=space.dim))
            found = self._space(connection, table)
            if found is None:
                connection.execute(f"COMMENT ON TABLE {table} IS '{space.id}'")
            else:
                check_place(found, space, f"{self}, version {version}")

    @staticmethod
    def _space(connection, table: str) -> str | None:
        query = "SELECT obj_description(to_regclass(%s), 'pg_class')"
        return connection.execute(query, (table,)).fetchone()[0]

    def held(self) -> list[Version]:
        """See `Collections.held`."""
        query = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE 'gemb\\_\\_%'"
        form = re.compile(rf"gemb__{self._name}_g(\d+)_r(\d+)")
        with self.database.answers() as connection:
            names = [form.fullmatch(name) for (name,) in connection.execute(query)]
        return [Version(*map(int, found.groups())) for found in names if found]

    def write(
        self, version: Version, ids: Sequence[str], vectors: np.ndarray, attributes: Sequence[dict]
    ) -> None:
        """See `Collections.write`."""
        query = (
            f"INSERT INTO {self._table(version)} SELECT i, v::vector, a::jsonb "
            "FROM unnest(%b::bytea[], %s::text[], %s::text[]) AS given(i, v, a) "
            "ON CONFLICT (id) DO UPDATE SET vector = excluded.vector, "
            "attributes = excluded.attributes"
        )
        rows = [each.encode() for each in ids], list(map(_text, vectors))
        with self._answers(version) as connection:
            connection.execute(query, (*rows, [json.dumps(each) for each in attributes]))

    def copy(self, version: Version, parent: Version, space: Space) -> None:
        """See `Collections.copy`: one statement on the server."""
        table, older = self._table(version), self._table(parent)
        with self._answers(parent) as connection, connection.transaction():
            for each, place in ((version, table), (parent, older)):
                check_place(self._space(connection, place), space, f"{self}, version {each}")
            connection.execute(
                f"INSERT INTO {table} SELECT id, vector, attributes FROM {older} "
                "ON CONFLICT (id) DO NOTHING"
            )

    def delete(self, version: Version, ids: Sequence[str]) -> set[str]:
        """See `Collections.delete`."""
        query = f"DELETE FROM {self._table(version)} WHERE id = ANY(%b) RETURNING id"
        with self._answers(version) as connection:
            found = connection.execute(query, ([each.encode() for each in ids],))
            return {bytes(row[0]).decode() for row in found}

    def build(self, version: Version, space: Space, settings: Settings) -> None:
        """See `Collections.build`."""
        table = self._table(version)
        if settings.kind == "hnsw" and space.dim > _MOST_HNSW_DIM:
            raise UserError(
                f"{self}: pgvector's HNSW takes at most {_MOST_HNSW_DIM:,} numbers, but vectors "
                f"have {space.dim:,}; use kind exact"
            )
        with self._answers(version) as connection:
            connection.execute(
                f"CREATE INDEX IF NOT EXISTS {table}_attributes ON {table} "
                "USING gin (attributes jsonb_path_ops)"
            )
            if settings.kind == "hnsw":
                connection.execute(
                    f"CREATE INDEX IF NOT EXISTS {table}_hnsw ON {table} USING hnsw "
                    f"(vector vector_{'cosine' if by_cosine(space) else 'ip'}_ops) "
                    f"WITH (m = {settings.m}, ef_construction = "
                    f"{max(settings.ef_construction, 2 * settings.m)})"
                )
            connection.execute(f"ANALYZE {table}")

    def count(self, version: Version) -> int:
        """See `Collections.count`."""
        with self._answers(version) as connection:
            return connection.execute(f"SELECT count(*) FROM {self._table(version)}").fetchone()[0]

    def scan(self, version: Version) -> Iterator[tuple[list[str], np.ndarray]]:
        """See `Collections.scan`."""
        query = f"SELECT id, vector_send(vector) FROM {self._table(version)}"
        with self._answers(version) as connection, connection.transaction():
            cursor = connection.cursor(name="gemb_documents", binary=True)
            cursor.execute(query)
            while rows := cursor.fetchmany(_STEP):
                made = b"".join(bytes(vector)[_HEADER_BYTES:] for _, vector in rows)
                vectors = np.frombuffer(made, ">f4").reshape(len(rows), -1)
                yield [bytes(each).decode() for each, _ in rows], vectors.astype(np.float32)

    def search(
        self,
        version: Version,
        space: Space,
        queries: np.ndarray,
        k: int,
        conditions: tuple[Condition, ...],
        ef: int,
    ) -> list[tuple[list[str], list[float]]]:
        """See `Collections.search`: one transaction, whose statements find nothing elsewhere."""
        table, where = self._table(version), f"{self}, version {version}"
        filters, values = _where(conditions)
        distance = "<=>" if by_cosine(space) else "<#>"
        # PostgreSQL compares the comment once, before it looks at the table
        query = (
            f"SELECT id, vector {distance} %s::vector AS far FROM {table} "
            f"WHERE (SELECT obj_description('{table}'::regclass, 'pg_class')) = %s{filters} "
            "ORDER BY far LIMIT %s"
        )
        found = []
        with self._answers(version, "read") as connection, connection.transaction():
            check_place(self._space(connection, table), space, where)
            connection.execute(f"SET LOCAL hnsw.ef_search = {min(max(ef, k), 1000)}")
            if conditions:
                connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            for each in queries:
                asked = (_text(each), space.id, *values, k)
                rows = connection.execute(query, asked).fetchall()
                if len(rows) < k:  # HNSW may stop early; a scan of the table does not
                    connection.execute("SET LOCAL enable_indexscan = off")
                    rows = connection.execute(query, asked).fetchall()
                    connection.execute("SET LOCAL enable_indexscan = on")
                ids = [bytes(name).decode() for name, _ in rows]
                shift = 1.0 if by_cosine(space) else 0.0
                found.append((ids, [shift - far for _, far in rows]))
        return found

    def drop(self, version: Version) -> None:
        """See `Collections.drop`."""
        with self.database.answers() as connection:
            connection.execute(f"DROP TABLE IF EXISTS {self._table(version)}")

    def close(self) -> None:
        """See `Collections.close`."""
        self.database.close()


def _text(vector: np.ndarray) -> str:
    """A vector as pgvector reads it; the digits give back the same float32."""
    return str(vector.tolist())


def _where(conditions: tuple[Condition, ...]) -> tuple[str, list]:
    """SQL that begins with AND for each condition, and its values."""
    parts, values = [], []
    for each in conditions:
        if each.values:
            parts.append(" OR ".join(["attributes @> %s::jsonb"] * len(each.values)))
            values += [json.dumps({each.name: value}) for value in each.values]
        else:
            path = f"attributes -> '{each.name}'"
            compared = [f"{path} {comparison} %s::jsonb" for comparison, _ in each.bounds]
            parts.append(" AND ".join([f"jsonb_typeof({path}) = 'number'", *compared]))
            values += [json.dumps(number) for _, number in each.bounds]
    return "".join(f" AND ({part})" for part in parts), values
