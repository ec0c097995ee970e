"""What one model gets right and another does not: the items with the largest differences."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from gemb.evaluation.tasks.registry import EvaluationTask

_SHOWN = 5
# Kinds whose figure is a plain mean of items' own, and where an item's text stands.
_TEXTS = {
    "retrieval": "queries",
    "reranking": "queries",
    "classification": "test_texts",
}


def wins_and_losses(
    task: EvaluationTask, left: np.ndarray, right: np.ndarray, shown: int = _SHOWN
) -> dict[str, Any] | None:
    """The items that the right model does better or worse, largest differences first.

    Args:
        task: the task.
        left: [items] of one model, from `Measured.items`.
        right: [items] of the other.
        shown: items to show on each side.

    Returns:
        {"better", "worse": rows of {"text", "left", "right"}, "counts": items better, worse and
        equal}; None for kinds whose items have no figure of their own.
    """
    if task.kind not in _TEXTS:
        return None
    texts, change = task.data[_TEXTS[task.kind]], np.asarray(right, np.float64) - left
    order = np.argsort(change, kind="stable")
    chosen = {
        "better": [i for i in order[::-1][:shown] if change[i] > 0],
        "worse": [i for i in order[:shown] if change[i] < 0],
    }
    sides = {
        side: [{"text": texts[i], "left": float(left[i]), "right": float(right[i])} for i in rows]
        for side, rows in chosen.items()
    }
    return sides | {"counts": [int(np.sum(c)) for c in (change > 0, change < 0, change == 0)]}


def all_wins(
    tasks: Sequence[EvaluationTask],
    items: Mapping[str, Mapping[str, Mapping[int, np.ndarray]]],
    pairs: Sequence[tuple[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """`wins_and_losses` of models at their full widths.

    Args:
        tasks: the tasks.
        items: model -> task's name -> width -> [items], from `Measured.items`.
        pairs: (left, right); default all pairs.

    Returns:
        Rows that have "task" and "models" too.
    """
    rows = []
    for task in tasks:
        for left, right in combinations(items, 2) if pairs is None else pairs:
            one, other = items[left][task.name], items[right][task.name]
            found = wins_and_losses(task, one[max(one)], other[max(other)])
            if found:
                rows.append({"task": task.name, "models": [left, right]} | found)
    return rows
