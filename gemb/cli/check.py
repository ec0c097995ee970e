"""gemb check: read all vectors of stores and compare them with their digests.

    gemb check runs/store
    gemb check runs/store sqlite:runs/users.db

STORE is a folder or the address of a key store, see `gemb versions --help`. On disk every file of
every version is compared with its manifest; in a key store every readable vector is read.
Prints one line per fault and exits with status 1 if there is any. Nothing is changed.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("name", "vectors", "Name of the store on its server.", allow_override=True)


def main(argv: list[str]) -> int:
    from gemb.checks import UserError
    from gemb.store import open_store

    if not argv:
        raise UserError("STORE is required: a folder or the address of a key store")
    wrong = 0
    for place in argv:
        store = open_store(place, FLAGS.name)
        problems = store.check()
        wrong += len(problems)
        print("\n".join(problems) or f"{store}: {len(store.versions())} versions, no faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("check")
