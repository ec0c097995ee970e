"""Pair classification: does the similarity separate matching pairs from others?"""

from collections.abc import Mapping

import numpy as np

from gemb import metrics
from gemb.checks import UserError
from gemb.evaluation.tasks import tables
from gemb.evaluation.tasks.sts import both_texts, paired_scores
from gemb.evaluation.tasks.task_type import Data, Measured, Source, TaskType, every_row

_STATISTICS = {
    "average_precision": metrics.average_precision,
    "f1": lambda labels, scores: metrics.best_f1(labels, scores).figure,
    "accuracy": lambda labels, scores: metrics.best_accuracy(labels, scores).figure,
}


def evaluate_pairs(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Judges the similarities of pairs against yes and no.

    Args:
        first: [pairs, dim] float32, of unit length for cosine.
        second: [pairs, dim] float32, likewise.
        labels: [pairs] 1 for pairs that belong together, else 0.

    Returns:
        "average_precision" (the one to quote), and the best that one threshold on the similarity
        can do on these very pairs: "f1" and "accuracy", with "f1_threshold" and
        "accuracy_threshold".

    Raises:
        ValueError: arguments of different lengths, other labels, or no pair labelled 1.

    Example:
        >>> eye = np.eye(2, dtype=np.float32)
        >>> evaluate_pairs(eye, eye[[0, 0]], np.array([1, 0]))["f1"]
        1.0
    """
    scores = paired_scores(first, second)
    f1, accuracy = (best(labels, scores) for best in (metrics.best_f1, metrics.best_accuracy))
    return {
        "average_precision": metrics.average_precision(labels, scores),
        "f1": f1.figure,
        "accuracy": accuracy.figure,
        "f1_threshold": f1.threshold,
        # Calling nothing positive is a threshold above every score; JSON knows no infinity.
        "accuracy_threshold": min(accuracy.threshold, max(1.0, float(scores.max())) + 1e-6),
    }


def _read(source: Source) -> Data:
    table = tables.read_table(source.files["test"], source.columns)
    labels = tables.numbers(table, "label")
    for label, where in zip(labels, table.where, strict=True):
        if label not in (0, 1):
            raise UserError(f"{where}: the label must be 0 or 1, got {label:g}")
    if len(set(labels)) < 2:
        path = source.files["test"]
        raise UserError(f"{path}: every label is {labels[0]:g}; both labels are needed")
    return {
        "first": tables.texts(table, "first"),
        "second": tables.texts(table, "second"),
        "labels": [int(label) for label in labels],
    }


def _measure(vectors: Mapping[str, np.ndarray], data: Data) -> Measured:
    figures = evaluate_pairs(vectors["first"], vectors["second"], np.array(data["labels"]))
    # Ranks, since models spread their cosines differently: see gemb.evaluation.tasks.sts.
    ranks = metrics.ranks(paired_scores(vectors["first"], vectors["second"]))
    return Measured(figures, dict.fromkeys(TASK_TYPE.mains, ranks))


def _statistic(metric: str, data: Data):
    labels, judge = np.array(data["labels"]), _STATISTICS[metric]

    def figure(ranks, rows):
        # A resample without any positive has no precision; it says nothing for either model.
        return judge(labels[rows], ranks[rows]) if labels[rows].any() else 0.0

    return figure


TASK_TYPE = TaskType(
    mains=tuple(_STATISTICS),
    files=("test",),
    columns={"first": "sentence1", "second": "sentence2", "label": "label"},
    read=_read,
    texts=both_texts,
    measure=_measure,
    sample=every_row,
    statistic=_statistic,
)
