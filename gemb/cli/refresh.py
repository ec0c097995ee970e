"""gemb refresh STORE: encode what changed in a corpus since the last release, and publish it.

    gemb refresh runs/store --corpus=runs/notes --dry_run       # what would change, and how long
    gemb refresh runs/store --corpus=runs/notes
    gemb refresh runs/store --corpus=runs/notes --keys=sqlite:runs/notes.db
    gemb refresh runs/store --corpus=runs/notes --host=postgresql://127.0.0.1/db
    gemb refresh runs/store --corpus=runs/notes --model=all-MiniLM-L6-v2     # in an empty store

The model is that of the live version, which is kept in the store. Documents are compared by their
ids and by what the model reads of them, after prompt and cut: each distinct changed text is encoded
once, and the vectors of all others are kept. First 100 of these are encoded again; where one has a
cosine below 0.9999 the refresh is refused. The index is continued with the changes, and built again
past 10 % of changes or 20 refreshes. The new version appears whole and is then published: readers
find the old one or the new one.

With --model of another space than the store has, all is encoded: a new generation. Most of the
documents gone is refused without --allow_shrink. --keys brings key stores to the version too: they
hold the vectors of --queries (users) where there are some, else of the documents. --host brings an
index host, see `gemb release`: changed documents are sent, and the host copies the others. A
refresh that is stopped (exit status 75) or killed continues when it is called again.

    gemb search --index=runs/store "question"      # answers from the live version
    gemb rollback runs/store --why="..."
"""

from absl import flags

from gemb.cli.arguments import define_version_flags, open_servers

FLAGS = flags.FLAGS
define_version_flags()
flags.DEFINE_bool("dry_run", False, "Print what would change, and stop.", allow_override=True)


def main(argv: list[str]) -> None:
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.files import local_folder

    if len(argv) != 1:
        raise UserError("expected STORE, the folder of a store, such as runs/store")
    if not FLAGS.corpus:
        raise UserError("--corpus is required: the documents as they are now")
    place = Path(local_folder("STORE", argv[0]))
    if not FLAGS.model and not (place / "store.json").exists():
        raise UserError(f"{place}: is not a store yet; give --model to make one")
    from gemb.release import refresh as refreshing
    from gemb.release.corpus import Corpus
    from gemb.release.settings import chosen_encoding
    from gemb.runs.interruption import resumable
    from gemb.store import VersionStore

    store = VersionStore(place, create=True)
    with resumable("gemb refresh"):
        corpora = {"documents": Corpus.read(FLAGS.corpus)}
        if FLAGS.queries:
            corpora["queries"] = Corpus.read(FLAGS.queries)
        encoding, settings = chosen_encoding(store, FLAGS)
        if FLAGS.dry_run:
            plan = refreshing.make_plan(store, encoding, corpora, settings)
            seconds = refreshing.expected_seconds(plan, encoding)
            print(f"{store}: {refreshing.described(plan, seconds)}")
            return
        with open_servers(create=True) as servers:
            refreshing.refresh(
                store, encoding, corpora, settings, allow_shrink=FLAGS.allow_shrink, **servers
            )


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("refresh")
