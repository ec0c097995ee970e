"""gemb drift: compare windows of new vectors with a reference, and say what to do.

    gemb embed --model=MODEL --input=good.jsonl --output=runs/good
    gemb drift --reference=runs/reference --fit=runs/good --model=MODEL
    gemb drift --reference=runs/reference --window=today.jsonl --model=MODEL --output=runs/drift
    gemb drift --reference=runs/reference --window=incoming --output=runs/drift --watch=60

--fit and --window take a .npy file of vectors, a folder of `gemb embed`, records with a "vector"
(and "fingerprint", "text", "_id"), or records with a "text", which --model encodes. A --window that
is a folder of such files has one window per file, in the order of their times.

The verdict asks, in this order: are all vectors of the reference's model; are the 32 canaries as
they were (with --model); did the vectors move (mean, maximum mean discrepancy, shares of 32 topics,
share far from everything, Frechet distance). Thresholds come from 2,000 windows without drift of
the same size, so that one window in a hundred alarms without drift (--alpha), and smaller effects
than 2 % of a topic never alarm. Prints one JSON line per window; the advice goes to stderr.

Exit status: 0 no drift, 3 drift, 4 canaries changed (the model computes something else).
OUTPUT receives report.html, history.jsonl and drift.prom for Prometheus.

    gemb drift --before=june.jsonl --now=july.jsonl --columns=price --outcome=clicked --by=topic

compares columns of records: missing values, new categories, population stability index; and with
--outcome the mean outcome for the same inputs (--by), because relevance can change where vectors do
not move.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("reference", "", "Folder of the reference.", allow_override=True)
flags.DEFINE_string("fit", "", "Vectors of a good period, for a reference.", allow_override=True)
flags.DEFINE_string("window", "", "New vectors, or a folder of windows.", allow_override=True)
flags.DEFINE_list("model", [], "Model folder or name.", allow_override=True)
flags.DEFINE_enum(
    "kind", "document", ["document", "query"], "Which prompt to use.", allow_override=True
)
flags.DEFINE_float("alpha", 0.01, "Share of false alarms.", 1e-3, 0.5, allow_override=True)
flags.DEFINE_list(
    "sizes", ["200", "1000", "5000"], "Rows of windows to calibrate for.", allow_override=True
)
flags.DEFINE_bool("repeats", False, "Allow many copies among the rows.", allow_override=True)
flags.DEFINE_string("output", "", "Folder of the report and the history.", allow_override=True)
flags.DEFINE_float("watch", 0.0, "Seconds between looks; 0: once.", 0.0, allow_override=True)
flags.DEFINE_integer("rounds", 0, "Looks to end after; 0: none.", 0, allow_override=True)
flags.DEFINE_string("before", "", "Records of a good period.", allow_override=True)
flags.DEFINE_string("now", "", "Records to compare with them.", allow_override=True)
flags.DEFINE_list("columns", [], "Columns of the records.", allow_override=True)
flags.DEFINE_string("outcome", "", "Column of outcomes, numbers.", allow_override=True)
flags.DEFINE_string("by", "", "Column of the inputs that outcomes belong to.", allow_override=True)


def main(argv: list[str]) -> int:
    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments, check_folder, whole_numbers

    check_arguments(argv)
    if FLAGS.before or FLAGS.now:
        check_arguments(argv, "before", "now")
        return _columns()
    check_arguments(argv, "reference")
    if bool(FLAGS.fit) == bool(FLAGS.window):
        raise UserError("give one of --fit (to make the reference) and --window (to judge)")
    if len(FLAGS.model) > 1:
        raise UserError("--model: give one model")
    if FLAGS.output:
        check_folder("output")
    whole_numbers("sizes")
    return _judge() if FLAGS.window else _fit()


def _embedder():
    from gemb.inference.embedder import Embedder

    return Embedder.load(FLAGS.model[0]) if FLAGS.model else None


def _fit() -> int:
    from gemb.analysis.drift import Reference
    from gemb.analysis.drift.windows import read_window
    from gemb.cli.arguments import whole_numbers
    from gemb.identity import SpaceError
    from gemb.inference.canaries import Canaries

    embedder = _embedder()
    given = read_window(FLAGS.fit, embedder, FLAGS.kind)
    prints = {given.fingerprints} if isinstance(given.fingerprints, str) else {*given.fingerprints}
    prints |= {embedder.fingerprint} if embedder else set()
    if len(known := sorted(prints - {""})) > 1:
        raise SpaceError(f"--fit: {FLAGS.fit}: vectors of several models: {', '.join(known)}")
    made = Reference.fit(
        given.vectors,
        fingerprint=known[0] if known else "",
        sizes=whole_numbers("sizes"),
        texts=given.texts,
        ids=given.ids,
        canaries=Canaries.of(embedder) if embedder else None,
        repeats=FLAGS.repeats,
    ).save(FLAGS.reference)
    print(f"reference of {made.rows:,} vectors, calibrated at {[*made.null]}: {FLAGS.reference}")
    if made.rows < 5_000:
        print("5,000 rows or more find smaller shifts")
    return 0


def _judge() -> int:
    import contextlib
    import sys
    import time
    from pathlib import Path

    from gemb.analysis.drift import Reference, windows
    from gemb.analysis.drift.alerts import json_line, one_line
    from gemb.reports.monitoring import write_drift_page

    reference, embedder = Reference.load(FLAGS.reference), _embedder()
    output = Path(FLAGS.output) if FLAGS.output else None
    history = windows.read_history(output) if output else []
    options = {"alpha": FLAGS.alpha, "repeats": FLAGS.repeats, "kind": FLAGS.kind}
    worst, rounds = 0, 0
    with contextlib.suppress(KeyboardInterrupt if FLAGS.watch else ()):
        while True:
            for path, verdict in windows.judge_files(
                reference, FLAGS.window, history, embedder, **options
            ):
                worst = max(worst, verdict.status)
                print(json_line(verdict, window=str(path)), flush=True)
                print(f"{path}: {one_line(verdict)}", file=sys.stderr)
                if output:
                    windows.write_history(output, history, verdict)
                    write_drift_page(output / "report.html", history)
            rounds += 1
            if not FLAGS.watch or rounds == FLAGS.rounds:
                break
            time.sleep(FLAGS.watch)
    return worst


def _columns() -> int:
    import json

    import numpy as np

    from gemb.analysis.drift import judge_columns, judge_outcomes
    from gemb.analysis.drift.windows import column_values

    before, now = (column_values(place, FLAGS.columns) for place in (FLAGS.before, FLAGS.now))
    found = judge_columns(before, now, alpha=FLAGS.alpha)
    drifted = any(column.drifted for column in found.values())
    tree = {"columns": {name: column._asdict() for name, column in found.items()}}
    if FLAGS.outcome:
        names = [FLAGS.outcome, *([FLAGS.by] if FLAGS.by else [])]
        sides = [column_values(place, names) for place in (FLAGS.before, FLAGS.now)]
        inputs = [side.get(FLAGS.by, [0] * len(side[FLAGS.outcome])) for side in sides]
        known = {value: number for number, value in enumerate(dict.fromkeys(map(str, inputs[0])))}
        rows = [
            (np.array([known.get(str(v), -1) for v in each]), side[FLAGS.outcome])
            for each, side in zip(inputs, sides, strict=True)
        ]
        outcome = judge_outcomes(*rows, alpha=FLAGS.alpha)
        tree["outcome"] = outcome._asdict()
        tree["advice"] = (
            "retrain: outcomes for the same inputs changed" if outcome.drifted else "nothing"
        )
        drifted |= outcome.drifted
    print(json.dumps(tree))
    return 3 if drifted else 0


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("drift")
