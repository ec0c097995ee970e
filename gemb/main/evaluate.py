"""gemb evaluate: prove a trained model through retrieval, against BM25 and where it started.

Every nested width is measured, by exact search and by ScaNN: nDCG@10, recall@10 and @100, MRR@10
and queries per second. Writes results.json and report.html (open it in a browser) into the workdir.

    gemb evaluate --workdir=runs/quickstart
    gemb evaluate --workdir=runs/quickstart --corpus=DIR   # another test set, in BEIR's form
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the run.", allow_override=True)
flags.DEFINE_string(
    "corpus", "", "BEIR folder; default what the run trained on.", allow_override=True
)
flags.DEFINE_bool("scann", True, "Measure approximate search by ScaNN too.", allow_override=True)
flags.DEFINE_bool("force", False, "Measure again although it is done.", allow_override=True)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError

    if argv:
        raise UserError(f"unexpected argument {argv[0]!r}; flags are written --name=value")
    if not FLAGS.workdir:
        raise UserError("--workdir is missing: which run shall be evaluated?")
    from pathlib import Path

    from gemb.evaluation.workdir import REPORT, evaluate_workdir

    tree = evaluate_workdir(
        Path(FLAGS.workdir), corpus=FLAGS.corpus, approximate=FLAGS.scann, force=FLAGS.force
    )
    _print(tree["retrieval"])
    print(f"report: {Path(FLAGS.workdir) / REPORT}")


def _print(retrieval: dict) -> None:
    """A table of nDCG@10: a row a system, a column a width; ScaNN's figure behind the slash."""
    widths = list(retrieval["trained"])
    print(f"{'nDCG@10':12}" + "".join(f"{width:>14}" for width in widths))
    for system in retrieval:
        cells = []
        for width in widths:
            values = retrieval[system].get(width) or retrieval[system]["text"]
            near = values.get("scann_ndcg@10")
            cells.append(f"{values['ndcg@10']:.3f}" + (f" / {near:.3f}" if near else ""))
        print(f"{system:12}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    from gemb.main.__main__ import run

    run("evaluate")
