"""Brings a key store to a version of the store on disk."""

import numpy as np

from gemb.checks import UserError
from gemb.identity import Version
from gemb.release.content import Difference
from gemb.store.disk import Opened
from gemb.store.keyed import HostError, KeyedStore
from gemb.store.rows import rows_digest

_BATCH = 5_000


def keyed_set(sets) -> str:
    """The set that key stores hold: the queries (users) where there are some."""
    return "queries" if "queries" in sets else "documents"


def load_keys(
    keyed: KeyedStore,
    opened: Opened,
    before: Version | None = None,
    difference: Difference | None = None,
) -> dict[str, int]:
    """Puts what a version has and the key store has not, removes what is gone, and publishes.

    What was put before stays right if this is killed: the next call does the rest. Where the key
    store holds other rows than expected, all of them are put, and strangers removed.

    Args:
        keyed: the key store.
        opened: the version of the store on disk.
        before: its parent.
        difference: from the parent, of the set that is loaded.

    Returns:
        {"put": rows, "removed": rows}; zeros where it was published already.

    Raises:
        UserError: the host does not answer, or refuses the version.
    """
    held = {each.version: each for each in keyed.versions()}
    if opened.version in held and held[opened.version].readable:
        return {"put": 0, "removed": 0}
    name = keyed_set(opened.sets)
    ids, vectors, _ = opened.sets[name]
    known = before in held and held[before].readable and difference is not None
    version = keyed.begin(opened.space, of=name, version=opened.version)
    rows = np.flatnonzero(~difference.same) if known else np.arange(len(ids))
    _put(keyed, version, ids, vectors, rows)
    gone = difference.gone if known else []
    removed = keyed.remove(gone, generation=version.generation) if gone else 0
    dtype = next(e for e in keyed.versions() if e.version == version).about["dtype"]
    wanted = {"rows": len(ids), "digest": rows_digest(ids, vectors, dtype)}
    try:
        keyed.publish(version, **wanted)
    except HostError:
        raise
    except UserError:
        _put(keyed, version, ids, vectors, np.arange(len(ids)))
        strangers = sorted({*keyed.ids(version)} - {str(each) for each in ids})
        removed += keyed.remove(strangers, generation=version.generation)
        rows = np.arange(len(ids))
        keyed.publish(version, **wanted)
    return {"put": len(rows), "removed": removed}


def _put(keyed: KeyedStore, version: Version, ids, vectors, rows: np.ndarray) -> None:
    for start in range(0, len(rows), _BATCH):
        part = rows[start : start + _BATCH]
        keyed.put(version, [ids[row] for row in part], np.asarray(vectors[part]))
