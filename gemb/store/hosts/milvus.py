"""An index in Milvus: a collection for each version, which says its space.

    NAME__ledger         what versions there are, as a property
    NAME__lock           there while the ledger is changed
    NAME__g0007_r0003    id, vector, attributes; property gemb.space, and a partition of that name

A search names the partition of its space, so that the server itself finds nothing in a collection
of another one. Aliases are not used: they have moved late, or to the wrong collection.
"""

import contextlib
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError, needs
from gemb.identity import Space, Version
from gemb.store.hosts.filters import Condition, kind
from gemb.store.hosts.host import Gone, ServerHost, check_place
from gemb.store.hosts.inputs import by_cosine
from gemb.store.hosts.protocol import Settings
from gemb.store.keyed.protocol import HostError
from gemb.store.rows import MAX_ID_BYTES

_SPACE, _LEDGER, _OWNER = "gemb.space", "gemb.ledger", "gemb.owner"
_BATCH = 500  # ids of one request
_NOT_FOUND = 100  # Milvus' error code where there is no such collection
_LEASE = 5.0  # seconds after which a lock that did not change belongs to a killed writer
# Milvus Lite hangs up on a client that asks every ten seconds whether it is still there.
_CHANNEL = {"grpc.keepalive_time_ms": 300_000, "grpc.keepalive_permit_without_calls": 0}
_BUILD_SECONDS = 24 * 3600.0


class MilvusHost(ServerHost):
    """`IndexHost` in Milvus.

    Args:
        address: such as http://127.0.0.1:19530, or a file for Milvus Lite, which one process opens
            at a time and which is for tests: it takes 150 ms where Milvus takes one.
        name: of the index, so that several share a server.
        token: user:password, or a key; default $MILVUS_TOKEN.
        timeout: seconds to wait for an answer.
        seconds: see `ServerHost`.

    Raises:
        MissingExtra: pymilvus is not installed.
        HostError: the server does not answer.
    """

    def __init__(
        self,
        address: str,
        name: str,
        *,
        token: str | None = None,
        timeout: float = 10.0,
        seconds: float = 1.0,
    ):
        super().__init__(_Collections(address, name, token, timeout), seconds=seconds)
        self.versions()


class _Collections:
    """`Collections` in Milvus."""

    kinds = ("exact", "hnsw")

    def __init__(self, address: str, name: str, token: str | None, timeout: float):
        with needs("an index in Milvus", extra="milvus"):
            import pymilvus
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs what it raises
        self._pymilvus, self._name, self._timeout = pymilvus, name, timeout
        self._where = re.sub(r"//[^/@]*@", "//", address)
        if "://" not in address and not Path(address).absolute().parent.is_dir():
            raise UserError(f"{self}: folder {Path(address).absolute().parent} does not exist")
        token = os.environ.get("MILVUS_TOKEN", "") if token is None else token
        with self._answers():
            self._client = pymilvus.MilvusClient(
                uri=address, token=token, timeout=timeout, grpc_options=_CHANNEL
            )

    def __str__(self) -> str:
        return f"{self._where} ({self._name})"

    @contextlib.contextmanager
    def _answers(self, version: Version | None = None) -> Iterator[None]:
        """Turns the client's errors into one line.

        Raises:
            Gone: the collection is not there.
            HostError: any other error.
        """
        import grpc

        known = (self._pymilvus.MilvusException, grpc.RpcError, OSError, ValueError, RuntimeError)
        try:
            yield
        except known as error:
            if version and getattr(error, "code", None) == _NOT_FOUND:
                raise Gone(f"{self}: version {version} is not there") from None
            said = getattr(error, "message", None) or str(error)
            raise HostError(f"{self}: {' '.join(str(said).split())[:200]}") from None

    def _collection(self, version: Version) -> str:
        return f"{self._name}__g{version.generation:04d}_r{version.refresh:04d}"

    def _property(self, collection: str, name: str) -> str | None:
        """A property of a collection; None where there is none."""
        try:
            found = self._client.describe_collection(collection, timeout=self._timeout)
        except self._pymilvus.MilvusException as error:
            if self._client.has_collection(collection, timeout=self._timeout):
                raise error
            return None
        return found.get("properties", {}).get(name)

    def read(self) -> bytes | None:
        """See `Collections.read`."""
        with self._answers():
            text = self._property(f"{self._name}__ledger", _LEDGER)
        return text.encode() if text else None

    def change(self, function: Callable[[bytes | None], str]) -> None:
        """See `Collections.change`."""
        with self._answers(), self._locked() as check:
            ledger = f"{self._name}__ledger"
            if not self._client.has_collection(ledger, timeout=self._timeout):
                self._make(ledger, dim=2, properties={})
            text = self._property(ledger, _LEDGER)
            text = function(text.encode() if text else None)
            check()
            self._client.alter_collection_properties(ledger, {_LEDGER: text}, timeout=self._timeout)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[Callable[[], None]]:
        """Holds the lock, a collection that only one writer can make.

        A lock that was not given back in `_LEASE` seconds is removed: its writer was killed.

        Yields:
            A function that raises HostError where the lock was lost.
        """
        lock, owner = f"{self._name}__lock", secrets.token_hex(8)
        seen, since = None, time.monotonic()
        while not self._take(lock, owner):
            found = self._property(lock, _OWNER)
            if found != seen:
                seen, since = found, time.monotonic()
            elif time.monotonic() - since > _LEASE:
                self._client.drop_collection(lock, timeout=self._timeout)
            time.sleep(0.05)

        def check() -> None:
            if self._property(lock, _OWNER) != owner:
                raise HostError(f"{self}: another writer changed it meanwhile; run it again")

        try:
            yield check
        finally:
            if self._property(lock, _OWNER) == owner:
                self._client.drop_collection(lock, timeout=self._timeout)

    def _take(self, lock: str, owner: str) -> bool:
        with contextlib.suppress(self._pymilvus.MilvusException):
            if not self._client.has_collection(lock, timeout=self._timeout):
                # another description: a server refuses a second collection that is not the same
                self._make(lock, dim=2, properties={_OWNER: owner}, description=owner)
        return self._property(lock, _OWNER) == owner

    def _make(self, name: str, *, dim: int, properties: dict, description: str = "") -> None:
        kinds = self._pymilvus.DataType
        schema = self._client.create_schema(auto_id=False, description=description)
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=dim)
        schema.add_field("attributes", kinds.JSON)
        self._client.create_collection(
            name, schema=schema, properties=properties, consistency_level="Strong",
            timeout=self._timeout,
        )  # fmt: skip

    def create(self, version: Version, space: Space) -> None:
        """See `Collections.create`."""
        name = self._collection(version)
        with self._answers(version):
            found = self._property(name, _SPACE)
            if found is None:
                self._make(name, dim=space.dim, properties={_SPACE: space.id})
            else:
                check_place(found, space, f"{self}, version {version}")
            if not self._client.has_partition(name, _partition(space), timeout=self._timeout):
                self._client.create_partition(name, _partition(space), timeout=self._timeout)

    def held(self) -> list[Version]:
        """See `Collections.held`."""
        form = re.compile(rf"{self._name}__g(\d+)_r(\d+)")
        with self._answers():
            names = map(form.fullmatch, self._client.list_collections(timeout=self._timeout))
        return [Version(*map(int, found.groups())) for found in names if found]

    def write(
        self, version: Version, ids: Sequence[str], vectors: np.ndarray, attributes: Sequence[dict]
    ) -> None:
        """See `Collections.write`."""
        name = self._collection(version)
        with self._answers(version):
            space = self._property(name, _SPACE)
            if space is None:
                raise Gone(f"{self}: version {version} is not there")
            for start in range(0, len(ids), _BATCH):
                part = slice(start, start + _BATCH)
                rows = zip(ids[part], vectors[part], attributes[part], strict=True)
                self._client.upsert(
                    name,
                    [{"id": i, "vector": v, "attributes": _typed(a)} for i, v, a in rows],
                    partition_name=f"space_{space}",
                    timeout=self._timeout,
                )

    def copy(self, version: Version, parent: Version, space: Space) -> None:
        """See `Collections.copy`: Milvus copies nothing itself, so documents pass through here.

        They replace what is there: which ids a version that is not built has cannot be asked.
        """
        name, older = self._collection(version), self._collection(parent)
        with self._answers(parent):
            for each, place in ((version, name), (parent, older)):
                check_place(self._property(place, _SPACE), space, f"{self}, version {each}")
            rows = self._client.query_iterator(
                older, batch_size=_BATCH, output_fields=["id", "vector", "attributes"],
                consistency_level="Strong",
            )  # fmt: skip
            while batch := rows.next():
                kept = [{key: row[key] for key in ("id", "vector", "attributes")} for row in batch]
                self._client.upsert(
                    name, kept, partition_name=_partition(space), timeout=self._timeout
                )
            rows.close()

    def delete(self, version: Version, ids: Sequence[str]) -> set[str]:
        """See `Collections.delete`; what was there is known of finished versions only."""
        name, there = self._collection(version), set()
        with self._answers(version):
            loaded = "Loaded" in str(self._client.get_load_state(name, timeout=self._timeout))
            for start in range(0, len(ids), _BATCH):
                listed = ", ".join(map(_quoted, ids[start : start + _BATCH]))
                where = f"id in [{listed}]"
                if loaded:
                    found = self._client.query(
                        name, where, ["id"], timeout=self._timeout, consistency_level="Strong"
                    )
                    there |= {row["id"] for row in found}
                self._client.delete(name, filter=where, timeout=self._timeout)
        return there

    def build(self, version: Version, space: Space, settings: Settings) -> None:
        """See `Collections.build`."""
        name, metric = self._collection(version), "COSINE" if by_cosine(space) else "IP"
        made = {"index_type": "FLAT"}
        if settings.kind == "hnsw":
            links = {"M": settings.m, "efConstruction": settings.ef_construction}
            made = {"index_type": "HNSW", "params": links}
        with self._answers(version):
            self._client.flush(name, timeout=_BUILD_SECONDS)
            index = self._client.prepare_index_params()
            index.add_index("vector", metric_type=metric, index_name="vector", **made)
            if not self._client.list_indexes(name, timeout=self._timeout):
                self._client.create_index(name, index, timeout=_BUILD_SECONDS)
            self._client.load_collection(name, timeout=_BUILD_SECONDS)

    def count(self, version: Version) -> int:
        """See `Collections.count`."""
        with self._answers(version):
            found = self._client.query(
                self._collection(version), "", ["count(*)"], timeout=self._timeout,
                consistency_level="Strong",
            )  # fmt: skip
            return int(found[0]["count(*)"])

    def scan(self, version: Version) -> Iterator[tuple[list[str], np.ndarray]]:
        """See `Collections.scan`."""
        with self._answers(version):
            rows = self._client.query_iterator(
                self._collection(version), batch_size=_BATCH, output_fields=["id", "vector"],
                consistency_level="Strong",
            )  # fmt: skip
            while batch := rows.next():
                vectors = np.array([row["vector"] for row in batch], np.float32)
                yield [row["id"] for row in batch], vectors
            rows.close()

    def search(
        self,
        version: Version,
        space: Space,
        queries: np.ndarray,
        k: int,
        conditions: tuple[Condition, ...],
        ef: int,
    ) -> list[tuple[list[str], list[float]]]:
        """See `Collections.search`: one request; a second one where it finds nothing."""
        name, where = self._collection(version), f"{self}, version {version}"
        metric = "COSINE" if by_cosine(space) else "IP"
        asked = {"metric_type": metric, "params": {"ef": max(ef, k)}}
        if not len(queries):
            return []
        with self._answers(version):
            try:
                found = self._client.search(
                    name, data=list(queries), anns_field="vector", limit=k,
                    filter=_where(conditions), partition_names=[_partition(space)],
                    output_fields=["id"], search_params=asked, timeout=self._timeout,
                    consistency_level="Session",
                )  # fmt: skip
            except self._pymilvus.MilvusException:
                check_place(self._property(name, _SPACE), space, where)
                raise
            if not all(found):
                check_place(self._property(name, _SPACE), space, where)
            return [([h["id"] for h in hits], [h["distance"] for h in hits]) for hits in found]

    def drop(self, version: Version) -> None:
        """See `Collections.drop`."""
        with self._answers():
            self._client.drop_collection(self._collection(version), timeout=self._timeout)

    def close(self) -> None:
        """See `Collections.close`."""
        self._client.close()


def _partition(space: Space) -> str:
    return f"space_{space.id}"


def _typed(attributes: dict) -> dict:
    """Names with their value's type, so that True is not 1."""
    return {f"{kind(value)}_{name}": value for name, value in attributes.items()}


def _quoted(text: str) -> str:
    """A text in an expression; other control characters stay as they are."""
    for character, escaped in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\r", r"\r")):
        text = text.replace(character, escaped)
    return f'"{text}"'


def _where(conditions: tuple[Condition, ...]) -> str:
    """Milvus' expression of a filter."""
    parts = []
    for each in conditions:
        if each.values:
            equal = [f"{_field(each.name, v)} == {_literal(v)}" for v in each.values]
            parts.append(" or ".join(equal))
        else:
            compared = [f"{_field(each.name, n)} {c} {_literal(n)}" for c, n in each.bounds]
            parts.append(" and ".join(compared))
    return " and ".join(f"({part})" for part in parts)


def _field(name: str, value) -> str:
    return f'attributes["{kind(value)}_{name}"]'


def _literal(value) -> str:
    return _quoted(value) if isinstance(value, str) else str(value).lower()
