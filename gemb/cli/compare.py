"""gemb compare RUN...: compare the curves and configs of several runs.

    gemb compare runs/seed0 runs/seed1
    gemb compare runs/sweep/*=*/ --output=runs/comparison --smoothing=50

RUN is the workdir of a run, finished or not. OUTPUT receives report.html, which opens without a
network: all metrics of metrics.jsonl over the steps (losses, gradient norm, accuracy, pairs per
second, ...), last and best figures, and the bindings that differ. results.json has the same
figures.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "output", "runs/comparison", "Where to write the comparison.", allow_override=True
)
flags.DEFINE_integer(
    "smoothing",
    0,
    "Logged steps of the running mean; 0: a twentieth of the longest run.",
    allow_override=True,
)


def main(argv: list[str]) -> None:
    from pathlib import Path

    from gemb.cli.arguments import check_no_run
    from gemb.files import write_json
    from gemb.reports.comparison_page import write_comparison_page
    from gemb.reports.terminal import comparison_table
    from gemb.runs.comparison import compare

    tree = compare(argv, smoothing=FLAGS.smoothing)
    output = Path(FLAGS.output)
    check_no_run("output")
    write_comparison_page(output / "report.html", tree)
    write_json(output / "results.json", tree)
    print(comparison_table(tree))
    print(f"report: {output / 'report.html'}")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("compare")
