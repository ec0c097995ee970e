"""Re-ranking: are the right ones of a query's few candidates put first?"""

from collections.abc import Mapping, Sequence

import numpy as np

from gemb import checks, metrics
from gemb.checks import UserError
from gemb.evaluation.tasks import tables
from gemb.evaluation.tasks.task_type import Data, Measured, Source, TaskType, every_row


def evaluate_reranking(
    queries: np.ndarray,
    documents: np.ndarray,
    candidates: Sequence[Sequence[int]],
    relevant: Sequence[int],
) -> dict[str, float]:
    """Orders each query's candidates by inner product, which is the cosine of unit vectors.

    Args:
        queries: [queries, dim] float32, of unit length for cosine.
        documents: [documents, dim] float32, of unit length for cosine.
        candidates: for each query, rows of `documents`, the relevant ones first.
        relevant: for each query, how many of its candidates are relevant.

    Returns:
        "map" (the one to quote) and "mrr@10", means over the queries.

    Raises:
        ValueError: arguments that do not fit each other, or a query with nothing relevant.

    Example:
        >>> eye = np.eye(3, dtype=np.float32)
        >>> evaluate_reranking(eye[:1], eye, [[1, 0, 2]], [1])["map"]
        0.3333333333333333
    """
    values = _values(queries, documents, candidates, relevant)
    return {name: float(np.mean(value)) for name, value in values.items()}


def _values(queries, documents, candidates, relevant) -> dict[str, np.ndarray]:
    checks.check_rank("documents", documents, 2)
    checks.check_shape("queries", queries, (len(candidates), documents.shape[1]))
    checks.check(len(candidates) > 0, "candidates: expected at least one query, got none")
    checks.check(
        len(relevant) == len(candidates),
        f"relevant: expected a number for each of {len(candidates)} queries, got {len(relevant)}",
    )
    scores = [documents[rows] @ query for query, rows in zip(queries, candidates, strict=True)]
    right = [np.arange(len(rows)) < count for rows, count in zip(candidates, relevant, strict=True)]
    return metrics.reranking_metrics(scores, right)


def _read(source: Source) -> Data:
    table = tables.read_table(source.files["test"], source.columns)
    positives, negatives = (_lists(table, role) for role in ("positive", "negative"))
    numbers: dict[str, int] = {}
    candidates = [
        [numbers.setdefault(text, len(numbers)) for text in dict.fromkeys(texts)]
        for texts in map(list.__add__, positives, negatives)
    ]
    for where, right, wrong in zip(table.where, positives, negatives, strict=True):
        both = set(right) & set(wrong)
        if not right or not wrong:
            role = "negative" if right else "positive"
            raise UserError(f"{where}: the {role} list is empty: nothing to put in order")
        if both:
            raise UserError(f"{where}: {both.pop()!r} is both positive and negative")
    return {
        "queries": tables.texts(table, "query"),
        "candidates": candidates,
        "relevant": [len(set(texts)) for texts in positives],
        "documents": list(numbers),
    }


def _lists(table: tables.Table, role: str) -> list[list[str]]:
    """A column of lists of texts; a single text is a list of one."""
    lists = []
    for value, where in zip(table.columns[role], table.where, strict=True):
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{where}: the {role} must be a list of texts, got {value!r}")
        lists.append(texts)
    return lists


def _sample(data: Data, limit: int) -> Data:
    data = every_row(data, limit, ("queries", "candidates", "relevant"))
    kept = sorted({row for rows in data["candidates"] for row in rows})
    number = {row: i for i, row in enumerate(kept)}
    return data | {
        "documents": [data["documents"][row] for row in kept],
        "candidates": [[number[row] for row in rows] for rows in data["candidates"]],
    }


def _measure(vectors: Mapping[str, np.ndarray], data: Data) -> Measured:
    values = _values(vectors["queries"], vectors["documents"], data["candidates"], data["relevant"])
    return Measured({name: float(np.mean(value)) for name, value in values.items()}, values)


TASK_TYPE = TaskType(
    mains=("map", "mrr@10"),
    files=("test",),
    columns={"query": "query", "positive": "positive", "negative": "negative"},
    read=_read,
    texts=lambda data: {
        "queries": (data["queries"], "query"),
        "documents": (data["documents"], "document"),
    },
    measure=_measure,
    sample=_sample,
)
