"""Bitext mining: is the translation of a text its nearest neighbour in the other language?"""

from collections.abc import Mapping

import numpy as np

from gemb import checks
from gemb.evaluation.tasks import tables
from gemb.evaluation.tasks.task_type import Data, Measured, Source, TaskType, every_row

_BLOCK = 1024


def evaluate_bitext(
    source: np.ndarray, target: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Looks for the translation of each source text among the targets of its own group.

    Args:
        source: [pairs, dim] float32, of unit length for cosine.
        target: [pairs, dim] float32, of unit length for cosine; row i translates row i of `source`.
        groups: [pairs] integers, the language pair of each; default all of one.

    Returns:
        "f1" (the one to quote) and "accuracy", each the mean over groups of the group's. F1 is the
        mean over targets of the F1 of being found, as MTEB's: a right answer that other texts
        claim too counts less. "f1_I" and "accuracy_I" for each group I where there are several.
        Of equal cosines the first target is taken.

    Raises:
        ValueError: arguments of different shapes, or no pair.

    Example:
        >>> eye = np.eye(3, dtype=np.float32)
        >>> evaluate_bitext(eye, eye)
        {'f1': 1.0, 'accuracy': 1.0}
    """
    groups = np.zeros(len(source), np.int64) if groups is None else groups
    values = _values(source, target, groups)
    figures = {name: float(np.mean(value)) for name, value in _balanced(values, groups).items()}
    known = np.unique(groups)
    for group in known if len(known) > 1 else ():
        rows = groups == group
        figures |= {f"{name}_{group}": float(v[rows].mean()) for name, v in values.items()}
    return figures


def _values(source, target, groups) -> dict[str, np.ndarray]:
    """name -> [pairs]: each pair's own figure."""
    checks.check_rank("source", source, 2)
    checks.check_shape("target", target, source.shape)
    checks.check_shape("groups", groups, (len(source),))
    checks.check(len(source) > 0, "source: expected at least one text, got none")
    right, f1 = np.zeros(len(source)), np.zeros(len(source))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        found = _nearest(source[rows], target[rows])
        claims = np.bincount(found, minlength=len(rows))
        right[rows] = found == np.arange(len(rows))
        # One text has the target i: F1 = 2 right / (1 text + the claims).
        f1[rows] = 2 * right[rows] / (1 + claims)
    return {"f1": f1, "accuracy": right}


def _nearest(source, target) -> np.ndarray:
    starts = range(0, len(source), _BLOCK)
    parts = [np.argmax(source[start : start + _BLOCK] @ target.T, axis=1) for start in starts]
    return np.concatenate(parts)


def _balanced(values: Mapping[str, np.ndarray], groups) -> dict[str, np.ndarray]:
    """Weighs the pairs so that their plain mean is the mean over groups."""
    known, rows, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = len(groups) / (len(known) * counts[rows])
    return {name: value * weights for name, value in values.items()}


def _read(source: Source) -> Data:
    table = tables.read_table(source.files["test"], source.columns)
    groups = table.columns.get("group", [""] * len(table.where))
    return {
        "source": tables.texts(table, "source"),
        "target": tables.texts(table, "target"),
        "groups": list(map(str, groups)),
    }


def _measure(vectors: Mapping[str, np.ndarray], data: Data) -> Measured:
    names, groups = np.unique(data["groups"], return_inverse=True)
    source, target = vectors["source"], vectors["target"]
    figures = evaluate_bitext(source, target, groups)
    named = {}
    for name, figure in figures.items():
        metric, _, group = name.partition("_")
        named[f"{metric}_{names[int(group)]}" if group else metric] = figure
    return Measured(named, _balanced(_values(source, target, groups), groups))


TASK_TYPE = TaskType(
    mains=("f1", "accuracy"),
    files=("test",),
    columns={"source": "source", "target": "target"},
    read=_read,
    texts=lambda data: {side: (data[side], "document") for side in ("source", "target")},
    measure=_measure,
    sample=every_row,
    optional=("group",),
)
