"""Evaluators for the training loop: tasks on disk, small enough to be run again and again."""

import dataclasses
from collections.abc import Callable, Sequence

from gemb.evaluation.suite import measure
from gemb.evaluation.tasks.registry import TASK_TYPES, read_tasks
from gemb.inference.embedder import Embedder
from gemb.inference.encoded_once import EncodedOnce, with_prompts


def tasks(
    folders: Sequence[str], *, limit: int = 500, widths: Sequence[int] = ()
) -> Callable[..., dict[str, float]]:
    """An evaluator of all tasks in some folders, for `Experiment.evaluators`.

    Args:
        folders: as for `gemb evaluate --tasks`.
        limit: queries, pairs or texts of each task, evenly spaced.
        widths: nested widths to evaluate; default the full one.

    Returns:
        (model) -> {"TASK": its main figure} and, for further widths, {"TASK@WIDTH": ...}.

    Raises:
        UserError: if a folder holds no task, or a broken one.

    Example:
        In gin, with "dev/sts" as the score to keep the best checkpoint by:

            in_training.tasks.folders = ('data/sts',)
            experiment.Experiment.evaluators = {'dev': @in_training.tasks()}
            experiment.Experiment.evaluate_steps = 100
            experiment.Experiment.keep_best = 'dev/sts'
    """
    found = [
        dataclasses.replace(task, data=TASK_TYPES[task.kind].sample(task.data, limit))
        for task in read_tasks([folders] if isinstance(folders, str) else folders)
    ]

    def evaluate(model) -> dict[str, float]:
        encoder, figures = Embedder(model), {}
        for task in found:
            known = EncodedOnce(with_prompts(encoder, task.prompts))
            asked = list(widths) or [encoder.dim]
            for width, measured in measure(known, task, asked, "evaluation").items():
                name = task.name if width == encoder.dim else f"{task.name}@{width}"
                figures[name] = measured.figures[task.main]
        return figures

    return evaluate
