"""Some of the texts of tasks, evenly spaced: to time models on, to fit a projection to."""

from collections.abc import Sequence

import numpy as np

from gemb.evaluation.tasks.registry import TASK_TYPES, EvaluationTask
from gemb.evaluation.tasks.task_type import spaced

_TIMED, _FITTED = 256, 5_000


def sample_texts(tasks: Sequence[EvaluationTask], count: int = _TIMED) -> list[str]:
    """Texts of all tasks and roles, about the same number of each, without repeats."""
    roles = [texts for task in tasks for texts, _ in _texts(task) if texts]
    each = max(1, count // max(1, len(roles)))
    places = [np.unique(np.linspace(0, len(r) - 1, min(each, len(r))).astype(int)) for r in roles]
    found = (texts[place] for texts, row in zip(roles, places, strict=True) for place in row)
    return list(dict.fromkeys(found))


def sample_documents(tasks: Sequence[EvaluationTask], count: int = _FITTED) -> list[str]:
    """What tasks encode as documents, without repeats; at most `count` texts."""
    found = (texts for task in tasks for texts, side in _texts(task) if side == "document")
    documents = list(dict.fromkeys(text for texts in found for text in texts))
    return [documents[row] for row in spaced(len(documents), count)]


def _texts(task: EvaluationTask) -> list[tuple[list[str], str]]:
    return list(TASK_TYPES[task.kind].texts(task.data).values())
