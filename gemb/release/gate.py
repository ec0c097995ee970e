"""The gate of a release: a model that is worse than the live one is not released."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gemb.checks import UserError
from gemb.evaluation import suite
from gemb.evaluation.models import RESULTS, write_results
from gemb.evaluation.tasks.registry import EvaluationTask

NEW, LIVE = "new", "live"


def check_gate(
    new: Any, live: Any, tasks: Sequence[EvaluationTask], output: Path, dims: dict[str, int]
) -> tuple[str, dict[str, float]]:
    """Measures the new model, and the live one, and compares them by paired tests.

    Args:
        new: the model.
        live: the model of the live release; None where there is none.
        tasks: what to measure.
        output: folder for results.json and report.html.
        dims: "new" and "live" -> the width that is searched.

    Returns:
        The file of the results, and the new model's main figure of each task.

    Raises:
        UserError: the new model is significantly worse (p < 0.05 in both paired tests) on a task.
    """
    encoders = {LIVE: live, NEW: new} if live is not None else {NEW: new}
    models = {
        name: suite.evaluate_model(encoder, tasks, widths=[dims[name]], label=name)
        for name, encoder in encoders.items()
    }
    pairs = [(LIVE, NEW)] if live is not None else []
    tree = suite.summary(tasks, models, pairs=pairs)
    write_results(output, tree)
    figures = {task.name: _figure(tree, task, NEW) for task in tasks}
    for row in tree["comparisons"]:
        task = next(task for task in tasks if task.name == row["task"])
        if row["different"] and row["difference"] < 0:
            raise UserError(
                f"the new model is worse than the live one on {task.name}: {task.main} "
                f"{figures[task.name]:.4f} instead of {_figure(tree, task, LIVE):.4f} (p "
                f"{row['p_bootstrap']:.4f}, {output / RESULTS}); the live version stays. --stages "
                "without gate releases it anyway"
            )
    return str(output / RESULTS), figures


def _figure(tree: dict, task: EvaluationTask, model: str) -> float:
    (row,) = tree["results"][task.name][model].values()
    return round(row[task.main], 6)
