"""Margins below the positive, which separate hard negatives from possible answers."""

from dataclasses import dataclass

import numpy as np

from gemb.checks import UserError


@dataclass(frozen=True)
class Margin:
    """How far below its positive a negative must score.

    A candidate is kept if
        score <= positive - relative * |positive|
        score <= positive - absolute
        score <= highest, where that is given.
    NV-Retriever's TopK-PercPos asks score <= 0.95 * positive, which for a positive below zero
    admits negatives that score above it; the absolute value keeps the limit below the positive.

    Attributes:
        relative: share of the positive's score, 0 or more.
        absolute: in the scores' unit, 0 or more.
        highest: highest score of a negative; None for no limit.
        below_positive: False for naive top-k, which includes false negatives: only the limit
        `highest` applies.

    Raises:
        UserError: a margin below 0 or not finite.

    Example:
        >>> margin = Margin(relative=0.05)
        >>> margin.allows(np.array([[0.94, 0.96], [-0.2, -0.22]]), np.array([1.0, -0.2]))
        array([[ True, False],
               [False,  True]])

    Reference: Moreira et al., NV-Retriever: Improving text embedding models with effective
        hard-negative mining, 2024, arXiv 2407.15831.
    """

    relative: float = 0.05
    absolute: float = 0.0
    highest: float | None = None
    below_positive: bool = True

    def __post_init__(self):
        for name in ("relative", "absolute"):
            value = getattr(self, name)
            if not 0 <= value < np.inf:
                raise UserError(f"{name} margin: expected a number from 0 on, got {value}")

    def limits(self, positive: np.ndarray) -> np.ndarray:
        """[pairs] the highest score that a negative of each pair may have, float64."""
        positive = np.asarray(positive, np.float64)
        limits = positive - np.maximum(self.relative * np.abs(positive), self.absolute)
        if not self.below_positive:
            limits = np.full_like(limits, np.inf)
        return limits if self.highest is None else np.minimum(limits, self.highest)

    def allows(self, scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """Which candidates are kept.

        Args:
            scores: [pairs, candidates] floats.
            positive: [pairs] scores of the pairs' own documents.

        Returns:
            [pairs, candidates] bool.
        """
        return np.asarray(scores, np.float64) <= self.limits(positive)[:, None]
