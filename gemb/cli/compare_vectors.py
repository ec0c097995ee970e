"""gemb compare-vectors OLD NEW: compare two versions of the vectors of the same items.

    gemb compare-vectors runs/old runs/new --output=runs/versions
    gemb compare-vectors runs/old runs/new --corpus=DIR
    gemb compare-vectors runs/old runs/new --corpus=DIR --old_queries=runs/q1 --new_queries=runs/q2

OLD and NEW are folders of `gemb embed`, matched by id, or .npy files with the same rows. Measured
are the overlap of nearest neighbours with its interval, rank-biased overlap, linear CKA, the
Procrustes residual, distances with the values to expect without change, effective rank, isotropy.
With the texts of --corpus (a BEIR folder or a file of records), the items that moved most are shown
with the neighbours they lost and gained, and the words and clusters that they share.

With vectors of the queries of a BEIR folder by both models, nDCG@10 and recall@10 are compared by
its judgements, with paired tests, wins and losses. OUTPUT receives report.html and results.json.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("corpus", "", "Folder or file with the texts.", allow_override=True)
flags.DEFINE_string("old_queries", "", "Queries by the old model.", allow_override=True)
flags.DEFINE_string("new_queries", "", "Queries by the new model.", allow_override=True)
flags.DEFINE_integer("count", 10, "Neighbours compared.", lower_bound=1, allow_override=True)
flags.DEFINE_integer("sample", 1000, "Items looked up.", lower_bound=2, allow_override=True)
flags.DEFINE_string("output", "runs/versions", "Folder to write.", allow_override=True)


def main(argv: list[str]) -> None:
    from pathlib import Path

    from gemb.analysis.pairs import read_pairs
    from gemb.analysis.versions import compare_vectors
    from gemb.checks import UserError
    from gemb.cli.arguments import check_folder
    from gemb.files import write_json
    from gemb.reports.monitoring import write_versions_page

    if len(argv) != 2:
        raise UserError("expected two places, OLD and NEW: gemb compare-vectors OLD NEW")
    if bool(FLAGS.old_queries) != bool(FLAGS.new_queries):
        raise UserError("--old_queries and --new_queries belong together; give both")
    check_folder("output")
    pairs = read_pairs(*argv)
    options = _judgements(pairs.ids) if FLAGS.old_queries else {"texts": _texts(pairs.ids)}
    tree = compare_vectors(pairs.old, pairs.new, k=FLAGS.count, sample=FLAGS.sample, **options)
    output = Path(FLAGS.output)
    write_versions_page(output / "report.html", tree, (argv[0], argv[1]))
    write_json(output / "results.json", tree)
    value, low, high = tree["neighbours"]["overlap"]
    print(f"overlap@{tree['k']} of neighbours {value:.3f} [{low:.3f}, {high:.3f}]", end=", ")
    print(f"CKA {tree['similarity']['cka']:.3f}")
    for name, one in tree.get("metrics", {}).items():
        print(f"{name} {one['old']:.4f} -> {one['new']:.4f}, p {one['p']:.4f}")
    print(f"report: {output / 'report.html'}")


def _texts(ids) -> list[str] | None:
    """The texts of the items, in their order."""
    from gemb.checks import UserError
    from gemb.data.sources import corpora

    if not FLAGS.corpus:
        return None
    known, texts, _ = corpora.read_corpus(FLAGS.corpus)
    by_id = dict(zip(known, texts, strict=True))
    if len(ids) == len(texts) and not all(each in by_id for each in ids):
        return list(texts)  # rows without ids, in the corpus's order
    try:
        return [by_id[each] for each in ids]
    except KeyError as error:
        raise UserError(f"--corpus: {FLAGS.corpus} has no text with id {error}") from None


def _judgements(ids) -> dict:
    from gemb.analysis.judged import read_judged

    found = read_judged(FLAGS.corpus, FLAGS.old_queries, FLAGS.new_queries, ids)
    options = {"queries": found.queries, "qrels": found.qrels, "query_texts": found.texts}
    return options | {"texts": _texts(ids)}


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("compare-vectors")
