"""gemb filter: keep the pairs whose document is among the query's first k of all documents.

    gemb filter --pairs=train.jsonl --model=all-MiniLM-L6-v2 --output=runs/filtered --k=2
    gemb filter --pairs=train.jsonl --corpus=wiki.jsonl --model=... --output=...

Pairs and corpus are read as by `gemb mine`. Other answers of the same query do not count as ranks.
From a list of documents those within the first k are kept. OUTPUT/pairs.jsonl has the pairs that
are kept, rejected.jsonl the others with their rank; report.html has counts, a histogram of ranks
and twenty rejected pairs. A killed run resumes.
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
flags.DEFINE_integer("k", 2, "Last rank that counts as consistent.", 1, allow_override=True)
flags.DEFINE_enum(
    "search", "exact", ["exact", "scann", "auto"], "How to search.", allow_override=True
)
flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "Of vectors.", allow_override=True)
flags.DEFINE_integer("chunk", 4096, "Pairs per chunk.", lower_bound=1, allow_override=True)
flags.DEFINE_float(
    "max_bad_fraction", 0.0, "Share of broken records to leave out.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.cli.arguments import check_apart, check_arguments

    check_arguments(argv, "pairs", "model", "output")
    check_apart("output", ["pairs.jsonl", "rejected.jsonl"], FLAGS.pairs, FLAGS.corpus)
    from gemb.curation import filter_pairs, prepare, report
    from gemb.curation.nearest import check_installed
    from gemb.inference.embedder import Embedder
    from gemb.inference.encoded_once import scores_fingerprint

    check_installed(FLAGS.search)
    pairs, documents = prepare.read(
        FLAGS.pairs,
        FLAGS.corpus,
        split=FLAGS.split,
        query=FLAGS.query_column,
        document=FLAGS.document_column,
        max_bad_fraction=FLAGS.max_bad_fraction,
    )
    embedder = Embedder.load(FLAGS.model)
    results = filter_pairs(
        *prepare.encode(pairs, documents, embedder, FLAGS.output, dtype=FLAGS.dtype),
        FLAGS.output,
        model=scores_fingerprint(embedder),
        k=FLAGS.k,
        search=FLAGS.search,
        chunk=FLAGS.chunk,
        about={"pairs": FLAGS.pairs, "corpus": FLAGS.corpus, "model": FLAGS.model},
    )
    print(report.summary(results))
    print(f"pairs: {FLAGS.output}/pairs.jsonl\nreport: {FLAGS.output}/{report.REPORT}")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("filter")
