"""STS: does the similarity of two texts rise with what people saw in them?"""

from collections.abc import Mapping

import numpy as np

from gemb import checks, metrics
from gemb.checks import UserError
from gemb.evaluation.tasks import tables
from gemb.evaluation.tasks.task_type import Data, Measured, Source, TaskType, every_row


def evaluate_similarity(
    first: np.ndarray, second: np.ndarray, scores: np.ndarray
) -> dict[str, float]:
    """Correlates the similarities of pairs with graded scores.

    Args:
        first: [pairs, dim] float32, of unit length for cosine.
        second: [pairs, dim] float32, likewise.
        scores: [pairs] numbers, higher for more alike.

    Returns:
        "spearman" (the one to quote) and "pearson"; 0 where all similarities are the same.

    Raises:
        ValueError: arguments of different lengths, or fewer than two pairs.

    Example:
        >>> eye = np.eye(3, dtype=np.float32)
        >>> figures = evaluate_similarity(eye, eye[[0, 1, 0]], np.array([4.0, 5.0, 1.0]))
        >>> round(figures["spearman"], 3)
        0.866

    Reference: Reimers, Beyer and Gurevych, Task-oriented intrinsic evaluation of semantic textual
        similarity, 2016: why Spearman's.
    """
    made = paired_scores(first, second)
    return {name: getattr(metrics, name)(made, scores) for name in TASK_TYPE.mains}


def paired_scores(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The inner product of each row of `first` with the same row of `second`: [rows] float64.

    It is the model's similarity, see `gemb.metrics.similarity.prepared`.

    Raises:
        ValueError: arguments of different shapes.
    """
    checks.check_rank("first", first, 2)
    checks.check_shape("second", second, first.shape)
    return np.einsum("rd,rd->r", first.astype(np.float64), second.astype(np.float64))


def _read(source: Source) -> Data:
    table = tables.read_table(source.files["test"], source.columns)
    scores = tables.numbers(table, "score")
    if len(set(scores)) < 2:
        path = source.files["test"]
        raise UserError(f"{path}: every score is {scores[0]}: nothing to correlate with")
    return {
        "first": tables.texts(table, "first"),
        "second": tables.texts(table, "second"),
        "scores": scores,
    }


def _measure(vectors: Mapping[str, np.ndarray], data: Data) -> Measured:
    figures = evaluate_similarity(vectors["first"], vectors["second"], np.array(data["scores"]))
    made = paired_scores(vectors["first"], vectors["second"])
    # Models spread their similarities differently. To put one's item in the other's place they must
    # be on one scale, which changes neither correlation.
    spread = np.std(made)
    standard = (made - made.mean()) / spread if spread > 0 else made
    return Measured(figures, {"spearman": metrics.ranks(made), "pearson": standard})


def _statistic(metric: str, data: Data):
    scores, correlation = np.array(data["scores"]), getattr(metrics, metric)
    return lambda items, rows: correlation(items[rows], scores[rows])


def both_texts(data: Data) -> dict[str, tuple[list[str], str]]:
    """The two sides of a task of pairs, encoded alike: neither asks for the other."""
    return {side: (data[side], "document") for side in ("first", "second")}


TASK_TYPE = TaskType(
    mains=("spearman", "pearson"),
    files=("test",),
    columns={"first": "sentence1", "second": "sentence2", "score": "score"},
    read=_read,
    texts=both_texts,
    measure=_measure,
    sample=every_row,
    statistic=_statistic,
)
