"""gemb check: compare stores with their digests, and models with their canaries.

    gemb check runs/store
    gemb check runs/store sqlite:runs/users.db
    gemb check runs/a/model --write_canaries
    gemb check runs/a/model

STORE is a folder or the address of a key store, see `gemb versions --help`. On disk every file of
every version is compared with its manifest; in a key store every readable vector is read.
Prints one line per fault and exits with status 1 if there is any. Nothing is changed.

A model folder is checked by its canaries: 32 texts whose vectors --write_canaries keeps in the
folder as canaries.json. A cosine below .999 means that another prompt, truncation, pooling, library
or device gives other vectors.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("name", "vectors", "Name of the store on its server.", allow_override=True)
flags.DEFINE_bool(
    "write_canaries", False, "Write the canaries of model folders.", allow_override=True
)


def main(argv: list[str]) -> int:
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.pretrained.folder import MANIFEST
    from gemb.store import open_store

    if not argv:
        raise UserError("STORE is required: a folder or the address of a key store")
    wrong = 0
    for place in argv:
        if (Path(place) / MANIFEST).exists() or (Path(place) / "config.json").exists():
            wrong += _model(place)
            continue
        if FLAGS.write_canaries:
            raise UserError(f"--write_canaries: {place} is not a model folder")
        store = open_store(place, FLAGS.name)
        problems = store.check()
        wrong += len(problems)
        print("\n".join(problems) or f"{store}: {len(store.versions())} versions, no faults")
    return 1 if wrong else 0


def _model(place: str) -> bool:
    """Writes or checks the canaries of a model folder; whether they changed."""
    from gemb.inference.canaries import check_canaries, write_canaries

    if FLAGS.write_canaries:
        print(f"{place}: {write_canaries(place)} canaries written")
        return False
    found = check_canaries(place)
    print(f"{place}: {found}")
    return found.broken


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("check")
