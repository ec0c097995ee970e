"""How far vectors of one program are from those of another."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Difference:
    """Two sets of vectors of the same texts, compared row by row.

    Attributes:
        cosine: the least.
        largest: of the absolute differences of coordinates.
    """

    cosine: float
    largest: float

    @classmethod
    def between(cls, ours: np.ndarray, theirs: np.ndarray) -> "Difference":
        """Of two arrays [texts, width]. Two rows of zeros have cosine 1.

        Example:
            >>> Difference.between(np.eye(2), np.eye(2)[:, ::-1])
            Difference(cosine=0.0, largest=1.0)
        """
        ours, theirs = (np.asarray(rows, np.float64) for rows in (ours, theirs))
        lengths = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
        product = np.maximum(lengths[0] * lengths[1], 1e-24)
        cosine = (ours * theirs).sum(1) / product
        cosine = np.where((lengths[0] == 0) & (lengths[1] == 0), 1.0, cosine)
        if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
            return cls(-1.0, float("inf"))
        return cls(float(cosine.min()), float(np.abs(ours - theirs).max()))


def neighbour_overlap(ours: np.ndarray, theirs: np.ndarray, count: int = 10) -> float:
    """Share of each text's nearest `count` others that are the same by both sets of vectors.

    Example:
        >>> vectors = np.random.default_rng(0).normal(size=(30, 4))
        >>> neighbour_overlap(vectors, 2 * vectors)
        1.0
    """
    count = min(count, len(ours) - 1)
    near = [_nearest(vectors, count) for vectors in (ours, theirs)]
    shared = [len(set(a) & set(b)) for a, b in zip(*near, strict=True)]
    return float(np.mean(shared) / count)


def _nearest(vectors: np.ndarray, count: int) -> np.ndarray:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    scores = (vectors / lengths) @ (vectors / lengths).T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]
