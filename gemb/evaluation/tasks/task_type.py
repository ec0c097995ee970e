"""What defines a type of evaluation task; each type fills a `TaskType` in a file of its own.

`gemb.evaluation.tasks.registry` lists the types and reads tasks, `gemb.evaluation.suite` runs them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemb.metrics.significance import Statistic

Data = dict[str, Any]  # what a task's files hold: lists of texts, labels, scores


class Source(NamedTuple):
    """Where a task's data is.

    Attributes:
        files: role ("test", "train", "folder") -> path.
        columns: role -> the column's name in the files.
        split: the split of a BEIR folder.
    """

    files: Mapping[str, Path]
    columns: Mapping[str, str]
    split: str = "test"


class Measured(NamedTuple):
    """The figures of one task at one width.

    Attributes:
        figures: name -> figure.
        items: for each metric that may be a task's main one, what significance tests draw from:
            [items] a figure an item where the metric is their mean, else a prediction an item.
        details: JSON values for the report alone, by name.
    """

    figures: dict[str, float]
    items: dict[str, np.ndarray]
    details: dict[str, Any] = {}  # noqa: RUF012


class TaskType(NamedTuple):
    """A type of evaluation task: which files it reads, which texts it encodes, how it measures.

    Attributes:
        mains: the metrics that may be a task's main one; the first is the default.
        files: roles of the files that it reads.
        columns: role -> the column's name unless the task says otherwise.
        read: Source -> Data; raises UserError with file and line.
        texts: Data -> role -> (texts, "query" or "document": how they are encoded).
        measure: (vectors by role [rows, width] float32 as `prepared` gives them, Data) -> Measured.
        sample: (Data, limit) -> Data of that many items, evenly spaced.
        statistic: (metric, Data) -> the metric as a function of items and rows; None for a mean.
        exchangeable: whether one model's item can be put in the other's place: not so for cluster
            numbers, which cannot be compared with those of another clustering.
        optional: roles of columns that some files have and others do not.
    """

    mains: tuple[str, ...]
    files: tuple[str, ...]
    columns: Mapping[str, str]
    read: Callable[[Source], Data]
    texts: Callable[[Data], dict[str, tuple[list[str], str]]]
    measure: Callable[[Mapping[str, np.ndarray], Data], Measured]
    sample: Callable[[Data, int], Data]
    statistic: Callable[[str, Data], Statistic | None] = lambda metric, data: None
    exchangeable: bool = True
    optional: tuple[str, ...] = ()


def every_row(data: Data, limit: int, columns: tuple[str, ...] = ()) -> Data:
    """Cuts parallel lists to `limit` evenly spaced rows.

    Args:
        data: the lists.
        limit: rows to keep; all where there are no more.
        columns: the lists to cut; default all.

    Returns:
        The data with those lists cut.

    Example:
        >>> every_row({"text": ["a", "b", "c"], "label": ["x", "y", "z"]}, 2)
        {'text': ['a', 'c'], 'label': ['x', 'z']}
    """
    columns = columns or tuple(data)
    rows = spaced(len(data[columns[0]]), limit)
    return data | {column: [data[column][row] for row in rows] for column in columns}


def spaced(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` indices, evenly spaced, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, limit)).round().astype(int).tolist()
