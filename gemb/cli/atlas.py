"""gemb atlas: write vectors as a map that Embedding Atlas shows.

    gemb atlas runs/vectors --corpus=DIR --output=map.parquet
    gemb atlas runs/old --other=runs/new --output=map.parquet
    embedding-atlas map.parquet --x x --y y --neighbors neighbors --text text

VECTORS is a folder of `gemb embed` or a .npy file. The Parquet file (extra `data`) has id, text,
x and y in 0..1, and the nearest neighbours by cosine. --other adds the map of another model's
vectors of the same items, turned onto the first one, and the overlap of both models' neighbours.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("corpus", "", "Folder or file with the texts.", allow_override=True)
flags.DEFINE_string("output", "map.parquet", "File to write.", allow_override=True)
flags.DEFINE_string("other", "", "The same items by another model.", allow_override=True)
flags.DEFINE_enum("map", "pca", ["pca", "tsne", "umap"], "Projection.", allow_override=True)
flags.DEFINE_integer("count", 15, "Neighbours.", lower_bound=1, allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.analysis.atlas import write_atlas
    from gemb.analysis.pairs import read_pairs, read_vectors
    from gemb.checks import UserError, require
    from gemb.data.sources import corpora
    from gemb.metrics.projection import require_method

    if len(argv) != 1:
        raise UserError("expected one place with vectors: gemb atlas VECTORS")
    require("pyarrow", "gemb atlas", extra="data")
    require_method(FLAGS.map)
    if FLAGS.other:
        found = read_pairs(argv[0], FLAGS.other)
        ids, vectors, other = found.ids, found.old, found.new
    else:
        (ids, vectors, _), other = read_vectors(argv[0]), None
    texts = None
    if FLAGS.corpus:
        known, written, _ = corpora.read_corpus(FLAGS.corpus)
        by_id = dict(zip(known, written, strict=True))
        texts = written if isinstance(ids, range) else [by_id.get(each, "") for each in ids]
    options = {"method": FLAGS.map, "neighbours": FLAGS.count}
    write_atlas(FLAGS.output, vectors, ids=ids, texts=texts, other=other, **options)
    print(f"{len(vectors):,} vectors: {FLAGS.output}")
    print(f"show: embedding-atlas {FLAGS.output} --x x --y y --neighbors neighbors", end="")
    print(" --text text" if texts is not None else "")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("atlas")
