"""gemb split: split a file into parts that share no texts.

    gemb split --input=pairs.jsonl --columns=query,document --output=runs/split
    gemb split --input=pairs.jsonl --columns=path --parts=train:0.8,dev:0.1,test:0.1 --output=...
    gemb split --input=pairs.jsonl --columns=query,document --model=all-MiniLM-L6-v2 --output=...

Records with the same value in one of the columns (apart from case, spacing, quotes and sentence
marks) go to the same part, and so do all records that are connected in this way; with --model also
near-duplicates (see `gemb dedup`).
The same seed gives the same parts for any order of the file. OUTPUT/NAME.jsonl has the unchanged
records of each part; report.html has counts, the sizes of groups and twenty of them.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("input", "", "File of records.", allow_override=True)
flags.DEFINE_list(
    "columns", ["query", "document"], "Columns whose values define groups.", allow_override=True
)
flags.DEFINE_list(
    "parts", ["train:0.9", "test:0.1"], "NAME:SHARE with commas; together 1.", allow_override=True
)
flags.DEFINE_string("output", "", "Folder to write.", allow_override=True)
flags.DEFINE_integer("seed", 0, "Seed of the order of groups.", allow_override=True)
flags.DEFINE_string(
    "model", "", "Model that finds near-duplicates; default none.", allow_override=True
)
flags.DEFINE_float(
    "max_bad_fraction", 0.0, "Share of broken records to leave out.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.cli.arguments import check_apart, check_arguments

    check_arguments(argv, "input", "columns", "output")
    parts = _parts(FLAGS.parts)
    check_apart("output", [f"{name}.jsonl" for name in parts], FLAGS.input)
    from gemb.curation import inputs, report, split_records

    limit = FLAGS.max_bad_fraction
    records = inputs.read_values(FLAGS.input, FLAGS.columns, max_bad_fraction=limit)
    encoder = None
    if FLAGS.model:
        from gemb.inference.embedder import Embedder

        encoder = Embedder.load(FLAGS.model)
    results = split_records(
        records,
        FLAGS.columns,
        FLAGS.output,
        parts=parts,
        seed=FLAGS.seed,
        encoder=encoder,
        about={"input": FLAGS.input, "model": FLAGS.model},
    )
    print(report.summary(results))
    print(f"report: {FLAGS.output}/{report.REPORT}")


def _parts(given: list[str]) -> dict[str, float]:
    """{name: share} of NAME:SHARE."""
    from gemb.checks import UserError

    parts = {}
    for part in given:
        name, _, share = part.partition(":")
        try:
            parts[name] = float(share)
        except ValueError:
            raise UserError(f"--parts: expected NAME:SHARE, got {part!r}") from None
    if len(parts) < len(given):
        raise UserError(f"--parts: a name is given twice: {','.join(given)}")
    return parts


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("split")
