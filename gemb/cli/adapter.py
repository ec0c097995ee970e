"""gemb adapter OLD NEW: fit a map between the vectors of two models.

    gemb embed --model=OLDMODEL --input=sample.jsonl --output=runs/a
    gemb embed --model=NEWMODEL --input=sample.jsonl --output=runs/b
    gemb adapter runs/a runs/b --output=runs/adapter
    gemb index --model=NEWMODEL --vectors=runs/old --adapter=runs/adapter --corpus=DIR --output=...
    gemb adapter runs/a runs/b --queries --output=runs/adapter
    gemb search --index=runs/old_index --adapter=runs/adapter "a question for the new model"

OLD and NEW are folders of `gemb embed` with the same ids: 2,000 texts or more of the domain that is
served. --documents (the default) maps stored vectors of the old model into the new space; --queries
maps queries of the new model into the old space, for an index that must stay as it is. Five kinds
are fitted (centred rotation, affine, low rank, rotation with low rank, a small network), and
the best one on a held-out tenth is kept.

What it keeps is always shown next to encoding again and to the old model left alone: an adapter
buys time, not quality. With vectors of judged queries by both models (--old_queries, --new_queries,
--corpus=BEIR folder, and --old_documents, --new_documents if OLD and NEW are not of its documents)
recall@10 of all three is reported too.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_bool("documents", False, "Map old documents into the new space.", allow_override=True)
flags.DEFINE_bool("queries", False, "Map new queries into the old space.", allow_override=True)
flags.DEFINE_string("output", "", "Folder to write.", allow_override=True)
flags.DEFINE_list("kinds", [], "Kinds to try; default all.", allow_override=True)
flags.DEFINE_string("corpus", "", "Folder or file with the texts.", allow_override=True)
flags.DEFINE_string("old_queries", "", "Queries by the old model.", allow_override=True)
flags.DEFINE_string("new_queries", "", "Queries by the new model.", allow_override=True)
flags.DEFINE_string("old_documents", "", "Documents by the old model.", allow_override=True)
flags.DEFINE_string("new_documents", "", "Documents by the new model.", allow_override=True)


def main(argv: list[str]) -> None:
    import dataclasses

    from gemb.analysis.adapting import KINDS, fit_adapter
    from gemb.analysis.pairs import read_pairs
    from gemb.checks import UserError
    from gemb.cli.arguments import check_folder

    if len(argv) != 2:
        raise UserError("expected two places, OLD and NEW: gemb adapter OLD NEW --output=DIR")
    if not FLAGS.output:
        raise UserError("--output is required")
    if FLAGS.documents and FLAGS.queries:
        raise UserError("--documents and --queries are two adapters; fit one after the other")
    if unknown := set(FLAGS.kinds) - set(KINDS):
        raise UserError(
            f"--kinds: unknown {', '.join(sorted(unknown))}; known are {', '.join(KINDS)}"
        )
    check_folder("output")
    pairs = read_pairs(*argv)
    made = fit_adapter(
        pairs.old,
        pairs.new,
        direction="queries" if FLAGS.queries else "documents",
        fingerprints=pairs.fingerprints,
        kinds=FLAGS.kinds,
        about={"old": pairs.about[0].get("encoder", ""), "new": pairs.about[1].get("encoder", "")},
    )
    if FLAGS.old_queries:
        judged = _judged(made, pairs)
        made = dataclasses.replace(made, measured=made.measured | {"judged": judged})
    made.save(FLAGS.output)
    _print(made)


def _judged(made, pairs) -> dict:
    from gemb.analysis.adapting import judged_retention
    from gemb.analysis.judged import read_judged
    from gemb.analysis.pairs import read_pairs

    if FLAGS.old_documents:
        pairs = read_pairs(FLAGS.old_documents, FLAGS.new_documents)
    given = read_judged(FLAGS.corpus, FLAGS.old_queries, FLAGS.new_queries, pairs.ids)
    return judged_retention(made, (pairs.old, pairs.new), given.queries, given.qrels)


def _print(made) -> None:
    kept = made.measured["agreement"]
    for kind in sorted(kept, key=kept.get, reverse=True):
        print(f"  {kind:<18} {kept[kind]:.1%} of ten neighbours, among the held-out tenth")
    print(
        f"expected: {made.measured['estimate']:.1%} of ten neighbours as after encoding again, "
        f"among {made.measured['pairs']:,} texts (old model left alone "
        f"{made.measured['old_agreement']:.1%})"
    )
    if "judged" in made.measured:
        one = made.measured["judged"]
        print(
            f"recall@10: encoding again {one['new']:.4f}, old model left alone {one['old']:.4f}, "
            f"adapter {one['adapter']:.4f} ({one['of_new']:.1%} of new, {one['of_old']:.1%} of old)"
        )
    if made.measured["warning"]:
        print(f"warning: {made.measured['warning']}")
    print(f"{made.kind} adapter of {made.direction}: {FLAGS.output}")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("adapter")
