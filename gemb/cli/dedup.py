"""gemb dedup: remove near-duplicates from a file of documents and keep one per cluster.

    gemb dedup --input=corpus.jsonl --model=all-MiniLM-L6-v2 --output=runs/clean
    gemb dedup --input=pairs.jsonl --columns=document --model=... --output=... --keep=longest

Texts that differ only in case, spacing, quotes and sentence marks are copies. For other texts the
embedding proposes neighbours (by ScaNN in a large file), and their words decide: at least a share
of --surface in common, the same numbers, signs, units and operators, and not a template that three
or more texts fill ("of or relating to _"). One of seven words may differ. --short=merge allows one
different word in shorter texts too, --short=keep does not; the default, auto, keeps them if more
than a tenth of the similar pairs fill templates, as in definitions.
With --surface=0 only the embedding decides; then use --similarity=0.95 or more.

    gemb dedup --input=~/Pictures --model=efficientnet-lite0 --output=runs/clean

An input that is a folder of pictures is compared by perceptual hashes and embeddings: pairs with
near hashes, or a cosine of at least --picture_similarity, are compared pixel by pixel, with one of
the two moved, scaled, mirrored and turned a little. They are near-duplicates if their grey values
then agree (a correlation of 0.94). The default is for photos and efficientnet-lite0; a higher one
looks at fewer pairs.

OUTPUT/kept.jsonl has the records that stay, unchanged; clusters.jsonl has the removed ones by
cluster; report.html has counts, a histogram and twenty example clusters.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("input", "", "File of records, or BEIR folder.", allow_override=True)
flags.DEFINE_list("columns", ["text"], "Columns to compare, joined.", allow_override=True)
flags.DEFINE_string("model", "", "Model folder or name.", allow_override=True)
flags.DEFINE_string("output", "", "Folder to write.", allow_override=True)
flags.DEFINE_string(
    "keep", "first", "Record to keep of a cluster: first or longest.", allow_override=True
)
flags.DEFINE_float("similarity", 0.3, "Least cosine.", -1, 1, allow_override=True)
flags.DEFINE_float("surface", 0.85, "Least share of words in common.", 0, 1, allow_override=True)
flags.DEFINE_float(
    "picture_similarity",
    0.55,
    "Least cosine of pictures that are compared.",
    -1,
    1,
    allow_override=True,
)
flags.DEFINE_enum(
    "short", "auto", ["auto", "merge", "keep"], "Texts of 3 to 6 words, one differs.",
    allow_override=True,
)  # fmt: skip
flags.DEFINE_integer("neighbours", 10, "Neighbours to look at.", 1, allow_override=True)
flags.DEFINE_enum(
    "search", "auto", ["exact", "scann", "auto"], "How to search.", allow_override=True
)
flags.DEFINE_enum("dtype", "float32", ["float32", "float16"], "Of vectors.", allow_override=True)
flags.DEFINE_float(
    "max_bad_fraction", 0.0, "Share of broken records to leave out.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.cli.arguments import check_apart, check_arguments

    check_arguments(argv, "input", "columns", "model", "output")
    from gemb.data.sources.picture_corpus import is_picture_corpus

    if is_picture_corpus(FLAGS.input):
        _pictures()
        return
    check_apart("output", ["kept.jsonl", "clusters.jsonl"], FLAGS.input)
    from gemb.curation import Likeness, deduplicate, inputs, report
    from gemb.curation.nearest import check_installed
    from gemb.inference.embedder import Embedder

    check_installed(FLAGS.search)
    limit = FLAGS.max_bad_fraction
    records = inputs.read_texts(FLAGS.input, FLAGS.columns, max_bad_fraction=limit)
    results = deduplicate(
        records,
        FLAGS.columns,
        Embedder.load(FLAGS.model),
        FLAGS.output,
        keep=FLAGS.keep,
        likeness=Likeness(FLAGS.similarity, FLAGS.surface, FLAGS.short, FLAGS.neighbours),
        search=FLAGS.search,
        dtype=FLAGS.dtype,
        about={"input": FLAGS.input, "model": FLAGS.model},
    )
    print(report.summary(results))
    print(f"kept: {FLAGS.output}/kept.jsonl\nreport: {FLAGS.output}/{report.REPORT}")


def _pictures() -> None:
    from gemb.checks import require
    from gemb.curation.duplicates.pictures import PictureLikeness, deduplicate_pictures
    from gemb.data.sources.picture_corpus import PictureCorpus
    from gemb.inference.embedder import Embedder

    require("PIL", "reading pictures", extra="images")
    counts = deduplicate_pictures(
        PictureCorpus(FLAGS.input),
        Embedder.load(FLAGS.model),
        FLAGS.output,
        PictureLikeness(FLAGS.picture_similarity),
        about={"input": FLAGS.input, "model": FLAGS.model},
    )["counts"]
    print(f"{counts['pairs']} pairs of near-duplicates")
    print(f"{counts['kept']} of {counts['pictures']} pictures kept")
    print(f"kept: {FLAGS.output}/kept.jsonl\nreport: {FLAGS.output}/report.html")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("dedup")
