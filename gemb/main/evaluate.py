"""gemb evaluate: what an embedding is worth: a run through retrieval, or models over many tasks.

With --workdir, a trained model is measured at every nested width against BM25 and where it started,
by exact search and by ScaNN: nDCG@10, recall@10 and @100, MRR@10 and queries per second.

    gemb evaluate --workdir=runs/quickstart
    gemb evaluate --workdir=runs/quickstart --corpus=DIR   # another test set, in BEIR's form

With --model and --tasks, models are measured on retrieval, re-ranking, STS, pair classification,
classification, clustering and bitext mining; two or more models are compared by paired tests. What
was measured before is read from the cache.

    gemb evaluate --model=all-MiniLM-L6-v2 --tasks=DIR
    gemb evaluate --model=runs/quickstart/model,all-MiniLM-L6-v2 --tasks=DIR,DIR2 --widths=384,96

A tasks folder holds one of these (.gz behind a name if it likes) or folders with them: BEIR's
corpus.jsonl, queries.jsonl and qrels/test.tsv; train.tsv and test.tsv with the columns text and
label; NAME.tsv with sentence1, sentence2 and score (or label, 0 or 1), or with source and target;
NAME.jsonl with query, positive and negative; a task.json that describes others (see
gemb/evaluation/tasks.py). Either way results.json and report.html are written: open that in a
browser.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the run.", allow_override=True)
flags.DEFINE_string(
    "corpus", "", "BEIR folder; default what the run trained on.", allow_override=True
)
flags.DEFINE_bool("scann", True, "Measure approximate search by ScaNN too.", allow_override=True)
flags.DEFINE_bool("force", False, "Measure again although it is done.", allow_override=True)
flags.DEFINE_list("model", [], "Model folders or names, with commas.", allow_override=True)
flags.DEFINE_list("tasks", [], "Folders with tasks, with commas.", allow_override=True)
flags.DEFINE_list(
    "widths", [], "Coordinates to keep; default the model's nested widths.", allow_override=True
)
flags.DEFINE_string(
    "output", "runs/evaluation", "Where --tasks writes its results.", allow_override=True
)


def main(argv: list[str]) -> None:
    from gemb.checks import UserError

    if argv:
        raise UserError(f"unexpected argument {argv[0]!r}; flags are written --name=value")
    if FLAGS.model or FLAGS.tasks:
        _evaluate_tasks()
        return
    if not FLAGS.workdir:
        raise UserError(
            "--workdir is missing: which run shall be evaluated? Or give --model and --tasks"
        )
    from pathlib import Path

    from gemb.evaluation.workdir import REPORT, evaluate_workdir

    tree = evaluate_workdir(
        Path(FLAGS.workdir), corpus=FLAGS.corpus, approximate=FLAGS.scann, force=FLAGS.force
    )
    _print(tree["retrieval"])
    print(f"report: {Path(FLAGS.workdir) / REPORT}")


def _evaluate_tasks() -> None:
    from pathlib import Path

    from gemb.checks import UserError

    if FLAGS.workdir:
        raise UserError("--workdir evaluates a run, --model with --tasks any model: give one")
    for flag in ("model", "tasks"):
        if not FLAGS[flag].value:
            raise UserError(f"--{flag} is missing: --model says what to measure, --tasks on what")
    for width in FLAGS.widths:
        if not width.isdecimal():
            raise UserError(f"--widths: expected whole numbers with commas, got {width!r}")
    names = _names(FLAGS.model)
    from gemb.evaluation import suite
    from gemb.evaluation.report import write_json
    from gemb.evaluation.suite_report import write_suite_report
    from gemb.evaluation.tasks import read_tasks
    from gemb.evaluation.workdir import REPORT, RESULTS
    from gemb.inference.embedder import Embedder

    tasks, widths = read_tasks(FLAGS.tasks), [int(width) for width in FLAGS.widths]
    # All are loaded before any is measured: a misspelt name is told at once.
    embedders = {name: Embedder.load(place) for name, place in names.items()}
    models = {
        name: suite.evaluate_model(embedder, tasks, widths=widths, force=FLAGS.force, label=name)
        for name, embedder in embedders.items()
    }
    tree = suite.summary(tasks, models)
    output = Path(FLAGS.output)
    write_suite_report(output / REPORT, tree)
    write_json(output / RESULTS, tree)
    _print_tasks(tree)
    print(f"report: {output / REPORT}")


def _names(places: list[str]) -> dict[str, str]:
    """A short name for each model: its folder's where that is unique, else the path as given."""
    from pathlib import Path

    from gemb.checks import UserError

    if len(set(places)) < len(places):
        raise UserError(f"--model: a model stands there twice: {','.join(places)}")
    short = [Path(place).name for place in places]
    named = short if len(set(short)) == len(short) and all(short) else places
    return dict(zip(named, places, strict=True))


def _print_tasks(tree: dict) -> None:
    """A table of main figures: a row a task and model, a column a width."""
    from gemb.evaluation.suite_report import widths_of

    widths = widths_of(tree)
    rows = [
        (f"{task} {info['main']}", model, by_width, info["main"])
        for task, info in tree["tasks"].items()
        for model, by_width in tree["results"][task].items()
    ] + [("mean of tasks", model, row, "tasks") for model, row in tree["averages"].items()]
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    print(" " * (first + second + 2) + "".join(f"{width:>8}" for width in widths))
    for what, model, by_width, metric in rows:
        cells = (f"{by_width[w][metric]:8.3f}" if w in by_width else f"{'':8}" for w in widths)
        print(f"{what:{first}}  {model:{second}}" + "".join(cells))


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
