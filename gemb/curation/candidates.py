"""Chooses hard negatives from a query's nearest documents."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.curation.margin import Margin
from gemb.data.randomness import uniform
from gemb.search import Hits

CHOOSE = ("top", "sampled")


@dataclass(frozen=True)
class Choice:
    """Settings that decide which candidates become hard negatives.

    Attributes:
        count: negatives per pair; fewer if fewer are allowed.
        first_rank: the first rank that may be chosen. Ranks count from 1, over the documents that
            are not known answers, each text once.
        last_rank: the last one.
        margin: how far below the positive a negative must score.
        choose: "top" takes the highest scores, "sampled" draws evenly among those allowed.
        seed: seed of the draw, which depends only on the numbers of the pair and the documents.

    Raises:
        UserError: for a setting outside of its range.
    """

    count: int = 7
    first_rank: int = 1
    last_rank: int = 100
    margin: Margin = field(default_factory=Margin)
    choose: str = "top"
    seed: int = 0

    def __post_init__(self):
        if self.count < 1:
            raise UserError(f"count: expected 1 or more negatives, got {self.count}")
        if not 1 <= self.first_rank <= self.last_rank:
            raise UserError(
                "ranks: expected 1 <= first_rank <= last_rank, got "
                f"{self.first_rank} to {self.last_rank}"
            )
        if self.choose not in CHOOSE:
            raise UserError(f"choose: expected one of {', '.join(CHOOSE)}, got {self.choose!r}")


class Sorted(NamedTuple):
    """The kind of each hit, [pairs, k] bool each; a hit has at most one kind.

    Attributes:
        known: an answer of the query in some pair, by text or by id, or the query itself.
        repeated: the same text as a higher hit.
        free: any other document.
    """

    known: np.ndarray
    repeated: np.ndarray
    free: np.ndarray


def sort_hits(hits: Hits, keys: np.ndarray, known: list[np.ndarray]) -> Sorted:
    """Separates known answers and repeated texts from documents that may be negatives.

    Args:
        hits: [pairs, k].
        keys: uint64 [documents], of the documents' texts.
        known: for each pair, the keys of texts that cannot be its negatives.
    """
    found = hits.indices >= 0
    of_hit = keys[np.maximum(hits.indices, 0)]
    is_known, repeated = np.zeros_like(found), np.zeros_like(found)
    for row, (own, answers) in enumerate(zip(of_hit, known, strict=True)):
        is_known[row] = np.isin(own, answers)
        repeated[row, np.setdiff1d(np.arange(len(own)), np.unique(own, return_index=True)[1])] = 1
    is_known &= found
    repeated &= found & ~is_known
    return Sorted(is_known, repeated, found & ~is_known & ~repeated)


def in_window(free: np.ndarray, first: int, last: int) -> np.ndarray:
    """[pairs, k] the free hits of ranks first to last.

    Example:
        >>> in_window(np.array([[True, False, True, True]]), 2, 3)
        array([[False, False,  True,  True]])
    """
    rank = np.cumsum(free, axis=1)
    return free & (rank >= first) & (rank <= last)


def choose(
    rows: np.ndarray, scores: np.ndarray, allowed: np.ndarray, pairs: np.ndarray, choice: Choice
) -> np.ndarray:
    """The columns of the chosen candidates.

    Args:
        rows: [pairs, k] the candidates' document numbers.
        scores: [pairs, k] their scores; only those allowed matter.
        allowed: [pairs, k] bool.
        pairs: [pairs] their numbers.
        choice: how many, and how.

    Returns:
        [pairs, count] columns, highest score first (the earlier column among equals), -1 where
        there are no more.
    """
    by_score = np.where(allowed, -np.asarray(scores, np.float64), np.inf)
    order = by_score
    if choice.choose == "sampled":
        drawn = uniform(choice.seed, np.asarray(pairs)[:, None], rows)
        order = np.where(allowed, drawn, np.inf)
    chosen = np.argsort(order, axis=1, kind="stable")[:, : choice.count]
    is_allowed = np.take_along_axis(allowed, chosen, axis=1)
    key = np.where(is_allowed, np.take_along_axis(by_score, chosen, axis=1), np.inf)
    ranked = np.lexsort((chosen, key), axis=1)
    chosen, is_allowed = (np.take_along_axis(a, ranked, axis=1) for a in (chosen, is_allowed))
    return np.where(is_allowed, chosen, -1)
