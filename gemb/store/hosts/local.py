"""An index host without a server: searchers of gemb in version folders of a store on disk."""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import users_errors
from gemb.identity import Listed, Space, Version, check_same_space
from gemb.metrics.similarity import prepared
from gemb.search import KINDS, build, save_index
from gemb.store.disk import VersionStore, layout, writer
from gemb.store.hosts import inputs
from gemb.store.hosts.filters import check_attributes, parse_filter
from gemb.store.hosts.local_files import (
    CHANGES,
    LOADING,
    Changes,
    Loading,
    change_lines,
    loading_versions,
)
from gemb.store.hosts.local_version import ATTRIBUTES, INDEX, MOST_CHANGES, SET, LocalVersion
from gemb.store.hosts.protocol import Attributes, Health, Hits, OtherDocuments, Settings
from gemb.store.ledger import KEEP_GENERATIONS, Ledger
from gemb.store.rows import RowsDigest, check_vectors, id_bytes

_BATCH = 5_000
_TEXT_KINDS = ("bm25", "hybrid")


class LocalHost:
    """`IndexHost` in a folder: a `VersionStore` whose versions hold an index each.

    Documents of an unfinished version are kept in the folder, so that loading can continue after
    a kill. A finished version never changes; single documents that are added, changed or removed
    later are in a log next to it and are searched exactly, up to 10,000 of them: a refresh takes
    them in, where the caller loads them. Their bytes leave the disk with the version.

    Args:
        folder: of the store.
        create: whether to make it where it is missing.

    Raises:
        UserError: there is no store, or it cannot be made.

    Example:
        >>> host = LocalHost(getfixture("tmp_path") / "index", create=True)
        >>> space, vectors = Space("q", "d", 2, True), np.eye(2, dtype=np.float32)
        >>> version = host.begin(space)
        >>> host.load(version, ["a", "b"], vectors)
        >>> host.verify(version, vectors, [["a"], ["b"]], 0.95, rows=2)
        1.0
        >>> host.publish(version)
        >>> host.search(vectors[1:], 1, space=space, generation=1).ids
        [['b']]
    """

    def __init__(self, folder: str | Path, *, create: bool = False):
        self._store = VersionStore(folder, create=create)
        self.folder = self._store.folder
        self._known: tuple[object, Ledger] = (None, Ledger())
        self._opened: dict[Version, LocalVersion] = {}
        self._lock, self._warming = threading.Lock(), set()
        self.kinds = tuple(kind for kind in KINDS if kind not in _TEXT_KINDS)

    def __str__(self) -> str:
        return str(self._store)

    def versions(self) -> list[Listed]:
        """See `IndexHost.versions`."""
        return list(self._with_loading(self._ledger()).versions)

    def begin(
        self, space: Space, *, settings: Settings | None = None, version: Version | None = None
    ) -> Version:
        """See `IndexHost.begin`."""
        settings = settings or Settings()
        inputs.check_rankable(space, self)
        if settings.kind not in self.kinds:
            known = ", ".join(self.kinds)
            raise UserError(f"kind: expected one of {known}, got {settings.kind!r:.40}")
        with writer.writing(self.folder):
            ledger = self._with_loading(self._store.ledger())
            held = [each for each in ledger.versions if each.space == space]
            open_ = next((e.version for e in held if e.state == "loading"), None)
            version = version or open_ or ledger.next(space)
            ledger.check_number(version, space, self)
            if any(each.version >= version for each in held if each.state != "loading"):
                raise UserError(f"{self}: version {version} is there already, or a newer one is")
            loading = Loading(self.folder, version)
            if version != open_ or loading.about() != (space, settings):
                loading.create(space, settings)
        return version

    def load(
        self,
        version: Version,
        ids: Sequence[str | int],
        vectors: np.ndarray,
        attributes: Sequence[Attributes] | None = None,
    ) -> None:
        """See `IndexHost.load`."""
        space, _, loading = self._loading(version)
        keys, vectors, attributes = self._accepted(space, ids, vectors, attributes)
        for start in range(0, len(keys), _BATCH):
            part = slice(start, start + _BATCH)
            loading.put(keys[part], vectors[part], attributes[part])

    def copy(self, version: Version, parent: Version) -> None:
        """See `IndexHost.copy`."""
        space, _, loading = self._loading(version)
        self._finished(parent)
        older = self._open(parent)
        check_same_space(older.space, space, str(self))
        for names, vectors, attributes in older.documents(_BATCH):
            loading.put([name.encode() for name in names], vectors, attributes)

    def clear(self, version: Version) -> None:
        """See `IndexHost.clear`."""
        space, settings, loading = self._loading(version)
        loading.remove()
        loading.create(space, settings)

    def _loading(self, version: Version) -> tuple[Space, Settings, Loading]:
        loading = Loading(self.folder, version)
        about = loading.about()
        if about is None or layout.folder_of(self.folder, version).exists():
            raise UserError(f"{self}: version {version} is not being loaded; begin one")
        return *about, loading

    def _accepted(self, space: Space, ids, vectors, attributes):
        keys = id_bytes(ids, self)
        check_vectors(vectors, ids, space, self)
        return (
            keys,
            np.ascontiguousarray(vectors, np.float32),
            check_attributes(attributes, len(keys), self),
        )

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
        finished = layout.folder_of(self.folder, version).exists()
        if finished:
            opened = self._open(version)
            if len(opened) != rows:
                raise UserError(f"{self}: version {version} has {len(opened):,} rows, not {rows:,}")
            space = opened.space
        else:
            space, settings, loading = self._loading(version)
        expected = inputs.check_expected(expected, queries, self)
        most = max(map(len, expected))
        queries = inputs.check_queries(queries, most, space, space, self)
        if finished:
            return self._measure(version, opened.search(queries, most, ()), expected, recall)
        keys, vectors, attributes = loading.read(space.dim)
        ids = [key.decode() for key in keys]
        self._check_rows(version, keys, vectors, rows, digest)
        about = {"of": "documents", "settings": dataclasses.asdict(settings), "digest": digest}
        with self._store.draft(space, version=version, about=about) as draft:
            made = _build(settings, space, vectors, queries, self)
            found = [_named(ids, made.search(query[None], most)) for query in queries]
            reached = self._measure(version, found, expected, recall)
            draft.add(SET, ids, vectors)
            with users_errors(self.folder):
                _write_index(draft.folder, made, space, attributes)
        loading.remove()
        return reached

    def _check_rows(self, version, keys, vectors, rows: int, digest: str | None) -> None:
        if len(keys) != rows:
            raise OtherDocuments(
                f"{self}: version {version} holds {len(keys):,} documents, not {rows:,}; load what "
                "is missing, delete what is gone"
            )
        if digest is not None:
            held = RowsDigest()
            held.add(keys, vectors)
            if held.hex() != digest:
                raise OtherDocuments(
                    f"{self}: version {version} holds other vectors; load them again"
                )

    def _measure(self, version, found, expected, recall: float) -> float:
        most = max(map(len, expected))
        ids, _ = inputs.ordered(found, most)
        answers = [row[: len(wanted)] for row, wanted in zip(ids, expected, strict=True)]
        reached = inputs.recall_of(answers, expected)
        inputs.check_recall(reached, recall, version, self)
        return reached

    def publish(self, version: Version) -> None:
        """See `IndexHost.publish`: its files are compared and its index is opened before."""
        if not layout.folder_of(self.folder, version).exists():
            found = self._with_loading(self._store.ledger()).find(version, self)
            raise UserError(f"{self}: version {found.version} is not verified yet")
        self.warm(version)
        self._store.publish(version)

    def roll_back(self, version: Version | None = None, *, why: str) -> Version:
        """Makes an older version live; see `VersionStore.roll_back`."""
        return self._store.roll_back(version, why=why)

    def mark_bad(self, version: Version, *, why: str) -> None:
        """Marks a version so that it is never read; the live one has to be rolled back first."""
        self._store.mark_bad(version, why=why)

    def pin(self, version: Version, *, why: str, pinned: bool = True) -> None:
        """Keeps a version whatever its age, or no longer."""
        self._store.pin(version, why=why, pinned=pinned)

    def warm(self, version: Version) -> None:
        """See `IndexHost.warm`."""
        opened = self._open(version)
        query = np.full((1, opened.space.dim), opened.space.dim**-0.5, np.float32)
        opened.search(query, 10, ())

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        space: Space | str,
        generation: int,
        filter: Mapping | None = None,
    ) -> Hits:
        """See `IndexHost.search`.

        Where a refresh of the generation was published that is not open yet, it is opened in the
        background while the refresh before it answers.
        """
        listed = published(self._ledger(), generation, self)
        queries = inputs.check_queries(queries, k, listed.space, space, self)
        conditions = parse_filter(filter, self)
        opened = self._current(listed)
        return Hits(*inputs.ordered(opened.search(queries, k, conditions), k), opened.version)

    def put(
        self,
        version: Version,
        ids: Sequence[str | int],
        vectors: np.ndarray,
        attributes: Sequence[Attributes] | None = None,
    ) -> None:
        """See `IndexHost.put`; at most 10,000 changed documents."""
        found = self._finished(version)
        keys, vectors, attributes = self._accepted(found.space, ids, vectors, attributes)
        self._log(version, change_lines(keys, vectors, attributes), [k.decode() for k in keys])

    def delete(self, ids: Sequence[str | int], *, version: Version | None = None) -> int:
        """See `IndexHost.delete`; bytes leave the disk when the version is retired."""
        keys, there = id_bytes(ids, self), set()
        for each in self._ledger().versions:
            if not each.readable or version not in (None, each.version):
                continue
            opened = self._open(each.version)
            held = [key.decode() for key in keys if opened.holds(key.decode())]
            if held:
                self._log(each.version, [{"delete": name} for name in held], held)
                there |= set(held)
        removed = len(there)
        for each in loading_versions(self.folder):
            if version in (None, each.version):
                gone = Loading(self.folder, each.version).delete(keys)
                removed = max(removed, gone)
        return removed

    def _finished(self, version: Version) -> Listed:
        found = self._with_loading(self._ledger()).find(version, self)
        if not found.readable:
            raise UserError(f"{self}: version {version} is {found.state}; choose a finished one")
        return found

    def _log(self, version: Version, lines: Sequence[dict], names: Sequence[str]) -> None:
        if len(self._open(version).changed() | set(names)) > MOST_CHANGES:
            raise UserError(
                f"{self}: version {version} has {MOST_CHANGES:,} changed documents; make a refresh"
            )
        Changes(self.folder, version).append(lines)

    def retire(self, *, keep: int = KEEP_GENERATIONS, dry_run: bool = False) -> list[Version]:
        """See `IndexHost.retire`."""
        ledger = self._store.ledger()
        old = self._store.retire(keep=keep, dry_run=dry_run)
        live = ledger.live
        abandoned = [
            each.version
            for each in loading_versions(self.folder)
            if live and each.version < live.version
        ]
        if not dry_run:
            for version in abandoned:
                Loading(self.folder, version).remove()
            self._tidy()
        return sorted([*old, *abandoned], reverse=True)

    def _tidy(self) -> None:
        """Removes files of versions that are no longer there, and closes these."""
        held = {*layout.finished(self.folder)}
        for path in (self.folder / CHANGES).glob("*.jsonl"):
            if Version.parse(path.stem) not in held:
                path.unlink(missing_ok=True)
        for path in (self.folder / LOADING).glob("*.db"):
            if Version.parse(path.stem) in held:  # a writer was killed after it had finished it
                Loading(self.folder, Version.parse(path.stem)).remove()
        with self._lock:
            self._opened = {v: each for v, each in self._opened.items() if v in held}

    def check(self) -> list[str]:
        """What is wrong, a line each; see `VersionStore.check`."""
        return self._store.check()

    def health(self) -> Health:
        """Whether the live version is open or opens; raises nothing."""
        started, live, reason = time.perf_counter(), None, ""
        try:
            listed = self._ledger().live
            if listed:
                live = listed.version
                self._open(live)
            else:
                reason = "nothing is published"
        except (UserError, OSError) as error:
            reason = str(error)
        return Health(not reason, reason, time.perf_counter() - started, live)

    def close(self) -> None:
        """Gives memory back; searches open their version again."""
        with self._lock:
            self._opened = {}

    def _ledger(self) -> Ledger:
        """Read again only when a file of the store has changed."""
        stamp = tuple(_stamp(self.folder / name) for name in (layout.CURRENT, layout.LOG))
        stamp += (_stamp(self.folder / layout.VERSIONS),)
        known, ledger = self._known
        if known != stamp:
            ledger = self._store.ledger()
            self._known = (stamp, ledger)
        return ledger

    def _with_loading(self, ledger: Ledger) -> Ledger:
        held = {each.version for each in ledger.versions}
        for each in loading_versions(self.folder):
            if each.version not in held:
                ledger = ledger.with_version(each)
        return ledger

    def _current(self, listed: Listed) -> LocalVersion:
        """The version, or an older refresh of it that answers until it is open."""
        held = self._opened  # replaced, never changed
        if listed.version in held:
            return held[listed.version]
        older = [v for v, each in held.items() if v < listed.version and each.space == listed.space]
        if not older:
            return self._open(listed.version)
        with self._lock:
            started = listed.version in self._warming
            self._warming.add(listed.version)
        if not started:
            threading.Thread(target=self._warm_quietly, args=(listed.version,), daemon=True).start()
        return held[max(older)]

    def _warm_quietly(self, version: Version) -> None:
        with contextlib.suppress(UserError, OSError):
            self.warm(version)
        with self._lock:
            self._warming.discard(version)

    def _open(self, version: Version) -> LocalVersion:
        opened = self._opened.get(version)
        if opened is None:
            found = self._store.open(version, sets=(SET,))
            opened = LocalVersion(found, Changes(self.folder, version))
            with self._lock:
                opened = self._opened.get(version, opened)
                self._opened = _asked_for({**self._opened, version: opened})
        return opened


def _asked_for(opened: Mapping[Version, LocalVersion]) -> dict[Version, LocalVersion]:
    """The newest two open refreshes of each generation; the others may be closed."""
    newest: dict[int, list[Version]] = {}
    for version in sorted(opened, reverse=True):
        newest.setdefault(version.generation, []).append(version)
    return {version: opened[version] for held in newest.values() for version in held[:2]}


def published(ledger: Ledger, generation: int, where: object) -> Listed:
    """The version that answers for a generation: the live one, or its newest published refresh.

    Raises:
        UserError: none of the generation is published.
    """
    live = ledger.live
    if live and live.version.generation == generation and live.readable:
        return live
    for each in ledger.versions:
        if each.version.generation == generation and each.readable and each.published:
            return each
    raise UserError(f"{where}: nothing of generation {generation} is published here")


def _build(settings: Settings, space: Space, vectors: np.ndarray, queries, where: object):
    """The searcher of a version."""
    rows = prepared(vectors, space.dim) if inputs.by_cosine(space) else vectors
    try:
        return build(
            settings.kind, rows, sample=queries, target=settings.target, k=min(10, len(rows))
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _write_index(folder: Path, made, space: Space, attributes: list[dict] | None) -> None:
    save_index(folder / INDEX, made, model=space.id, similarity=space.similarity)
    if attributes is not None:
        with open(folder / ATTRIBUTES, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(each) + "\n" for each in attributes)


def _named(ids: Sequence[str], hits) -> tuple[list[str], list[float]]:
    there = hits.indices[0] >= 0
    return [ids[row] for row in hits.indices[0][there]], list(hits.scores[0][there])


def _stamp(path: Path) -> tuple | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
