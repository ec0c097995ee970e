"""Brings key stores and index hosts to a version of the store on disk; publishes nothing.

Each gets what it lacks: where it holds an older version of the same space, only changed rows are
sent and gone ones removed. A digest of all rows is compared at the end.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.identity import Space, Version, check_same_space
from gemb.metrics.similarity import prepared
from gemb.release.content import Difference, compare
from gemb.release.corpus import Corpus
from gemb.release.indexes import LOWEST_RECALL
from gemb.release.making import CORPUS, read_hashes
from gemb.store import VersionStore
from gemb.store.disk import Opened
from gemb.store.hosts import IndexHost, LocalHost, OtherDocuments, Settings
from gemb.store.hosts.filters import filterable
from gemb.store.keyed import HostError, KeyedStore
from gemb.store.rows import rows_digest

DOCUMENTS = "documents"
_BATCH = 5_000
_HITS, _ASKED, _TUNED_ON, _TIE, _ROWS = 10, 50, 500, 1e-5, 1 << 15


def keyed_set(sets) -> str:
    """The set that key stores hold: the queries (users) where there are some."""
    return "queries" if "queries" in sets else DOCUMENTS


def changed_since(
    store: VersionStore, opened: Opened, other: KeyedStore | IndexHost, name: str
) -> tuple[Version | None, Difference | None]:
    """The newest version of the same space that another store holds, and what changed since.

    Args:
        store: on disk.
        opened: a version of it.
        other: a key store or an index host.
        name: of the set.

    Returns:
        None, None where all rows have to be sent.
    """
    for each in other.versions():
        if each.readable and each.space == opened.space and each.version < opened.version:
            try:
                before = store.open(each.version, sets=(name,))
                keys = [read_hashes(one, name) for one in (opened, before)]
            except UserError:  # retired here, or without this set
                continue
            ids = [one.sets[name].ids for one in (opened, before)]
            return each.version, compare(ids[0], keys[0], ids[1], keys[1], where=store)
    return None, None


def _is_there(other: KeyedStore | IndexHost, opened: Opened, digest) -> bool:
    """Whether another store holds a version already.

    Raises:
        SpaceError: under the same number it holds vectors of another space.
        UserError: under the same number it holds something else.
    """
    held = next((each for each in other.versions() if each.version == opened.version), None)
    if held is None or not held.readable:
        return False
    check_same_space(held.space, opened.space, str(other))
    if held.about.get("digest") != digest(held):
        raise UserError(
            f"{other}: version {opened.version} is there with other rows than in {opened.folder}; "
            "give each store another --name or another place"
        )
    return True


def load_keys(store: VersionStore, keyed: KeyedStore, opened: Opened) -> dict[str, int]:
    """Puts what a version has and the key store has not, removes what is gone, and compares.

    What was put before stays right if this is killed: the next call does the rest. Where the key
    store holds other rows than expected, all of them are put, and strangers removed.

    Args:
        store: on disk.
        keyed: the key store.
        opened: the version.

    Returns:
        {"put": rows, "removed": rows}; zeros where it was loaded already.

    Raises:
        SpaceError: the number of the version is of another space there.
        UserError: the host does not answer, or refuses the version.
    """
    name = keyed_set(opened.sets)
    ids, vectors, _ = opened.sets[name]
    if _is_there(keyed, opened, lambda held: rows_digest(ids, vectors, held.about["dtype"])):
        return {"put": 0, "removed": 0}
    _, difference = changed_since(store, opened, keyed, name)
    version = keyed.begin(opened.space, of=name, version=opened.version)
    rows = np.arange(len(ids)) if difference is None else np.flatnonzero(~difference.same)
    _in_batches(keyed.put, version, ids, vectors, rows)
    gone = difference.gone if difference else []
    removed = keyed.remove(gone, generation=version.generation) if gone else 0
    wanted = keyed_rows(keyed, opened)
    try:
        keyed.verify(version, **wanted)
    except HostError:
        raise
    except UserError:
        rows = np.arange(len(ids))
        _in_batches(keyed.put, version, ids, vectors, rows)
        strangers = sorted({*keyed.ids(version)} - {str(each) for each in ids})
        removed += keyed.remove(strangers, generation=version.generation)
        keyed.verify(version, **wanted)
    return {"put": len(rows), "removed": removed}


def keyed_rows(keyed: KeyedStore, opened: Opened) -> dict:
    """{"rows", "digest"} that a key store has to hold of a version which was begun there."""
    ids, vectors, _ = opened.sets[keyed_set(opened.sets)]
    dtype = next(e for e in keyed.versions() if e.version == opened.version).about["dtype"]
    return {"rows": len(ids), "digest": rows_digest(ids, vectors, dtype)}


def load_host(store: VersionStore, host: IndexHost, opened: Opened) -> dict[str, int]:
    """Gives an index host the documents of a version, builds its index and measures it.

    Fields of the version's records become attributes, see `gemb.store.hosts.filters.filterable`.
    The host copies what is the same from the version before; where it then holds other documents
    than expected, all of them are sent. A killed call is continued by the next one. The index is
    of the kind of the version's own where the host has that, else HNSW.

    Args:
        store: on disk.
        host: the index host.
        opened: the version.

    Returns:
        {"put": documents sent, "removed": documents}; zeros where it was loaded already.

    Raises:
        SpaceError: the number of the version is of another space there.
        UserError: the host does not answer, refuses the version, or finds too little.
    """
    ids, vectors, _ = opened.sets[DOCUMENTS]
    digest = rows_digest(ids, vectors, "float32")
    if _is_there(host, opened, lambda held: digest):
        return {"put": 0, "removed": 0}
    made = opened.about["settings"]
    settings = Settings(made["kind"] if made["kind"] in host.kinds else "hnsw", made["target"])
    before, difference = changed_since(store, opened, host, DOCUMENTS)
    version = host.begin(opened.space, settings=settings, version=opened.version)
    rows, removed, attributes = np.arange(len(ids)), 0, _attributes(opened)
    if difference is not None:
        host.copy(version, before)
        older = _attributes(store.open(before, sets=(DOCUMENTS,)))
        moved = [older.get(str(each)) != attributes.get(str(each)) for each in ids]
        rows = np.flatnonzero(~difference.same | moved)
        if difference.gone:
            host.delete(difference.gone, version=version)
        removed = len(difference.gone)
    _in_batches(host.load, version, ids, vectors, rows, attributes)
    asked = opened.sets["queries" if "queries" in opened.sets else DOCUMENTS].vectors
    queries, expected = _sampled(host, opened.space, ids, vectors, asked)
    wanted = {"rows": len(ids), "digest": digest}
    try:
        host.verify(version, queries, expected, LOWEST_RECALL, **wanted)
    except OtherDocuments:
        host.clear(version)
        rows = np.arange(len(ids))
        _in_batches(host.load, version, ids, vectors, rows, attributes)
        host.verify(version, queries, expected, LOWEST_RECALL, **wanted)
    return {"put": len(rows), "removed": removed}


class Measured(NamedTuple):
    """How the index of an index host is made and measured.

    Attributes:
        settings: of the index; None for the host's own.
        queries: [queries, dim] to sample from; None for some of the documents.
        recall: share of the ten best that it has to find.
    """

    settings: Settings | None = None
    queries: np.ndarray | None = None
    recall: float = LOWEST_RECALL


AS_USUAL = Measured()


def publish_documents(
    host: IndexHost,
    space: Space,
    ids,
    vectors: np.ndarray,
    measured: Measured = AS_USUAL,
    send: Callable[[Version], None] | None = None,
    attributes: dict[str, dict] | None = None,
) -> tuple[Version, float | None]:
    """Makes documents the live version of an index host, unless they are that already.

    Args:
        host: the index host.
        space: of the vectors.
        ids: one per document.
        vectors: [documents, dim].
        measured: how.
        send: loads all documents into a version, such as by other processes; default here.
        attributes: of `attributes_of`.

    Returns:
        The version, and the share of the ten best that its index finds; None where it was there.
        With attributes it is a new one each time, for hosts do not compare them.

    Raises:
        SpaceError: vectors of another dim.
        UserError: the host does not answer, or finds too little.
    """
    digest = rows_digest(ids, vectors, "float32")
    live = next((each for each in host.versions() if each.state == "live"), None)
    if live and not attributes and live.space == space and live.about.get("digest") == digest:
        wanted = measured.settings or Settings(**live.about["settings"])
        if live.about["settings"] == dataclasses.asdict(wanted):
            return live.version, None
    version, rows = host.begin(space, settings=measured.settings), np.arange(len(ids))
    send = send or (lambda to: _in_batches(host.load, to, ids, vectors, rows, attributes))
    send(version)
    asked = vectors if measured.queries is None else measured.queries
    queries, expected = _sampled(host, space, ids, vectors, asked)
    wanted = {"rows": len(ids), "digest": digest}
    try:
        found = host.verify(version, queries, expected, measured.recall, **wanted)
    except OtherDocuments:  # of a call that was killed
        host.clear(version)
        send(version)
        found = host.verify(version, queries, expected, measured.recall, **wanted)
    host.publish(version)
    return version, found


def attributes_of(ids, records) -> dict[str, dict]:
    """Id -> the fields that a document can be filtered by; documents without any are left out."""
    made = {str(each): filterable(record) for each, record in zip(ids, records, strict=True)}
    return {each: fields for each, fields in made.items() if fields}


def _attributes(opened: Opened) -> dict[str, dict]:
    """`attributes_of` a version; {} where it keeps no records."""
    place = opened.folder / CORPUS
    if not place.is_dir():
        return {}
    corpus = Corpus.read(str(place))
    return attributes_of(corpus.ids, corpus.rows)


def _in_batches(put, version: Version, ids, vectors, rows: np.ndarray, attributes=None) -> None:
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        names = [ids[row] for row in part]
        of_these = [[attributes.get(str(each), {}) for each in names]] if attributes else []
        put(version, names, np.asarray(vectors[part]), *of_these)


def _sampled(host: IndexHost, space: Space, ids, vectors: np.ndarray, asked: np.ndarray):
    """Some queries and their exact answers; in a folder more, for its index is tuned on them."""
    count = _TUNED_ON if isinstance(host, LocalHost) else _ASKED
    chosen = np.sort(np.random.default_rng(1).permutation(len(asked))[:count])
    asked = np.asarray(asked[chosen], np.float32)
    documents = prepared(np.asarray(vectors, np.float32), space.dim, space.similarity)
    return exact_sample(ids, documents, prepared(asked, space.dim, space.similarity))


def exact_sample(ids, documents: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, list]:
    """Queries, and their exact answers: at most ten, without those that tie with the next one.

    Among documents of equal scores, such as those of one text, an index may choose any. Queries
    whose answers all tie are left out, unless all do.

    Args:
        ids: one per document.
        documents: [documents, dim] float32 whose inner products are the scores.
        queries: [queries, dim] float32.
    """
    scores = np.full((len(queries), 0), -np.inf, np.float32)
    rows = np.zeros((len(queries), 0), np.int64)
    for start in range(0, len(documents), _ROWS):
        some = queries @ documents[start : start + _ROWS].T
        scores = np.concatenate([scores, some], axis=1)
        here = np.broadcast_to(start + np.arange(some.shape[1]), some.shape)
        rows = np.concatenate([rows, here], axis=1)
        best = np.argpartition(-scores, min(_HITS, scores.shape[1] - 1), axis=1)[:, : _HITS + 1]
        scores, rows = (np.take_along_axis(each, best, axis=1) for each in (scores, rows))
    order = np.argsort(-scores, axis=1, kind="stable")
    scores, rows = (np.take_along_axis(each, order, axis=1) for each in (scores, rows))
    clear = np.ones((len(queries), min(_HITS, len(ids))), bool)
    if len(ids) > _HITS:
        clear = scores[:, :_HITS] > scores[:, _HITS:] + _TIE
    if not clear.any():
        queries, rows, clear = queries[:1], rows[:1], ~clear[:1]
    kept = np.flatnonzero(clear.any(axis=1))
    found = [[str(ids[row]) for row in rows[each, :_HITS][clear[each]]] for each in kept]
    return queries[kept], found
