"""Two models on one task: whether their difference is one, by paired tests of the main metric."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gemb import metrics
from gemb.evaluation.result_cache import remembered
from gemb.evaluation.tasks.registry import TASK_TYPES, EvaluationTask

ALPHA = 0.05
# Draws of a test: a mean of items is cheap to draw again, a rank correlation is not.
_DRAWS, _COSTLY_DRAWS = 10_000, 2_000


def compare(task: EvaluationTask, left: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Tests whether two models differ on a task's main metric.

    Args:
        task: the task.
        left: [items] of one model, from `Measured.items`.
        right: [items] of the other.

    Returns:
        "difference" (right less left), "low" and "high" (its 95 % interval), "p_bootstrap",
        "p_randomisation" (None for clusters, which cannot be swapped), and "different": whether
        every p is below 0.05.
    """
    task_type = TASK_TYPES[task.kind]
    statistic = task_type.statistic(task.main, task.data)
    draws = _COSTLY_DRAWS if statistic else _DRAWS
    found = metrics.paired_bootstrap(left, right, statistic, samples=draws)
    swapped = None
    if task_type.exchangeable:
        swapped = metrics.paired_randomisation(left, right, statistic, samples=draws)
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p_bootstrap": found.p,
        "p_randomisation": swapped,
        "different": max(found.p, swapped or 0.0) < ALPHA,
    }


def compare_all(
    tasks: Sequence[EvaluationTask],
    items: Mapping[str, Mapping[str, Mapping[int, np.ndarray]]],
    cache: Path | None = None,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """Tests models against each other on every task, at each width that both have.

    Args:
        tasks: the tasks.
        items: model -> task's name -> width -> [items], from `Measured.items`.
        cache: folder of the cache; default below `gemb.files.cache_dir()`.
        pairs: (left, right); default all pairs.

    Returns:
        For each task, pair and width what `compare` gives, with "task", "models" (left, right) and
        "widths" of the two: the same, but for a row with the full widths where these differ.
    """
    wanted = []
    for task in tasks:
        for left, right in combinations(items, 2) if pairs is None else pairs:
            one, other = items[left][task.name], items[right][task.name]
            common = [(width, width) for width in one if width in other]
            if max(one) != max(other):
                common.insert(0, (max(one), max(other)))
            wanted += [(task, left, right, widths) for widths in common]
    rows = []
    for task, left, right, widths in tqdm(wanted, desc="comparing", disable=not wanted):
        both = [items[left][task.name][widths[0]], items[right][task.name][widths[1]]]
        row = {"task": task.name, "models": [left, right], "widths": list(widths)}
        known = ["paired tests", task.fingerprint, task.main]
        rows.append(row | remembered(known, both, partial(compare, task, *both), cache))
    return rows
