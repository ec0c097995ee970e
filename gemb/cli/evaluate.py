"""gemb evaluate: what an embedding is worth: a run through retrieval, or models over many tasks.

With --workdir, a trained model is measured at every nested width against BM25 and where it started,
by exact search and by ScaNN: nDCG@10, recall@10 and @100, MRR@10 and queries per second.

    gemb evaluate --workdir=runs/quickstart
    gemb evaluate --workdir=runs/quickstart --corpus=DIR   # another test set, in BEIR's form

With --checkpoints as well, the checkpoints that a run kept are measured on --tasks (default: what
it trained on), each metric over the steps; a run that is going on has to be stopped first.

    gemb evaluate --workdir=runs/quickstart --checkpoints=all
    gemb evaluate --workdir=runs/quickstart --checkpoints=100,200 --tasks=DIR

With --model and --tasks, models are measured on retrieval, re-ranking, STS, pair classification,
classification, clustering and bitext mining; two or more models are compared by paired tests. What
was measured before is read from the cache.

    gemb evaluate --model=all-MiniLM-L6-v2 --tasks=DIR
    gemb evaluate --model=runs/quickstart/model,all-MiniLM-L6-v2 --tasks=DIR,DIR2 --widths=384,96
    gemb evaluate --model=runs/quickstart/model --tasks=DIR --reductions=pca,random

With --model and --mteb, tasks are run by mteb's own procedure (extra `mteb`): names of its tasks
and benchmarks, or tasks folders. --mteb_prompts is a JSON file of mteb's keys, such as {"STS":
"...", "Retrieval-query": "..."}.

    gemb evaluate --model=all-MiniLM-L6-v2 --mteb=STSBenchmark,SciFact

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
flags.DEFINE_list(
    "checkpoints", [], "all, or steps with commas: checkpoints of the run.", allow_override=True
)
flags.DEFINE_list("model", [], "Model folders or names, with commas.", allow_override=True)
flags.DEFINE_string(
    "teacher",
    "",
    "Model that the others were distilled from: what do they keep?",
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
    "reductions", [], "pca, random: hold prefixes against these.", allow_override=True
)
flags.DEFINE_enum(
    "map",
    "pca",
    ["pca", "tsne", "umap", "none"],
    "How texts are laid out; tsne: extra `eval`, umap: extra `maps`.",
    allow_override=True,
)
flags.DEFINE_bool(
    "projector", False, "Write vectors for TensorBoard's projector too.", allow_override=True
)
flags.DEFINE_string(
    "output",
    "runs/evaluation",
    "Where --tasks and --mteb write.",
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
    from gemb.checks import UserError
    from gemb.cli.arguments import check_arguments, check_folder

    check_arguments(argv)
    check_folder("output")
    if FLAGS.checkpoints:
        _evaluate_checkpoints()
        return
    if FLAGS.model or FLAGS.tasks or FLAGS.mteb:
        _evaluate_models()
        return
    if not FLAGS.workdir:
        raise UserError(
            "--workdir is missing: which run shall be evaluated? Or give --model and --tasks"
        )
    _check_unread("--workdir")
    from pathlib import Path

    from gemb.evaluation.terminal import run_table
    from gemb.evaluation.workdir import REPORT, evaluate_workdir

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
    from pathlib import Path

    from gemb.checks import UserError
    from gemb.cli.arguments import check_no_run

    if FLAGS.workdir:
        raise UserError("--workdir evaluates a run, --model with --tasks any model: give one")
    if FLAGS.tasks and FLAGS.mteb:
        raise UserError("--tasks is measured by gemb, --mteb by mteb: give one")
    if not FLAGS.model or not (FLAGS.tasks or FLAGS.mteb):
        flag = "tasks" if FLAGS.model else "model"
        raise UserError(
            f"--{flag} is missing: --model says what to measure, --tasks (or --mteb) on what"
        )
    _check_unread("--mteb" if FLAGS.mteb else "--tasks")
    check_no_run("output")
    teachers = [FLAGS.teacher] if FLAGS.teacher and FLAGS.teacher not in FLAGS.model else []
    names, widths = _names([*FLAGS.model, *teachers]), _numbers("widths")
    from gemb.evaluation.report import write_json
    from gemb.evaluation.suite_report import write_suite_report
    from gemb.evaluation.terminal import tasks_table
    from gemb.evaluation.workdir import REPORT, RESULTS

    tree, maps = (_by_mteb if FLAGS.mteb else _by_tasks)(names, widths)
    output = Path(FLAGS.output)
    write_suite_report(output / REPORT, tree, maps)
    write_json(output / RESULTS, tree)
    print(tasks_table(tree))
    print(f"report: {output / REPORT}")
    if FLAGS.teacher:
        _retention(tree, names, output)


def _retention(tree: dict, names: dict[str, str], output) -> None:
    from gemb.evaluation import retention
    from gemb.evaluation.report import write_json
    from gemb.evaluation.tasks import read_tasks

    teacher = next(name for name, place in names.items() if place == FLAGS.teacher)
    texts = retention.sample_texts(read_tasks(FLAGS.tasks))
    kept = retention.retention(tree, _embedders(names), teacher, texts)
    write_json(output / "retention.json", kept)
    retention.write_retention(output / retention.REPORT, kept)
    for name, pair in kept["scores"].items():
        share = max(kept["kept"]["mean of tasks"][name].items(), key=lambda item: int(item[0]))[1]
        print(
            f"{name} keeps {share:.1%} of {teacher}, at {_ratio(kept['speed'], name, teacher)} "
            f"times its speed and {_ratio(kept['bytes'], name, teacher)} of its size; their scores "
            f"correlate at {pair['spearman']:.3f}"
        )
    print(f"report: {output / retention.REPORT}")


def _ratio(values: dict, name: str, teacher: str) -> str:
    return f"{values[name] / values[teacher]:.2f}"


def _evaluate_checkpoints() -> None:
    from pathlib import Path

    from gemb import config
    from gemb.checks import UserError

    if FLAGS.tasks and FLAGS.corpus:
        raise UserError("--tasks and --corpus both say on what to measure: give one")
    if not FLAGS.workdir or FLAGS.model or FLAGS.mteb:
        raise UserError(
            "--checkpoints are those of a --workdir; --model and --mteb do not go along"
        )
    _check_unread("--checkpoints")
    workdir, widths = Path(FLAGS.workdir), _numbers("widths")
    chosen = [] if FLAGS.checkpoints == ["all"] else _numbers("checkpoints")
    if not (workdir / "config.gin").exists():
        raise UserError(f"{workdir}: holds no config.gin; is it the folder of a run?")
    from gemb.evaluation import checkpoints
    from gemb.evaluation.report import write_json
    from gemb.evaluation.tasks import read_tasks
    from gemb.evaluation.terminal import tasks_table
    from gemb.inference.compilation import use_compilation_cache
    from gemb.inference.embedder import Embedder
    from gemb.training import loop
    from gemb.training.checkpoints.models import checkpoint_models

    tasks = read_tasks(FLAGS.tasks or [_corpus(workdir)])
    use_compilation_cache()
    config.load([str(workdir / "config.gin")])
    kept = checkpoint_models(workdir, chosen, **config.arguments(loop.train))
    models = ((step, Embedder(model)) for step, model in kept)
    tree = checkpoints.evaluate_checkpoints(models, tasks, widths=widths, force=FLAGS.force)
    report = workdir / "checkpoints.html"
    checkpoints.write_checkpoint_report(report, f"gemb: checkpoints of {workdir.name}", tree)
    write_json(workdir / "checkpoints.json", tree)
    print(tasks_table(tree))
    print(f"best by mean of tasks: step {tree['best']}\nreport: {report}")


def _corpus(workdir) -> str:
    """The folder that a finished run trained on, or --corpus."""
    from gemb.checks import UserError
    from gemb.runs.records import read_object

    manifest = workdir / "model" / "gemb.json"
    training = read_object(manifest).get("training") or {}
    folder = FLAGS.corpus or (training.get("data") or {}).get("folder", "")
    if not folder:
        raise UserError("--tasks is missing: on what shall the checkpoints be measured?")
    return folder


def _numbers(flag: str) -> list[int]:
    from gemb.checks import UserError

    for value in FLAGS[flag].value:
        if not value.isdecimal():
            raise UserError(f"--{flag}: expected whole numbers with commas, got {value!r}")
    return [int(value) for value in FLAGS[flag].value]


def _by_tasks(names: dict[str, str], widths: list[int]) -> tuple[dict, dict]:
    """(tree of results, maps)."""
    from pathlib import Path

    from gemb.evaluation import suite
    from gemb.evaluation.projection import all_maps, check_installed
    from gemb.evaluation.projector import write_projector
    from gemb.evaluation.reduction import with_reductions
    from gemb.evaluation.tasks import read_tasks

    check_installed(FLAGS.map)
    tasks, embedders = read_tasks(FLAGS.tasks), _embedders(names)
    encoders, pairs = with_reductions(embedders, tasks, FLAGS.reductions)
    models = {
        name: suite.evaluate_model(encoder, tasks, widths=widths, force=FLAGS.force, label=name)
        for name, encoder in encoders.items()
    }
    if FLAGS.projector:
        folder = Path(FLAGS.output) / "projector"
        write_projector(folder, tasks, embedders)
        print(f"projector: tensorboard --logdir={folder}")
    maps = {} if FLAGS.map == "none" else all_maps(tasks, embedders, FLAGS.map, force=FLAGS.force)
    return suite.summary(tasks, models, pairs=pairs), maps


def _by_mteb(names: dict[str, str], widths: list[int]) -> tuple[dict, dict]:
    from pathlib import Path

    from gemb.evaluation import mteb_run, mteb_tasks
    from gemb.evaluation.tasks import read_tasks

    asked = mteb_run.whole_names(FLAGS.mteb)
    folders = [name for name in asked if Path(name).exists()]
    local = read_tasks(folders)
    tasks = mteb_run.get_tasks([name for name in asked if name not in folders])
    tasks += mteb_tasks.local_tasks(local)
    prompts = mteb_tasks.task_prompts(local) | mteb_run.read_prompts(FLAGS.mteb_prompts)
    settings = {"widths": widths, "prompts": prompts, "force": FLAGS.force}
    models = {
        name: (embedder, mteb_run.evaluate_mteb(embedder, tasks, name=name, **settings))
        for name, embedder in _embedders(names).items()
    }
    return mteb_run.summary(tasks, models), {}


def _check_unread(mode: str) -> None:
    from gemb.checks import UserError

    for flag in _UNREAD[mode]:
        if FLAGS[flag].present:
            raise UserError(f"--{flag} does not go with {mode}; leave it out")


def _embedders(names: dict[str, str]) -> dict:
    """All are loaded before any is measured: a misspelt name is told at once."""
    from gemb.inference.embedder import Embedder

    return {name: Embedder.load(place) for name, place in names.items()}


def _names(places: list[str]) -> dict[str, str]:
    """A short name for each model: its folder's where that is unique, else the path as given."""
    from pathlib import Path

    from gemb.checks import UserError

    if len(set(places)) < len(places):
        raise UserError(f"--model: a model stands there twice: {','.join(places)}")
    short = [Path(place).name for place in places]
    named = short if len(set(short)) == len(short) and all(short) else places
    return dict(zip(named, places, strict=True))


if __name__ == "__main__":
    from gemb.cli.__main__ import run

    run("evaluate")
