"""K-means in numpy: the topics of a reference, and the prototypes that distance is measured to."""

import numpy as np

_ROUNDS = 25


def k_means(vectors: np.ndarray, count: int, *, seed: int = 0) -> np.ndarray:
    """Lloyd's algorithm from k-means++ starts.

    Args:
        vectors: [rows, dim] floats.
        count: clusters; fewer are made of fewer different rows.
        seed: of the starts.

    Returns:
        [clusters, dim] float32 centres.

    Example:
        >>> k_means(np.array([[0.0], [0.2], [5.0], [5.2]]), 2).ravel()
        array([0.1, 5.1], dtype=float32)

    Reference: Lloyd, Least squares quantization in PCM, 1982; Arthur and Vassilvitskii,
        k-means++: the advantages of careful seeding, 2007.
    """
    rows = np.asarray(vectors, np.float32)
    centres = _starts(rows, count, np.random.default_rng(seed))
    nearest = None
    for _ in range(_ROUNDS):
        found = nearest_centre(rows, centres)[0]
        if nearest is not None and np.array_equal(found, nearest):
            break
        nearest = found
        sizes = np.bincount(nearest, minlength=len(centres))
        sums = np.zeros(centres.shape, np.float64)
        full = np.flatnonzero(sizes)
        starts = np.cumsum(sizes)[full] - sizes[full]
        order = np.argsort(nearest, kind="stable")
        sums[full] = np.add.reduceat(rows[order], starts, axis=0, dtype=np.float64)
        centres = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        centres = centres.astype(np.float32)
    return centres[np.argsort(centres[:, 0], kind="stable")]


def nearest_centre(vectors: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest centre of each row, and the squared distance to it.

    Args:
        vectors: [rows, dim] floats.
        centres: [count, dim] floats.

    Returns:
        [rows] integers and [rows] float32.
    """
    rows = np.asarray(vectors, np.float32)
    apart = rows @ centres.T
    apart *= -2
    apart += np.einsum("kd,kd->k", centres, centres)
    chosen = np.argmin(apart, axis=1)
    own = np.einsum("nd,nd->n", rows, rows)
    return chosen, np.maximum(apart[np.arange(len(rows)), chosen] + own, 0)


def _starts(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    chosen = [int(rng.integers(len(rows)))]
    apart = nearest_centre(rows, rows[chosen])[1].astype(np.float64)
    while len(chosen) < count and apart.sum() > 0:
        chosen.append(int(rng.choice(len(rows), p=apart / apart.sum())))
        np.minimum(apart, nearest_centre(rows, rows[chosen[-1:]])[1], out=apart)
        apart[chosen] = 0
    return rows[chosen]
