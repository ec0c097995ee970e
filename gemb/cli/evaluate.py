"""gemb evaluate: measure a run on retrieval, or any models on many tasks.

With --workdir, a trained model is compared with BM25 and its base model at every nested width, with
exact search and ScaNN: nDCG@10, recall@10 and @100, MRR@10 and queries per second.

    gemb evaluate --workdir=runs/quickstart
    gemb evaluate --workdir=runs/quickstart --corpus=DIR   # another test set, in BEIR's form

With --checkpoints in addition, the kept checkpoints of a run are measured on --tasks (default: the
data of its training), with each metric over the steps. Stop a live run first.

    gemb evaluate --workdir=runs/quickstart --checkpoints=all
    gemb evaluate --workdir=runs/quickstart --checkpoints=100,200 --tasks=DIR

With --model and --tasks, models are measured on retrieval, re-ranking, STS, pair classification,
classification, clustering and bitext mining; two or more models are compared by paired tests.
Earlier results are read from the cache.

    gemb evaluate --model=all-MiniLM-L6-v2 --tasks=DIR
    gemb evaluate --model=runs/quickstart/model,all-MiniLM-L6-v2 --tasks=DIR,DIR2 --widths=384,96
    gemb evaluate --model=runs/quickstart/model --tasks=DIR --reductions=pca,random

With --model and --mteb, tasks run by mteb's own procedure (extra `mteb`): names of its tasks
and benchmarks, or task folders. --mteb_prompts is a JSON file with mteb's keys, such as {"STS":
"...", "Retrieval-query": "..."}.

    gemb evaluate --model=all-MiniLM-L6-v2 --mteb=STSBenchmark,SciFact

A task folder has one of these (optionally with .gz after the name) or folders with them: BEIR's
corpus.jsonl, queries.jsonl and qrels/test.tsv; train.tsv and test.tsv with the columns text and
label; NAME.tsv with sentence1, sentence2 and score (or label, 0 or 1), or with source and target;
NAME.jsonl with query, positive and negative; a task.json that describes others (see
gemb/evaluation/tasks/registry.py). Either way results.json and report.html are written: open that
in a browser.
"""

from absl import flags

FLAGS = flags.FLAGS
flags.DEFINE_string("workdir", None, "Folder of the run.", allow_override=True)
flags.DEFINE_string(
    "corpus", "", "BEIR folder; default what the run trained on.", allow_override=True
)
flags.DEFINE_bool("scann", True, "Measure approximate search by ScaNN too.", allow_override=True)
flags.DEFINE_bool("force", False, "Measure again instead of using the cache.", allow_override=True)
flags.DEFINE_list(
    "checkpoints", [], "all, or steps with commas: checkpoints of the run.", allow_override=True
)
flags.DEFINE_list("model", [], "Model folders or names, with commas.", allow_override=True)
flags.DEFINE_string(
    "teacher",
    "",
    "Teacher of the other models: reports what they keep of it.",
    allow_override=True,
)
flags.DEFINE_list("tasks", [], "Folders with tasks, with commas.", allow_override=True)
flags.DEFINE_list(
    "mteb", [], "Tasks or benchmarks of mteb, or tasks folders, with commas.", allow_override=True
)
flags.DEFINE_string("mteb_prompts", "", "JSON file of mteb's prompts.", allow_override=True)
flags.DEFINE_list(
    "widths", [], "Coordinates to keep; default the model's nested widths.", allow_override=True
)
flags.DEFINE_list(
    "reductions", [], "pca, random: compare prefixes with these.", allow_override=True
)
flags.DEFINE_enum(
    "map",
    "pca",
    ["pca", "tsne", "umap", "none"],
    "Layout of maps of texts; tsne: extra `eval`, umap: extra `maps`.",
    allow_override=True,
)
flags.DEFINE_bool(
    "projector", False, "Write vectors for TensorBoard's projector too.", allow_override=True
)
flags.DEFINE_string(
    "output",
    "runs/evaluation",
    "Folder for the results of --tasks and --mteb.",
    allow_override=True,
)


_OF_MODELS = ("reductions", "projector", "output")
_UNREAD = {  # flags that would change nothing
    "--workdir": ("teacher", "mteb_prompts", "widths", *_OF_MODELS),
    "--checkpoints": ("teacher", "mteb_prompts", *_OF_MODELS, "map", "scann"),
    "--tasks": ("mteb_prompts", "corpus", "scann"),
    "--mteb": ("teacher", "reductions", "projector", "corpus", "scann", "map"),
}


def main(argv: list[str]) -> None:
    from gemb.cli.arguments import check_arguments, check_folder

    check_arguments(argv)
    check_folder("output")
    if FLAGS.checkpoints:
        _evaluate_checkpoints()
    elif FLAGS.model or FLAGS.tasks or FLAGS.mteb:
        _evaluate_models()
    else:
        _evaluate_run()


def _evaluate_run() -> None:
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.cli.arguments import check_absent

    if not FLAGS.workdir:
        raise UserError("--workdir is required: give the folder of a run, or --model and --tasks")
    check_absent("--workdir", *_UNREAD["--workdir"])
    from gemb.evaluation.workdir import REPORT, evaluate_workdir
    from gemb.reports.terminal import run_table

    tree = evaluate_workdir(
        Path(FLAGS.workdir),
        corpus=FLAGS.corpus,
        approximate=FLAGS.scann,
        force=FLAGS.force,
        plane=FLAGS.map,
    )
    print(run_table(tree["retrieval"]))
    print(f"report: {Path(FLAGS.workdir) / REPORT}")


def _evaluate_models() -> None:
    from gemb.checks import UserError
    from gemb.cli.arguments import check_absent, check_no_run, short_names, whole_numbers

    if FLAGS.workdir:
        raise UserError(
            "--workdir evaluates a run, and --model with --tasks any model: give only one of them"
        )
    if FLAGS.tasks and FLAGS.mteb:
        raise UserError("--tasks is measured by gemb, and --mteb by mteb: give only one of them")
    if not FLAGS.model or not (FLAGS.tasks or FLAGS.mteb):
        flag = "tasks" if FLAGS.model else "model"
        raise UserError(
            f"--{flag} is required: --model names what to measure, --tasks (or --mteb) the data"
        )
    mode = "--mteb" if FLAGS.mteb else "--tasks"
    check_absent(mode, *_UNREAD[mode])
    check_no_run("output")
    teachers = [FLAGS.teacher] if FLAGS.teacher and FLAGS.teacher not in FLAGS.model else []
    places = short_names("model", [*FLAGS.model, *teachers])
    settings = {"widths": whole_numbers("widths"), "force": FLAGS.force}
    (_by_mteb if FLAGS.mteb else _by_tasks)(places, settings)


def _by_tasks(places: dict[str, str], settings: dict) -> None:
    from pathlib import Path

    from gemb.analysis.reduction import with_reductions
    from gemb.evaluation.models import evaluate_tasks
    from gemb.evaluation.tasks import read_tasks, sample_documents
    from gemb.metrics.projection import require_method

    require_method(FLAGS.map)
    tasks, embedders = read_tasks(FLAGS.tasks), _load(places)
    documents = sample_documents(tasks) if FLAGS.reductions else []
    encoders, pairs = with_reductions(embedders, documents, FLAGS.reductions)
    tree = evaluate_tasks(
        encoders,
        tasks,
        FLAGS.output,
        pairs=pairs,
        plane=FLAGS.map,
        mapped=embedders,
        projector=FLAGS.projector,
        **settings,
    )
    if FLAGS.projector:
        print(f"projector: tensorboard --logdir={Path(FLAGS.output) / 'projector'}")
    _print(tree)
    if FLAGS.teacher:
        _print_retention(tree, tasks, places, embedders)


def _by_mteb(places: dict[str, str], settings: dict) -> None:
    from gemb.evaluation.mteb.run import evaluate_models, named_tasks, read_prompts

    tasks, prompts = named_tasks(FLAGS.mteb)
    settings["prompts"] = prompts | read_prompts(FLAGS.mteb_prompts)
    _print(evaluate_models(_load(places), tasks, FLAGS.output, **settings))


def _load(places: dict[str, str]) -> dict:
    """All models at once, so that a misspelt name is reported before anything is measured."""
    from gemb.inference.embedder import Embedder

    return {name: Embedder.load(place) for name, place in places.items()}


def _print(tree: dict) -> None:
    from pathlib import Path

    from gemb.evaluation.models import REPORT
    from gemb.reports.terminal import tasks_table

    print(tasks_table(tree))
    print(f"report: {Path(FLAGS.output) / REPORT}")


def _print_retention(tree: dict, tasks, places: dict[str, str], embedders: dict) -> None:
    from pathlib import Path

    from gemb.analysis.retention import REPORT, report_retention
    from gemb.evaluation.tasks import sample_texts
    from gemb.reports.terminal import retention_lines

    teacher = next(name for name, place in places.items() if place == FLAGS.teacher)
    kept = report_retention(FLAGS.output, tree, embedders, teacher, sample_texts(tasks))
    print(retention_lines(kept))
    print(f"report: {Path(FLAGS.output) / REPORT}")


def _evaluate_checkpoints() -> None:
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.cli.arguments import check_absent, whole_numbers

    if FLAGS.tasks and FLAGS.corpus:
        raise UserError("--tasks and --corpus both name the data: give only one of them")
    if not FLAGS.workdir or FLAGS.model or FLAGS.mteb:
        raise UserError(
            "--checkpoints needs --workdir and cannot be combined with --model and --mteb"
        )
    check_absent("--checkpoints", *_UNREAD["--checkpoints"])
    workdir, widths = Path(FLAGS.workdir), whole_numbers("widths")
    chosen = [] if FLAGS.checkpoints == ["all"] else whole_numbers("checkpoints")
    if not (workdir / "config.gin").exists():
        raise UserError(f"{workdir}: has no config.gin; give the workdir of a run")
    from gemb import config
    from gemb.evaluation.checkpoints import REPORT, report_checkpoints
    from gemb.evaluation.tasks import read_tasks
    from gemb.evaluation.workdir import trained_folder
    from gemb.inference.compilation import use_compilation_cache
    from gemb.inference.embedder import Embedder
    from gemb.reports.terminal import tasks_table
    from gemb.training.checkpoints.models import checkpoint_models
    from gemb.training.experiment import Experiment

    tasks = read_tasks(FLAGS.tasks or [FLAGS.corpus or trained_folder(workdir)])
    use_compilation_cache()
    config.load([str(workdir / "config.gin")])
    kept = checkpoint_models(workdir, Experiment(**config.arguments(Experiment)), chosen)
    models = ((step, Embedder(model)) for step, model in kept)
    tree = report_checkpoints(workdir, models, tasks, widths=widths, force=FLAGS.force)
    print(tasks_table(tree))
    print(f"best by mean of tasks: step {tree['best']}\nreport: {workdir / REPORT}")


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("evaluate")
