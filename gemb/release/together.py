"""Publishes and rolls back a store on disk together with its key stores and index hosts."""

import contextlib
from collections.abc import Callable, Sequence

from gemb.checks import UserError
from gemb.identity import Listed, Version
from gemb.release.loading import keyed_rows, load_host, load_keys
from gemb.store import VersionStore
from gemb.store.disk import Opened
from gemb.store.hosts import IndexHost, LocalHost
from gemb.store.keyed import KeyedStore


def check_hosts(store: VersionStore, hosts: Sequence[IndexHost], kind: str = "") -> None:
    """Checks index hosts before any work.

    Args:
        store: on disk.
        hosts: index hosts.
        kind: of the version's own index, where one is to be loaded.

    Raises:
        UserError: one is the store's own folder, or the index is of a kind that reads texts.
    """
    for host in hosts:
        if isinstance(host, LocalHost) and host.folder.resolve() == store.folder.resolve():
            raise UserError(f"{host}: is the store itself; give the index host another folder")
        if kind in ("bm25", "hybrid"):
            raise UserError(f"{host}: takes vectors only, not an index of kind {kind}")


def load(
    store: VersionStore,
    opened: Opened,
    keys: Sequence[KeyedStore],
    hosts: Sequence[IndexHost],
    say: Callable = lambda line: None,
) -> dict[str, int]:
    """Brings all key stores and index hosts to a version, which is not live there yet.

    Returns:
        {"put": rows, "removed": rows} of all together.

    Raises:
        UserError: as `load_keys` and `load_host`.
    """
    counts = {"put": 0, "removed": 0}
    for other in (*keys, *hosts):
        loads = load_keys if isinstance(other, KeyedStore) else load_host
        found = loads(store, other, opened)
        say(f"{other}: {found['put']:,} rows put, {found['removed']:,} removed")
        counts = {name: counts[name] + found[name] for name in counts}
    return counts


def publish(
    store: VersionStore,
    version: Version,
    keys: Sequence[KeyedStore] = (),
    hosts: Sequence[IndexHost] = (),
) -> bool:
    """Makes a version live in index hosts, in key stores and, last, in the store on disk.

    Where one of them fails, those before it go back to what was live there. A process that is
    killed meanwhile leaves some at the new version; readers use the newest that both sides of a
    search have, and the next call does the rest.

    Returns:
        Whether the store on disk did not have it published before.

    Raises:
        UserError: it is not loaded there, a server does not answer, or the files are damaged.
    """
    listed, live = _listed(store, version), _live(store)
    if listed.published and live and live.version < version:  # it was rolled back from
        return False
    moved: list[tuple[KeyedStore | IndexHost, Version | None]] = []
    try:
        for other in (*hosts, *keys):
            there, before = _listed(other, version), _live(other)
            newer = before and before.version > version
            if there.state == "live" or (newer and there.published):
                continue
            moved.append((other, before.version if before else None))
            if isinstance(other, KeyedStore):
                other.publish(version, **keyed_rows(other, store.open(version)))
            else:
                other.publish(version)
        if not listed.published:
            store.publish(version)
    except BaseException:
        for other, before in reversed(moved):
            _go_back(other, before)
        raise
    return not listed.published


def _go_back(other: KeyedStore | IndexHost, before: Version | None) -> None:
    """Makes what was live before live again; a refresh of a key store stays, of the same space."""
    with contextlib.suppress(UserError):
        live = _live(other)
        if before and live and live.version != before:
            other.roll_back(before, why="another store could not be published")


def roll_back(
    store: VersionStore,
    version: Version | None,
    *,
    why: str,
    keys: Sequence[KeyedStore] = (),
    hosts: Sequence[IndexHost] = (),
) -> Version:
    """Makes an older version live everywhere; the store on disk comes last.

    All are looked at before the first one changes. Where one fails, the same call does the rest.

    Args:
        store: on disk.
        version: None for the newest older one that was live before.
        why: for the log.
        keys: key stores; they keep one refresh per generation, and go back to that of the version.
        hosts: index hosts.

    Returns:
        The version that is live now.

    Raises:
        UserError: one of them does not hold it, or does not answer.
    """
    check_hosts(store, hosts)
    target = store.ledger(broken_pointer=True).roll_back(version, store).live.version
    steps = []
    for other in (*hosts, *keys):
        there = _listed(other, target, one_refresh=isinstance(other, KeyedStore))
        live = _live(other)
        if not there.readable:
            raise UserError(f"{other}: version {there.version} is {there.state}; choose another")
        if live is None or live.version < there.version:
            raise UserError(f"{other}: is not at {there.version} yet; release or refresh first")
        if live.version != there.version:
            steps.append((other, there.version))
    for other, there in steps:
        other.roll_back(there, why=why)
    return store.roll_back(version, why=why)


def _listed(store, version: Version, *, one_refresh: bool = False) -> Listed:
    """What a store says of a version, or of the refresh that it has of its generation.

    Raises:
        UserError: it has no such version.
    """
    held = store.versions()
    for each in held:
        same = each.version.generation == version.generation and one_refresh
        if each.version == version or (same and each.readable):
            return each
    known = ", ".join(str(each.version) for each in held) or "none"
    raise UserError(f"{store}: no version {version}; there are: {known}")


def _live(store) -> Listed | None:
    return next((each for each in store.versions() if each.state == "live"), None)
