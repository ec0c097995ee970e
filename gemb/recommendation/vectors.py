"""Models made of vectors and of other models: two towers, late fusion, two stages."""

from collections.abc import Mapping, Sequence

import numpy as np
import scipy.sparse

from gemb import checks
from gemb.recommendation.baselines.baseline import Baseline


class Vectors:
    """Inner products of users' and items' vectors, as two towers give them.

    A user without a vector gets the mean of the vectors of its items, at unit length.

    Args:
        users: [users, dim] vectors.
        items: [items, dim] vectors.
    """

    kind = "vectors"

    def __init__(self, users: np.ndarray, items: np.ndarray):
        self.users, self.items = np.asarray(users, np.float32), np.asarray(items, np.float32)
        checks.check_rank("users", self.users, 2)
        checks.check_shape("items", self.items, (None, self.users.shape[1]))

    def scores(
        self, histories: scipy.sparse.csr_array, users: np.ndarray | None = None
    ) -> np.ndarray:
        """[rows, items] float32."""
        known = np.full(histories.shape[0], -1) if users is None else np.asarray(users)
        found = histories @ self.items
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        found = found / np.maximum(norms, np.float32(1e-12))
        found[known >= 0] = self.users[known[known >= 0]]
        return found @ self.items.T

    def tensors(self) -> Mapping[str, np.ndarray]:
        """The vectors."""
        return {"users": self.users, "items": self.items}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "Vectors":
        """The model of saved tensors."""
        return cls(tensors["users"], tensors["items"])


class TextVectors:
    """Late fusion's text part: weights of the user's text and of the mean of its items' texts.

    Args:
        users: [users, dim] vectors of users' texts, unit length.
        items: [items, dim] vectors of items' texts, unit length.
        of_user: weight of user text . item text.
        of_history: weight of mean of item texts . item text.
    """

    kind = "text vectors"

    def __init__(self, users: np.ndarray, items: np.ndarray, *, of_user: float, of_history: float):
        self.users, self.items = np.asarray(users, np.float32), np.asarray(items, np.float32)
        checks.check_shape("items", self.items, (None, self.users.shape[1]))
        self.of_user, self.of_history = of_user, of_history

    def scores(
        self, histories: scipy.sparse.csr_array, users: np.ndarray | None = None
    ) -> np.ndarray:
        """[rows, items] float32; an unknown user's text counts 0."""
        counts = np.maximum(histories.sum(axis=1), 1)[:, None]
        mixed = self.of_history * ((histories @ self.items) / counts)
        if users is not None:
            known = np.asarray(users) >= 0
            mixed[known] += self.of_user * self.users[np.asarray(users)[known]]
        return (mixed @ self.items.T).astype(np.float32)

    def tensors(self) -> Mapping[str, np.ndarray]:
        """The vectors and the weights."""
        weights = np.array([self.of_user, self.of_history])
        return {"users": self.users, "items": self.items, "weights": weights}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> "TextVectors":
        """The model of saved tensors."""
        of_user, of_history = map(float, tensors["weights"])
        return cls(tensors["users"], tensors["items"], of_user=of_user, of_history=of_history)


class Fused:
    """Late fusion: the sum of several models' scores with weights.

    Args:
        parts: the models.
        weights: one for each.
    """

    kind = "fused"

    def __init__(self, parts: Sequence[Baseline], weights: Sequence[float]):
        checks.check(len(parts) == len(weights) > 0, "weights: expected one for each part")
        self.parts, self.weights = list(parts), [float(weight) for weight in weights]

    def scores(
        self, histories: scipy.sparse.csr_array, users: np.ndarray | None = None
    ) -> np.ndarray:
        """[rows, items] float32."""
        return sum(
            np.float32(weight) * part.scores(histories, users)
            for part, weight in zip(self.parts, self.weights, strict=True)
        )


class TwoStages:
    """A retriever's first items, ranked by ranker + weight z(retriever).

    z is the retriever's score less its mean over the user's candidates, divided by their standard
    deviation. Items that are not candidates, and those of the history, are never recommended.

    Args:
        retriever: chooses the candidates.
        ranker: scores them.
        candidates: items for each user, not counting those of its history.
        weight: of the retriever's own score.
    """

    kind = "two stages"

    def __init__(
        self, retriever: Baseline, ranker: Baseline, *, candidates: int = 100, weight: float = 0.12
    ):
        checks.check(candidates >= 1, f"candidates: expected at least 1, got {candidates}")
        self.retriever, self.ranker = retriever, ranker
        self.candidates, self.weight = candidates, weight

    def scores(
        self, histories: scipy.sparse.csr_array, users: np.ndarray | None = None
    ) -> np.ndarray:
        """[rows, items] float32; -inf for what is not a candidate."""
        first = self.retriever.scores(histories, users)
        first[histories.nonzero()] = -np.inf
        count = min(self.candidates, first.shape[1])
        chosen = np.argpartition(-first, count - 1, axis=1)[:, :count]
        near = np.take_along_axis(first, chosen, axis=1)
        there = np.isfinite(near)
        z = standardised(near, there)
        second = np.take_along_axis(self.ranker.scores(histories, users), chosen, axis=1)
        made = np.full(first.shape, -np.inf, np.float32)
        found = np.where(there, second + self.weight * z, -np.inf)
        np.put_along_axis(made, chosen, found.astype(np.float32), axis=1)
        return made


def standardised(scores: np.ndarray, there: np.ndarray) -> np.ndarray:
    """[rows, items]: each score less the mean of its row, over the row's standard deviation.

    Args:
        scores: [rows, items].
        there: [rows, items] bool: the scores that count; others become 0.
    """
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    kept = np.where(there, scores, 0)
    away = np.where(there, kept - kept.sum(axis=1, keepdims=True) / count, 0)
    spread = np.sqrt(np.square(away).sum(axis=1, keepdims=True) / count)
    return away / np.maximum(spread, 1e-12)


def has_users(model: Baseline) -> bool:
    """Whether a model knows users by more than their items: it then serves one without any."""
    if isinstance(model, TwoStages):
        return has_users(model.retriever)
    if isinstance(model, Fused):
        return any(map(has_users, model.parts))
    return isinstance(model, Vectors | TextVectors)
