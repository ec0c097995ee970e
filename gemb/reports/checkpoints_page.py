"""The report of a run's checkpoints: the figures of every task against the training step.

Its input is the tree that `gemb.evaluation.checkpoints.evaluate_checkpoints` returns.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemb.reports import figures, html, suite_page


def write_checkpoints_page(path: str | Path, title: str, tree: Mapping[str, Any]) -> None:
    """Writes the page: curves over the steps, then tables.

    Args:
        path: the file to write; an existing file is replaced in one step.
        title: the heading.
        tree: from `gemb.evaluation.checkpoints.evaluate_checkpoints`.

    Raises:
        UserError: the file cannot be written.
    """
    parts = [
        headline(tree),
        steps_section(tree),
        suite_page.main_section(tree),
        suite_page.comparisons_section(tree),
        suite_page.wins_section(tree),
        suite_page.figures_section(tree),
        suite_page.models_section(tree),
    ]
    subtitle = f"{len(tree['steps'])} checkpoints on {len(tree['tasks'])} tasks"
    html.write_page(path, title, subtitle, parts)


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
    """The mean of tasks and each task's main metric against the step, one line per width."""
    widths = suite_page.widths_of(tree)
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
    about = (
        "The best checkpoint was chosen by these figures. On other data another one may be better."
    )
    return html.section("Figures during training", about, html.figures(shown))
