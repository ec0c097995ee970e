"""The checkpoints of a run as models: every task's figures against the steps of training."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gemb.evaluation import figures, suite, suite_report
from gemb.evaluation.tasks import Task
from gemb.files import atomic_file
from gemb.inference.embedder import Embedder
from gemb.reports import html


def evaluate_checkpoints(
    models: Iterator[tuple[int, Embedder]],
    tasks: Sequence[Task],
    *,
    widths: Sequence[int] = (),
    force: bool = False,
    cache: Path | None = None,
) -> dict[str, Any]:
    """Measures checkpoints on tasks; what was measured of a model before is read from the cache.

    Args:
        models: (step, model), as `gemb.training.checkpoints.models` gives them.
        tasks: from `gemb.evaluation.tasks.read_tasks`.
        widths, force, cache: as for `gemb.evaluation.suite.evaluate_model`.

    Returns:
        What `gemb.evaluation.suite.summary` gives, the models being named by their steps and
        compared first with last and last with best; and "steps", and "best": the step of the
        highest mean of tasks at full width, the first of equals.
    """
    settings = {"widths": widths, "force": force, "cache": cache}
    measured = {
        str(step): suite.evaluate_model(embedder, tasks, label=f"step {step}", **settings)
        for step, embedder in tqdm(models, desc="checkpoints", unit="checkpoint")
    }
    names = list(measured)
    about, results = suite.figures_of(tasks, measured)
    means = {name: suite.averages(about, results, name) for name in names}
    best = max(names, key=lambda name: means[name][max(means[name], key=int)]["tasks"])
    pairs = dict.fromkeys([(names[0], names[-1]), (names[-1], best)])
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    tree = suite.summary(tasks, measured, cache, pairs=pairs)
    return tree | {"steps": [int(name) for name in names], "best": int(best)}


def write_checkpoint_report(path: str | Path, title: str, tree: Mapping[str, Any]) -> None:
    """Writes the page: curves over the steps, then tables.

    Args:
        path: where; a file that was there is replaced in one step.
        title: the heading.
        tree: from `evaluate_checkpoints`.

    Raises:
        UserError: the file cannot be written.
    """
    parts = [
        headline(tree),
        steps_section(tree),
        suite_report.main_section(tree),
        suite_report.comparisons_section(tree),
        suite_report.wins_section(tree),
        suite_report.figures_section(tree),
        suite_report.models_section(tree),
    ]
    subtitle = f"{len(tree['steps'])} checkpoints on {len(tree['tasks'])} tasks"
    with atomic_file(path) as temporary:
        temporary.write_text(html.page(title, subtitle, parts), encoding="utf-8")


def headline(tree: Mapping[str, Any]) -> str:
    """The best checkpoint and the last."""
    shown = []
    for what, step in {"best": tree["best"], "last": tree["steps"][-1]}.items():
        rows = tree["averages"][str(step)]
        width = max(rows, key=int)
        figure = f"{rows[width]['tasks']:.3f}"
        shown.append((figure, f"{what} checkpoint, mean of tasks", f"step {step}, width {width}"))
    return html.tiles(shown)


def steps_section(tree: Mapping[str, Any]) -> str:
    """The mean of tasks, and each task's main metric, against step: a line a width."""
    widths = suite_report.widths_of(tree)
    order = [f"width {width}" for width in widths]

    def drawn(name: str, by_step: Mapping, metric: str) -> str:
        curves = {}
        for line, width in zip(order, widths, strict=True):
            found = [(s, by_step[str(s)][width]) for s in tree["steps"] if width in by_step[str(s)]]
            values = [row[metric] for _, row in found]
            curves[line] = {"step": [s for s, _ in found], "raw": values, "smooth": values}
        return figures.steps_figure(name, curves, order)

    shown = {"Mean of tasks": drawn("mean of tasks", tree["averages"], "tasks")}
    for task, about in tree["tasks"].items():
        main = about["main"]
        shown[f"{task}, {main}"] = drawn(main, tree["results"][task], main)
    about = "The best was picked by these very figures: on other data it may not be the best."
    return html.section("Over the steps of training", about, html.figures(shown))
