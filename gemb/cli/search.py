"""gemb search: search with a trained model or an index; interactive if no query is given.

The first search of a corpus encodes it (with a progress bar) and keeps the vectors in the workdir,
under the fingerprint of the model.

    gemb search --workdir=runs/quickstart "read a file line by line without loading it all"
    gemb search --workdir=runs/quickstart --dim=48 --count=3 "parse a date"
    gemb harvest --output=mine ~/code/myproject                  # your own repository
    gemb search --workdir=runs/quickstart --corpus=mine          # ask it, interactively
    gemb search --index=runs/index "parse a date"                # what `gemb index` wrote

    gemb search --index=runs/old --adapter=runs/adapter "..."    # the newer model encodes the query

For an index of `gemb documents`, each hit shows its file, line, headings and passage.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the run.", allow_override=True)
flags.DEFINE_string(
    "corpus", "", "BEIR folder; default what the run trained on.", allow_override=True
)
flags.DEFINE_string("index", "", "Index folder, instead of --workdir.", allow_override=True)
flags.DEFINE_string(
    "adapter", "", "Maps queries of a newer model into the index's space.", allow_override=True
)
flags.DEFINE_integer("dim", 0, "Nested width to search at; 0 is the full one.", allow_override=True)
flags.DEFINE_integer("count", 5, "Hits to show.", lower_bound=1, allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError

    if not FLAGS.workdir and not FLAGS.index:
        raise UserError("--workdir is required: give the folder of a run, or --index")
    if FLAGS.index and (FLAGS.workdir or FLAGS.corpus or FLAGS.dim):
        raise UserError("--index has its own model, corpus and width; remove the other flags")
    if FLAGS.adapter and not FLAGS.index:
        raise UserError("--adapter maps queries to the space of an index; give --index")
    query = " ".join(argv)
    if argv and not query.strip():
        raise UserError("the query is empty")
    from gemb.evaluation.search_session import converse, of_index, of_run

    if FLAGS.index:
        ask = of_index(FLAGS.index, count=FLAGS.count, adapter=FLAGS.adapter)
    else:
        ask = of_run(FLAGS.workdir, corpus=FLAGS.corpus, dim=FLAGS.dim, count=FLAGS.count)
    if argv:
        print(ask(query))
    else:
        converse(ask, *(["What are you looking for?"] if FLAGS.index else []))


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("search")
