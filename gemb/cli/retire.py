"""gemb retire: remove old versions of stores, but not the live one and the one before it.

    gemb retire runs/store                       # keeps 5 generations, 2 refreshes of each
    gemb retire runs/store --generations=3 --dry_run
    gemb retire runs/store sqlite:runs/users.db pgvector://127.0.0.1/db
    gemb retire runs/store --pin=6.4 --why="baseline of the year"    # keep it at any age
    gemb retire runs/store --unpin=6.4 --why="replaced"

STORE is a folder or the address of a key store or an index host, see `gemb versions --help`. A
version disappears for new readers at once; open readers can still use it. A key store keeps one
refresh per generation.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("generations", 5, "Generations to keep.", lower_bound=1, allow_override=True)
flags.DEFINE_boolean("dry_run", False, "Only list what would be removed.", allow_override=True)
flags.DEFINE_string("pin", "", "A version to keep at any age.", allow_override=True)
flags.DEFINE_string("unpin", "", "A version that need not be kept any longer.", allow_override=True)
flags.DEFINE_string("why", "", "The reason for --pin or --unpin.", allow_override=True)
flags.DEFINE_string("name", "vectors", "Name of the store on its server.", allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.identity import Version
    from gemb.store import open_store

    if not argv:
        raise UserError("STORE is required: a folder or the address of a key store")
    if FLAGS.pin and FLAGS.unpin:
        raise UserError("--unpin cannot be combined with --pin; give one of them")
    named = FLAGS.pin or FLAGS.unpin
    if named and not FLAGS.why.strip():
        raise UserError("--why is required: the reason, which is logged")
    for store in [open_store(place, FLAGS.name) for place in argv]:
        if named:
            store.pin(Version.parse(named), why=FLAGS.why, pinned=bool(FLAGS.pin))
            print(f"{store}: version {named} is {'pinned' if FLAGS.pin else 'no longer pinned'}")
        else:
            _retire(store)


def _retire(store) -> None:
    old = store.retire(keep=FLAGS.generations, dry_run=FLAGS.dry_run)
    numbers = ", ".join(map(str, old)) or "nothing"
    print(f"{store}: {'would remove' if FLAGS.dry_run else 'removed'} {numbers}")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("retire")
