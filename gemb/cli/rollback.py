"""gemb rollback: make an older version of a store live again, at once.

    gemb rollback runs/store --why="empty answers rose"       # to the version before
    gemb rollback runs/store 6.4 --why="worse for new users"    # to a version by number
    gemb rollback sqlite:runs/users.db 6.4 --why="as the store"
    gemb rollback runs/store --why="worse" --keys=sqlite:runs/users.db --host=pgvector://127.0.0.1/db
    gemb rollback runs/store --bad --why="NaN in item vectors"  # and never publish it again

STORE is a folder or the address of a key store, see `gemb versions --help`. Nothing is copied: the
older version still exists, and its files are first compared with their digests. Readers follow
within a second. The two sides of a search may be rolled back one after the other, in any order:
until both are, the newest version that they have in common answers. --keys and --host roll key
stores and an index host back with a folder: all are looked at first, and the folder is last, so
that the same command continues after a failure.
"""

from absl import flags

from gemb.cli.arguments import define_server_flags, open_servers

FLAGS = flags.FLAGS
flags.DEFINE_string("why", "", "The reason, which is logged.", allow_override=True)
flags.DEFINE_boolean("bad", False, "Mark the version that was live as bad.", allow_override=True)
define_server_flags()


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.identity import Version
    from gemb.store import VersionStore, open_store

    if not 1 <= len(argv) <= 2:
        raise UserError("expected STORE and optionally VERSION, such as runs/store 6.4")
    if not FLAGS.why.strip():
        raise UserError("--why is required: the reason, which is logged")
    version = Version.parse(argv[1]) if argv[1:] else None
    store = open_store(argv[0], FLAGS.name)
    if not (FLAGS.keys or FLAGS.host):
        was = {store: _live(store)}
        store.roll_back(version, why=FLAGS.why)
        _report(was)
        return
    if not isinstance(store, VersionStore):
        raise UserError("--keys and --host go with a folder that gemb release or refresh wrote")
    from gemb.release.together import roll_back

    with open_servers() as servers:
        was = {each: _live(each) for each in (*servers["hosts"], *servers["keys"], store)}
        roll_back(store, version, why=FLAGS.why, **servers)
        _report(was)


def _report(was: dict) -> None:
    """Prints what is live now, and marks what was live before as bad if that is asked for."""
    for store, before in was.items():
        live = _live(store)
        print(f"{store}: version {live} is live" + (f", {before} was" if before else ""))
        if FLAGS.bad and before and before != live:
            store.mark_bad(before, why=FLAGS.why)
            print(f"{store}: version {before} is marked bad")


def _live(store):
    """The number of the live version; None if CURRENT is damaged."""
    from gemb.checks import UserError

    try:
        found = (each.version for each in store.versions() if each.state == "live")
        return next(found, None)
    except UserError:
        return None


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("rollback")
