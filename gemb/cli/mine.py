"""gemb mine: find hard negatives for pairs: near the query, but below its answer by a margin.

    gemb mine --pairs=train.jsonl --model=all-MiniLM-L6-v2 --output=runs/mined
    gemb mine --pairs=DIR --split=train --model=runs/a/model --output=runs/mined   # a BEIR folder
    gemb mine --pairs=train.jsonl --corpus=wiki.jsonl --model=... --output=... \\
        --count=5 --choose=sampled --relative_margin=0.05 --cross_encoder=ms-marco-MiniLM-L-12-v2

Pairs have a query and a document (a text, or a list of texts: all answers); every format that
training reads is read. The search covers the pairs' documents and the corpus: a BEIR folder, or
records with "text" and optionally "title" and "_id". No answer of the same query in any pair
becomes a negative, by text (case, spacing, quotes and sentence marks aside) or by the pair's
"document_id".

From the ranks --first_rank to --last_rank a document may be chosen if it scores at most
    positive - relative_margin * |positive|   and   positive - absolute_margin,
or, with --nomargin, with any score (naive top-k: unmarked answers become negatives).

OUTPUT/pairs.jsonl is what training reads; report.html shows scores, what was rejected and twenty
examples. Vectors stay in OUTPUT/work, so that a killed run resumes and another
margin only needs a search. Delete that folder when you are done.

Mine with the best available model, which may differ from the model that you train: the margin is
only as good as its scores.

To mine again while you train: mine with the run's own model (--model=runs/a/model), train on from
it with the new pairs, and repeat; two or three rounds are usual.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("pairs", "", "File of pairs, or BEIR folder.", allow_override=True)
flags.DEFINE_string("corpus", "", "More documents to search.", allow_override=True)
flags.DEFINE_string("model", "", "Model folder or name.", allow_override=True)
flags.DEFINE_string("output", "", "Folder to write.", allow_override=True)
flags.DEFINE_string(
    "split", "train", "Split of a BEIR folder: qrels/SPLIT.tsv.", allow_override=True
)
flags.DEFINE_string("query_column", "query", "Column of the query.", allow_override=True)
flags.DEFINE_string("document_column", "document", "Column of the document.", allow_override=True)
flags.DEFINE_integer("count", 7, "Negatives per pair.", allow_override=True)
flags.DEFINE_integer("first_rank", 1, "First rank to choose from.", allow_override=True)
flags.DEFINE_integer("last_rank", 100, "Last rank to choose from.", allow_override=True)
flags.DEFINE_float(
    "relative_margin",
    0.05,
    "Share of the positive's score by which to stay below it.",
    allow_override=True,
)
flags.DEFINE_float(
    "absolute_margin", 0.0, "Score difference by which to stay below it.", allow_override=True
)
flags.DEFINE_bool(
    "margin", True, "--nomargin: the nearest, even above the positive.", allow_override=True
)
flags.DEFINE_float("highest_score", None, "Highest score of a negative.", allow_override=True)
flags.DEFINE_enum(
    "choose",
    "top",
    ["top", "sampled"],
    "How to choose among the allowed documents.",
    allow_override=True,
)
flags.DEFINE_integer("seed", 0, "Seed of the sampling.", allow_override=True)
flags.DEFINE_enum(
    "search", "exact", ["exact", "scann", "auto"], "How to search.", allow_override=True
)
flags.DEFINE_string(
    "rescore_model", "", "Second model that computes the scores.", allow_override=True
)
flags.DEFINE_string(
    "cross_encoder", "", "Cross-encoder that computes the scores.", allow_override=True
)
flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "Of vectors.", allow_override=True)
flags.DEFINE_integer(
    "chunk", 0, "Pairs at a time; 0: 4096, 16 with a cross-encoder.", 0, allow_override=True
)
flags.DEFINE_float(
    "max_bad_fraction", 0.0, "Share of broken records to leave out.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError
    from gemb.cli.arguments import check_apart, check_arguments

    check_arguments(argv, "pairs", "model", "output")
    check_apart("output", ["pairs.jsonl"], FLAGS.pairs, FLAGS.corpus)
    if FLAGS.rescore_model and FLAGS.cross_encoder:
        raise UserError("--rescore_model and --cross_encoder both compute the scores: choose one")
    from gemb.curation import mine, prepare, report
    from gemb.curation.nearest import check_installed
    from gemb.inference.embedder import Embedder
    from gemb.inference.encoded_once import scores_fingerprint

    check_installed(FLAGS.search)
    choice = _choice()
    pairs, documents = prepare.read(
        FLAGS.pairs,
        FLAGS.corpus,
        split=FLAGS.split,
        query=FLAGS.query_column,
        document=FLAGS.document_column,
        max_bad_fraction=FLAGS.max_bad_fraction,
    )
    embedder, second = Embedder.load(FLAGS.model), _second()
    about = {"pairs": FLAGS.pairs, "corpus": FLAGS.corpus, "model": FLAGS.model}
    about["scores by"] = FLAGS.rescore_model or FLAGS.cross_encoder or FLAGS.model
    results = mine(
        *prepare.encode(pairs, documents, embedder, FLAGS.output, dtype=FLAGS.dtype),
        FLAGS.output,
        model=scores_fingerprint(embedder),
        choice=choice,
        search=FLAGS.search,
        rescorer=_rescorer(second, pairs, documents),
        chunk=FLAGS.chunk or (16 if FLAGS.cross_encoder else 4096),
        about=about,
    )
    print(report.summary(results))
    print(f"pairs: {FLAGS.output}/pairs.jsonl\nreport: {FLAGS.output}/{report.REPORT}")


def _choice():
    """Which candidates become negatives."""
    from gemb.curation import Choice, Margin

    limits = FLAGS.relative_margin, FLAGS.absolute_margin, FLAGS.highest_score
    margin, ranks = Margin(*limits, FLAGS.margin), (FLAGS.first_rank, FLAGS.last_rank)
    return Choice(FLAGS.count, *ranks, margin, FLAGS.choose, FLAGS.seed)


def _second():
    """The model that scores the candidates again, if there is one."""
    from gemb.inference.cross_encoder import CrossEncoder
    from gemb.inference.embedder import Embedder

    if FLAGS.cross_encoder:
        return CrossEncoder(FLAGS.cross_encoder)
    return Embedder.load(FLAGS.rescore_model) if FLAGS.rescore_model else None


def _rescorer(second, pairs, documents):
    """What scores the candidates again; None for the scores of the search."""
    from gemb.curation import prepare, rescoring
    from gemb.inference.encoded_once import scores_fingerprint

    if FLAGS.cross_encoder:
        return rescoring.CrossScores(second, pairs.queries, documents)
    if FLAGS.rescore_model:
        made = prepare.encode(pairs, documents, second, FLAGS.output, dtype=FLAGS.dtype)
        vectors = (made.query_vectors, made.document_vectors)
        return rescoring.VectorScores(*vectors, scores_fingerprint(second))
    return None


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("mine")
