"""What index hosts accept and how their answers are ordered, the same for all of them."""

from collections.abc import Sequence

import numpy as np

from gemb.checks import UserError
from gemb.identity import Space, SpaceError, check_same_space
from gemb.metrics.similarity import PRODUCTS
from gemb.store.rows import id_bytes

MAX_K = 1_000


def check_rankable(space: Space, where: object) -> None:
    """Raises UserError where a space is not compared by inner products."""
    if space.similarity not in PRODUCTS:
        raise UserError(
            f"{where}: ranks by {' or '.join(PRODUCTS)}, but space {space} is compared by "
            f"{space.similarity}"
        )


def by_cosine(space: Space) -> bool:
    """Whether scores are cosines of vectors of any length; else they are inner products."""
    return space.similarity == "cosine" and not space.normalized


def check_queries(
    queries: np.ndarray, k: int, space: Space, asked: Space | str, where: object
) -> np.ndarray:
    """Checks a search before any work.

    Args:
        queries: [queries, dim] floats.
        k: hits wanted for each.
        space: of the documents.
        asked: that the caller says the queries are of.
        where: what refuses them, for messages.

    Returns:
        The queries, float32, unit length where the score is a cosine.

    Raises:
        SpaceError: of another space, or of another dim.
        UserError: not finite, zero, or k out of range.
    """
    check_same_space(asked, space, str(where))
    if type(k) is not int or not 1 <= k <= MAX_K:
        raise UserError(f"{where}: k: expected 1 to {MAX_K:,}, got {k!r}")
    queries = np.asarray(queries)
    if queries.ndim != 2 or queries.dtype.kind != "f":
        raise UserError(
            f"{where}: expected queries of [queries, {space.dim}] floats, got {queries.shape} of "
            f"{queries.dtype}"
        )
    if queries.shape[1] != space.dim:
        raise SpaceError(
            f"{where}: queries of dim {queries.shape[1]} are not of space {space}; give vectors of "
            "that space"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        queries = np.ascontiguousarray(queries, np.float32)
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        row = int(np.argmin((np.isfinite(lengths) & (lengths > 0))[:, 0]))
        raise UserError(
            f"{where}: query {row} has length {lengths[row, 0]:.4g}; expected finite queries that "
            "are not zero"
        )
    return (queries / lengths).astype(np.float32) if by_cosine(space) else queries


def check_expected(
    expected: Sequence[Sequence[str | int]], queries: np.ndarray, where: object
) -> list[list[str]]:
    """The exact answers that an index is measured by, as texts.

    Raises:
        UserError: another number than queries, or a query without any.
    """
    found = [[each.decode() for each in id_bytes(row, where)] for row in expected]
    if not found or len(found) != len(queries) or not all(found):
        raise UserError(
            f"{where}: verify: expected the exact answers of each of {len(queries)} queries, and "
            "at least one query"
        )
    return found


def recall_of(found: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]) -> float:
    """The mean share of the expected ids that were found."""
    shares = [
        len({*here} & {*there}) / len(there) for here, there in zip(found, expected, strict=True)
    ]
    return float(np.mean(shares))


def check_recall(reached: float, wanted: float, version: object, where: object) -> None:
    """Raises UserError where an index found less than wanted."""
    if not reached >= wanted:
        raise UserError(
            f"{where}: version {version} finds {reached:.4f} of what exact search finds, but "
            f"{wanted:.4f} is wanted; it is not ready: choose another kind or a lower recall"
        )


def ordered(
    found: Sequence[tuple[Sequence[str], Sequence[float]]], k: int
) -> tuple[list[list[str]], np.ndarray]:
    """Ids and scores of several queries, best first, equal scores by id, cut and padded to k."""
    ids, scores = [], np.full((len(found), k), -np.inf, np.float32)
    for row, (names, values) in enumerate(found):
        values = np.asarray(values, np.float32)
        order = sorted(range(len(names)), key=lambda i: (-values[i], names[i]))[:k]
        ids.append([names[i] for i in order])
        scores[row, : len(order)] = values[order]
    return ids, scores


def exact_answers(
    ids: Sequence[str | int], vectors: np.ndarray, queries: np.ndarray, k: int
) -> list[list[str]]:
    """What exact search finds, as `IndexHost.verify` wants it.

    Args:
        ids: one per row.
        vectors: [rows, dim] whose inner products are the scores.
        queries: [queries, dim].
        k: ids for each query.

    Example:
        >>> exact_answers(["a", "b"], np.eye(2, dtype=np.float32), np.array([[0.1, 1.0]]), 1)
        [['b']]
    """
    from gemb.search import ExactSearcher

    hits = ExactSearcher(vectors).search(np.asarray(queries, np.float32), k)
    return [[str(ids[row]) for row in rows if row >= 0] for rows in hits.indices]
