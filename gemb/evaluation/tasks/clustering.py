"""Clustering: do k-means clusters of the vectors fall together with known classes?"""

from collections.abc import Mapping

import numpy as np

from gemb import checks, metrics
from gemb.checks import UserError, needs, require
from gemb.evaluation.tasks import tables
from gemb.evaluation.tasks.task_type import Data, Measured, Source, TaskType, every_row

_STARTS = 4


def evaluate_clustering(
    vectors: np.ndarray, labels: np.ndarray, *, seed: int = 0
) -> dict[str, float]:
    """Clusters vectors by k-means into as many clusters as there are classes.

    Args:
        vectors: [texts, dim] float32 of unit length.
        labels: [texts] integer classes, two at least.
        seed: of k-means' starts; the best of four is taken.

    Returns:
        "v_measure" (the one to quote), "homogeneity" and "completeness".

    Raises:
        ValueError: shapes that do not fit, or fewer than two classes.

    Example:
        >>> rows = np.repeat(np.eye(2, dtype=np.float32), 3, axis=0)
        >>> evaluate_clustering(rows, np.repeat([5, 9], 3))["v_measure"]
        1.0

    Reference: Rosenberg and Hirschberg, 2007, see `gemb.metrics.v_measure`. MTEB clusters samples
        by mini-batch k-means; here all texts are clustered at once.
    """
    agreement = metrics.v_measure(labels, _clusters(vectors, labels, seed))
    return {name: float(value) for name, value in agreement._asdict().items()}


def _clusters(vectors, labels, seed: int = 0) -> np.ndarray:
    with needs("clustering", extra="eval"):
        from sklearn.cluster import KMeans

    checks.check_rank("vectors", vectors, 2)
    checks.check_shape("labels", labels, (len(vectors),))
    classes = len(np.unique(labels))
    checks.check(classes > 1, f"labels: expected two classes or more, got {classes}")
    # k-means cannot make more clusters than there are different vectors.
    clusters = min(classes, len(np.unique(vectors, axis=0)))
    return KMeans(clusters, n_init=_STARTS, random_state=seed).fit_predict(vectors)


def _read(source: Source) -> Data:
    require("sklearn", "clustering", extra="eval")  # before texts are encoded for it
    table = tables.read_table(source.files["test"], source.columns)
    labels = list(map(str, table.columns["label"]))
    if len(set(labels)) < 2:
        raise UserError(f"{source.files['test']}: only one label, {labels[0]!r}: no task")
    return {"texts": tables.texts(table, "text"), "labels": labels}


def _measure(vectors: Mapping[str, np.ndarray], data: Data) -> Measured:
    labels = _numbers(data)
    clusters = _clusters(vectors["texts"], labels)
    agreement = metrics.v_measure(labels, clusters)
    figures = {name: float(value) for name, value in agreement._asdict().items()}
    return Measured(figures, {"v_measure": clusters})


def _statistic(metric: str, data: Data):
    labels = _numbers(data)
    return lambda clusters, rows: metrics.v_measure(labels[rows], clusters[rows]).v_measure


def _numbers(data: Data) -> np.ndarray:
    return np.unique(data["labels"], return_inverse=True)[1]


TASK_TYPE = TaskType(
    mains=("v_measure",),
    files=("test",),
    columns={"text": "text", "label": "label"},
    read=_read,
    texts=lambda data: {"texts": (data["texts"], "document")},
    measure=_measure,
    sample=every_row,
    statistic=_statistic,
    exchangeable=False,
)
