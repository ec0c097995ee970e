"""gemb split: parts of a file that share nothing: whole groups go to one part.

    gemb split --input=pairs.jsonl --columns=query,document --output=runs/split
    gemb split --input=pairs.jsonl --columns=path --parts=train:0.8,dev:0.1,test:0.1 --output=...
    gemb split --input=pairs.jsonl --columns=query,document --model=all-MiniLM-L6-v2 --output=...

Records whose value in one of the columns is the same, case, spacing, quotes and sentence marks
aside, go to one part, and so does what these belong to; with --model near-duplicates do too (see
`gemb dedup`).
The same seed gives the same parts, whatever the order of the file. OUTPUT/NAME.jsonl holds the
records of each part as they were, report.html counts, the sizes of groups and twenty of them.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("input", "", "File of records.", allow_override=True)
flags.DEFINE_list("columns", ["query", "document"], "What groups share.", allow_override=True)
flags.DEFINE_list(
    "parts", ["train:0.9", "test:0.1"], "NAME:SHARE with commas; together 1.", allow_override=True
)
flags.DEFINE_string("output", "", "Folder to write.", allow_override=True)
flags.DEFINE_integer("seed", 0, "Of the order of groups.", allow_override=True)
flags.DEFINE_string("model", "", "Joins near-duplicates; none without.", allow_override=True)
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
        raise UserError(f"--parts: a name stands there twice: {','.join(given)}")
    return parts


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("split")
