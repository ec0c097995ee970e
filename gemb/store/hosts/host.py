"""The index host: the rules of versions over any server."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from gemb.checks import UserError
from gemb.identity import Listed, Space, SpaceError, Version, check_same_space
from gemb.store.hosts import inputs
from gemb.store.hosts.filters import Condition, check_attributes, parse_filter
from gemb.store.hosts.local import published
from gemb.store.hosts.protocol import Attributes, Health, Hits, OtherDocuments, Settings
from gemb.store.keyed.protocol import HostError
from gemb.store.ledger import KEEP_GENERATIONS, Ledger
from gemb.store.marking import Marking
from gemb.store.rows import RowsDigest, check_vectors, id_bytes

_BATCH = 1_000
_EFS = (40, 80, 160, 320, 640)
_SECONDS = 1.0


class Gone(HostError):
    """A version's documents are not on the server."""


class Collections(Protocol):
    """A server: documents of each version in a place of their own, and one text, the ledger.

    Raises:
        Gone: from every method that takes a version, where it has no place on the server.
        HostError: from every method, where the server does not answer, or something else.
    """

    kinds: tuple[str, ...]

    def read(self) -> bytes | None:
        """The ledger; None where there is none yet."""
        ...

    def change(self, function: Callable[[bytes | None], str]) -> None:
        """Replaces the ledger in one step; `function` may be called several times."""
        ...

    def create(self, version: Version, space: Space) -> None:
        """Makes a place for documents, with the id of their space; again without harm."""
        ...

    def held(self) -> list[Version]:
        """Versions that have a place."""
        ...

    def write(
        self, version: Version, ids: Sequence[str], vectors: np.ndarray, attributes: Sequence[dict]
    ) -> None:
        """Adds or replaces documents; they are kept when this returns."""
        ...

    def copy(self, version: Version, parent: Version, space: Space) -> None:
        """Adds the documents of another version; those that are there may be replaced.

        Raises:
            SpaceError: one of the two is of another space.
        """
        ...

    def delete(self, version: Version, ids: Sequence[str]) -> set[str]:
        """Removes documents; returns those that were there."""
        ...

    def build(self, version: Version, space: Space, settings: Settings) -> None:
        """Indexes the documents; again without harm."""
        ...

    def count(self, version: Version) -> int:
        """How many documents there are, after `build`."""
        ...

    def scan(self, version: Version) -> Iterator[tuple[list[str], np.ndarray]]:
        """Every document once, in batches of ids and vectors, after `build`."""
        ...

    def search(
        self,
        version: Version,
        space: Space,
        queries: np.ndarray,
        k: int,
        conditions: tuple[Condition, ...],
        ef: int,
    ) -> list[tuple[list[str], list[float]]]:
        """Ids and scores of each query, if the place is of this space.

        Raises:
            SpaceError: the space that is stored with the documents is another.
        """
        ...

    def drop(self, version: Version) -> None:
        """Removes a version's place."""
        ...

    def close(self) -> None:
        """Gives connections back."""
        ...


class ServerHost(Marking):
    """`IndexHost` on a server.

    Args:
        collections: the server.
        seconds: for which a list of versions that was read is used. Which space is searched does
            not depend on it: each search compares the space on the server.
    """

    def __init__(self, collections: Collections, *, seconds: float = _SECONDS):
        self.collections, self._seconds = collections, seconds
        self._known, self._until = Ledger(), 0.0
        self.kinds = collections.kinds

    def __str__(self) -> str:
        return str(self.collections)

    def versions(self) -> list[Listed]:
        """See `IndexHost.versions`."""
        return list(self._ledger().versions)

    def begin(
        self, space: Space, *, settings: Settings | None = None, version: Version | None = None
    ) -> Version:
        """See `IndexHost.begin`."""
        settings = settings or Settings(kind="hnsw")
        inputs.check_rankable(space, self)
        if settings.kind not in self.kinds:
            known = ", ".join(self.kinds)
            raise UserError(f"{self}: kind: expected one of {known}, got {settings.kind!r:.40}")
        chosen = []

        def added(ledger: Ledger) -> Ledger:
            listed = self._begun(ledger, space, settings, version)
            chosen[:] = [listed.version]
            return ledger.with_version(listed)

        self._change(added)
        self.collections.create(chosen[0], space)
        return chosen[0]

    def _begun(self, ledger: Ledger, space: Space, settings: Settings, version) -> Listed:
        held = [each for each in ledger.versions if each.space == space]
        open_ = next((each.version for each in held if each.state == "loading"), None)
        version = version or open_ or ledger.next(space)
        ledger.check_number(version, space, self)
        if any(each.version >= version for each in held if each.state != "loading"):
            raise UserError(f"{self}: version {version} is there already, or a newer one is")
        about = {"of": "documents", "settings": dataclasses.asdict(settings)}
        return Listed(version, space, "loading", about=about)

    def load(
        self,
        version: Version,
        ids: Sequence[str | int],
        vectors: np.ndarray,
        attributes: Sequence[Attributes] | None = None,
    ) -> None:
        """See `IndexHost.load`."""
        self._write(self._unfinished(version), ids, vectors, attributes)

    def copy(self, version: Version, parent: Version) -> None:
        """See `IndexHost.copy`; documents of Milvus pass through this process."""
        found, older = self._unfinished(version), self._finished(parent)
        check_same_space(older.space, found.space, str(self))
        self.collections.copy(version, parent, found.space)

    def clear(self, version: Version) -> None:
        """See `IndexHost.clear`."""
        found = self._unfinished(version)
        self.collections.drop(version)
        self.collections.create(version, found.space)

    def _unfinished(self, version: Version) -> Listed:
        found = self._ledger(fresh=True).find(version, self)
        if found.state != "loading":
            raise UserError(f"{self}: version {version} is not being loaded; begin one")
        return found

    def _finished(self, version: Version) -> Listed:
        found = self._ledger(fresh=True).find(version, self)
        if not found.readable:
            raise UserError(f"{self}: version {version} is {found.state}; choose a finished one")
        return found

    def put(
        self,
        version: Version,
        ids: Sequence[str | int],
        vectors: np.ndarray,
        attributes: Sequence[Attributes] | None = None,
    ) -> None:
        """See `IndexHost.put`."""
        self._write(self._finished(version), ids, vectors, attributes)

    def _write(self, found: Listed, ids, vectors, attributes) -> None:
        names = [each.decode() for each in id_bytes(ids, self)]
        check_vectors(vectors, ids, found.space, self)
        attributes = check_attributes(attributes, len(names), self)
        for start in range(0, len(names), _BATCH):
            part = slice(start, start + _BATCH)
            made = np.ascontiguousarray(vectors[part], np.float32)
            self.collections.write(found.version, names[part], made, attributes[part])

    def verify(
        self,
        version: Version,
        queries: np.ndarray,
        expected: Sequence[Sequence[str | int]],
        recall: float,
        *,
        rows: int,
        digest: str | None = None,
    ) -> float:
        """See `IndexHost.verify`."""
        found = self._ledger(fresh=True).find(version, self)
        if found.state == "bad":
            raise UserError(f"{self}: version {version} is marked bad")
        expected = inputs.check_expected(expected, queries, self)
        most = max(map(len, expected))
        queries = inputs.check_queries(queries, most, found.space, found.space, self)
        settings = Settings(**found.about["settings"])
        self.collections.build(version, found.space, settings)
        self._check_rows(found, rows, digest)
        reached = 0.0
        for ef in [settings.ef] if settings.ef else _EFS:
            answers = self.collections.search(version, found.space, queries, most, (), ef)
            ids, _ = inputs.ordered(answers, most)
            cut = [row[: len(wanted)] for row, wanted in zip(ids, expected, strict=True)]
            reached = inputs.recall_of(cut, expected)
            if reached >= recall or settings.kind == "exact":
                break
        inputs.check_recall(reached, recall, version, self)
        size = rows * found.space.dim * 4
        measured = {"ef": ef, "recall": round(reached, 4), "digest": digest}

        def made(ledger: Ledger) -> Ledger:
            now = ledger.find(version, self)
            if now.state == "loading":
                now = dataclasses.replace(now, state="ready", made=time.time(), rows=rows)
            now = dataclasses.replace(now, about=now.about | measured, bytes=size)
            return ledger.with_version(now)

        self._change(made)
        return reached

    def _check_rows(self, found: Listed, rows: int, digest: str | None) -> None:
        count = self.collections.count(found.version)
        if count != rows:
            raise OtherDocuments(
                f"{self}: version {found.version} holds {count:,} documents, not {rows:,}; load "
                "what is missing, delete what is gone"
            )
        if digest is None:
            return
        held = RowsDigest()
        for names, vectors in self.collections.scan(found.version):
            held.add([name.encode() for name in names], vectors)
        if held.hex() != digest:
            raise OtherDocuments(
                f"{self}: version {found.version} holds other vectors; load them again"
            )

    def publish(self, version: Version) -> None:
        """See `IndexHost.publish`."""
        found = self._ledger(fresh=True).find(version, self)
        if found.state == "loading":
            raise UserError(f"{self}: version {version} is not verified yet")
        self.collections.count(version)  # it is there
        self._change(lambda ledger: ledger.publish(version, self))

    def warm(self, version: Version) -> None:
        """See `IndexHost.warm`."""
        found = self._ledger(fresh=True).find(version, self)
        query = np.full((1, found.space.dim), found.space.dim**-0.5, np.float32)
        self._searched(found, query, 10, ())

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        space: Space | str,
        generation: int,
        filter: Mapping | None = None,
    ) -> Hits:
        """See `IndexHost.search`."""
        conditions = parse_filter(filter, self)
        for attempt in range(2):
            listed = published(self._ledger(fresh=attempt > 0), generation, self)
            checked = inputs.check_queries(queries, k, listed.space, space, self)
            try:
                found = self._searched(listed, checked, k, conditions)
                return Hits(*inputs.ordered(found, k), listed.version)
            except Gone:  # retired since the list of versions was read
                if attempt:
                    raise
        raise AssertionError

    def _searched(self, listed: Listed, queries: np.ndarray, k: int, conditions):
        ef = listed.about.get("ef", _EFS[0])
        return self.collections.search(listed.version, listed.space, queries, k, conditions, ef)

    def delete(self, ids: Sequence[str | int], *, version: Version | None = None) -> int:
        """See `IndexHost.delete`."""
        names, there = [each.decode() for each in id_bytes(ids, self)], set()
        for each in self.collections.held() if version is None else [version]:
            with contextlib.suppress(Gone):  # it was retired meanwhile
                there |= self.collections.delete(each, names)
        return len(there)

    def retire(self, *, keep: int = KEEP_GENERATIONS, dry_run: bool = False) -> list[Version]:
        """See `IndexHost.retire`; versions disappear at once, then their documents are removed."""
        if dry_run:
            return [each.version for each in self._ledger(fresh=True).old(keep, 2)]
        removed = []

        def listed(ledger: Ledger) -> Ledger:
            removed[:] = [each.version for each in ledger.old(keep, 2)]
            return ledger.without(*removed)

        self._change(listed)
        held = self.collections.held()  # read before the list: a new version is listed first
        kept = {each.version for each in self._ledger(fresh=True).versions}
        for version in held:
            if version not in kept:
                self.collections.drop(version)
        return removed

    def check(self) -> list[str]:
        """Reads every document of every finished version.

        Returns:
            What is wrong, a line each; empty where all is well.
        """
        problems = []
        for each in self.versions():
            if not each.readable:
                continue
            try:
                for names, vectors in self.collections.scan(each.version):
                    check_vectors(vectors, names, each.space, f"{self}, version {each.version}")
                self.warm(each.version)
            except UserError as error:
                problems.append(str(error))
        return problems

    def health(self) -> Health:
        """Whether the server answers a search in the live version; raises nothing."""
        started, live, reason = time.perf_counter(), None, ""
        try:
            listed = self._ledger(fresh=True).live
            if listed:
                live = listed.version
                self.warm(live)
            else:
                reason = "nothing is published"
        except UserError as error:
            reason = str(error)
        return Health(not reason, reason, time.perf_counter() - started, live)

    def close(self) -> None:
        """Gives connections back."""
        self.collections.close()

    def _change(self, function: Callable[[Ledger], Ledger]) -> None:
        self._until = 0.0
        self.collections.change(lambda text: function(self._parse(text)).write())

    def _ledger(self, *, fresh: bool = False) -> Ledger:
        if fresh or time.monotonic() >= self._until:
            self._known = self._parse(self.collections.read())
            self._until = time.monotonic() + self._seconds
        return self._known


def check_place(found: str | None, space: Space, where: object) -> None:
    """Compares the space that is stored with documents with the caller's.

    Raises:
        Gone: there is no such place.
        SpaceError: it is of another space.
    """
    if found is None:
        raise Gone(f"{where}: its documents are not there")
    if found != space.id:
        raise SpaceError(
            f"{where}: holds documents of space {found}, which cannot be compared with vectors of "
            f"space {space}"
        )
