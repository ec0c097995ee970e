"""A corpus in the plane: the two directions along which its vectors differ most."""

import numpy as np

from gemb.metrics.similarity import prepared
from gemb.serving.http.errors import ApiError
from gemb.serving.retrieval import Step

_POINTS = 1500


def corpus_map(step: Step) -> dict:
    """Places of documents, and how a query's vector is placed among them.

    A vector v of unit length is at `axes @ (v - mean)`.

    Args:
        step: with vectors.

    Returns:
        "points": {"id", "x", "y"} of at most 1,500 documents, evenly spaced in the corpus;
        "mean" and "axes" for further vectors; "explained", the share of variance.

    Raises:
        ApiError: 404, where the vectors are not at hand.
    """
    if step.drawn is None:
        step.drawn = _drawn(step)
    return step.drawn


def _drawn(step: Step) -> dict:
    if step.vectors is None:
        raise ApiError(404, "index: its vectors are not at hand", "no_vectors", param="index")
    count = len(step.vectors)
    rows = np.unique(np.linspace(0, count - 1, min(count, _POINTS)).astype(np.int64))
    kept = prepared(np.asarray(step.vectors[rows]), step.vectors.shape[1])
    mean = kept.mean(axis=0)
    _, sizes, axes = np.linalg.svd(kept - mean, full_matrices=False)
    axes = axes[:2]
    if len(axes) < 2:  # one document
        axes = np.vstack([axes, np.zeros((2 - len(axes), kept.shape[1]))])
    places = (kept - mean) @ axes.T
    total = float((sizes**2).sum())
    points = [
        {"id": step.corpus.ids[row], "x": float(x), "y": float(y)}
        for row, (x, y) in zip(rows.tolist(), places, strict=True)
    ]
    return {
        "points": points,
        "mean": mean.astype(np.float32),
        "axes": np.ascontiguousarray(axes, np.float32),
        "explained": float((sizes[:2] ** 2).sum() / total) if total else 0.0,
    }
