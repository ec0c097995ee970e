"""gemb versions: list the versions in stores of vectors, their state, size and age.

    gemb versions runs/store
    gemb versions runs/store sqlite:runs/users.db redis://127.0.0.1:6379/0

STORE is a folder that `gemb.store.VersionStore` wrote, or the address of a key store: sqlite:FILE,
redis://HOST:PORT/NUMBER (extra `redis`; Valkey too) or postgresql://HOST/DATABASE (extra
`postgres`); or of an index host: pgvector://HOST/DATABASE, milvus://HOST:PORT or milvus:FILE (extra
`milvus`). A version is written generation.refresh, such as 7.3: retraining makes a new generation
with its own space, and encoding again with the same model makes a refresh. Vectors of 7.2 and 7.3
may be compared, those of 7 and 6 never.

Notes say how a version was made, which processes of this machine read its files, and which of the
other stores named hold vectors of the same space. --gb_price adds the cost of storage.

    gemb versions runs/store sqlite:runs/users.db --gb_price=0.1

    loading    being written, not read        ready    complete; read if it was published before
    live       the newest that is read        bad      marked bad or damaged, never read

In Redis five generations of 128 float16 numbers take 2.0 KB per id. A narrower nested width and
float16 save memory.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_float(
    "gb_price", 0.0, "Price of a gigabyte per month, for a column of costs.", 0, allow_override=True
)
flags.DEFINE_string("name", "vectors", "Name of the store on its server.", allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.reports.terminal import aligned
    from gemb.store import open_store

    if not argv:
        raise UserError("STORE is required: a folder or the address of a key store")
    stores = [open_store(place, FLAGS.name) for place in argv]
    listed = [store.versions() for store in stores]
    for number, store in enumerate(stores):
        others = {
            str(other): {each.space.id for each in versions if each.space}
            for place, (other, versions) in enumerate(zip(stores, listed, strict=True))
            if place != number
        }
        reads = _readers(store)
        rows = [_row(each, reads.get(each.version, []), others) for each in listed[number]]
        print(f"{store}: {len(rows)} versions" + ("" if rows else ", nothing is written yet"))
        if rows:
            columns = [*_COLUMNS]
            if FLAGS.gb_price:
                columns.insert(6, "per month")
            print(aligned([columns, *rows]))


def _readers(store) -> dict:
    """Processes that read versions of a store on disk."""
    from gemb.store import VersionStore
    from gemb.store.disk.in_use import readers

    return readers(store.folder) if isinstance(store, VersionStore) else {}


_COLUMNS = ("version", "state", "space", "dim", "rows", "MB", "age", "notes")


def _row(each, reads: list[str], others: dict[str, set[str]]) -> list[str]:
    space = each.space.id[:12] if each.space else "unreadable"
    notes = ["pinned"] if each.pinned else []
    if each.state == "ready" and not each.published:
        notes.append("never published")
    for key in ("of", "kind", "parent", "rolled_back", "marked_bad", "problem"):
        if each.about.get(key):
            notes.append(f"{key.replace('_', ' ')}: {each.about[key]}"[:60])
    notes += [f"{name}: {value:.4g}" for name, value in each.about.get("metrics", {}).items()]
    if canaries := each.about.get("canaries"):
        notes.append(f"canaries {canaries}")
    since = each.about.get("since_live", {})
    notes += [f"{key}: {since[key]}"[:110] for key in ("drift", "comparison") if key in since]
    if each.space:
        notes += [f"also in {name}" for name, spaces in others.items() if each.space.id in spaces]
    notes += [f"read by {name}" for name in reads]
    dim = str(each.space.dim) if each.space else ""
    size = [f"{each.rows:,}", f"{each.bytes / 1e6:,.1f}"] if each.made else ["", ""]
    if FLAGS.gb_price:
        size.append(f"{each.bytes / 1e9 * FLAGS.gb_price:,.4f}" if each.made else "")
    age = _age(each.made)
    return [str(each.version), each.state, space, dim, *size, age, ", ".join(notes)]


def _age(made: float) -> str:
    import time

    if not made:
        return ""
    seconds = max(time.time() - made, 0)
    for name, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("versions")
