"""The panel: statistics of a window that are functions of means of what each row gives.

A row gives its vector, its random features, its cluster, whether it is far from everything, and
products of its coordinates on the reference's main axes. Because every statistic depends on the
means of these only, windows cost one pass, and thousands of windows without drift one matrix
product.
"""

import functools
from typing import NamedTuple

import numpy as np

from gemb.analysis.drift.clusters import nearest_centre
from gemb.metrics.distances import RandomFeatures

TESTS = ("mmd", "mean shift", "directions", "topics", "far share", "frechet")
_BLOCK = 4_096  # rows whose features are held at a time
_RIDGE = 0.02  # of the largest variance


class Means(NamedTuple):
    """Means over the rows of a set, or of many sets with a leading axis.

    Attributes:
        vectors: [dim].
        features: [features] random features.
        topics: [clusters] shares.
        far: share of rows that are far from everything.
        products: [axes, axes] of coordinates on the main axes, from the reference's mean.
    """

    vectors: np.ndarray
    features: np.ndarray
    topics: np.ndarray
    far: np.ndarray
    products: np.ndarray


class Geometry(NamedTuple):
    """What maps a row to what it gives; fitted on the reference, then fixed.

    Attributes:
        mean: [dim] of the reference.
        axes: [dim, axes] its main directions.
        clusters: [clusters, dim] centres of topics.
        directions: [dim, directions] along which the mean moves if one of many small topics grows,
            see `topic_directions`.
        prototypes: two of [count, dim]: points that both halves of the reference are near to.
        limits: two squared distances; a row above them is far from everything.
        scale: of the kernel, see `gemb.metrics.distances.mmd`.
        features: how many random features.
    """

    mean: np.ndarray
    axes: np.ndarray
    clusters: np.ndarray
    directions: np.ndarray
    prototypes: tuple[np.ndarray, np.ndarray]
    limits: tuple[float, float]
    scale: float
    features: int

    def random_features(self) -> RandomFeatures:
        """The features; the same ones for the same reference."""
        return _random_features(len(self.mean), self.scale, self.features)

    def is_far(self, vectors: np.ndarray) -> np.ndarray:
        """[rows, 2] float32: whether a row is farther from the prototypes than the limits."""
        pairs = zip(self.prototypes, self.limits, strict=True)
        found = [nearest_centre(vectors, each)[1] > limit for each, limit in pairs]
        return np.stack(found, axis=1).astype(np.float32)

    def means(self, vectors: np.ndarray) -> Means:
        """The means of [rows, dim] vectors."""
        z, total = self.random_features(), np.zeros(self.features)
        for start in range(0, len(vectors), _BLOCK):
            made = z(vectors[start : start + _BLOCK])
            total += np.ones(len(made), np.float32) @ made
        on_axes = self.on_axes(vectors)
        near = nearest_centre(vectors, self.clusters)[0]
        topics = np.bincount(near, minlength=len(self.clusters)) / len(vectors)
        far = self.is_far(vectors).mean()
        mean = vectors.mean(axis=0, dtype=np.float64)
        products = on_axes.T @ on_axes / len(vectors)
        return Means(mean, total / len(vectors), topics, np.float64(far), products)

    def on_axes(self, vectors: np.ndarray) -> np.ndarray:
        """[rows, axes] float64 coordinates, from the reference's mean."""
        made = np.asarray(vectors, np.float32) @ self.axes.astype(np.float32)
        return made.astype(np.float64) - self.mean @ self.axes


@functools.lru_cache(maxsize=4)
def _random_features(dim: int, scale: float, count: int) -> RandomFeatures:
    return RandomFeatures(dim, scale, count)  # drawing them costs more than a window


def statistics(now: Means, before: Means, geometry: Geometry) -> np.ndarray:
    """The panel's statistics of windows against references.

    Args:
        now: means of the windows, each with a leading axis [windows] or none.
        before: means of what each is compared with, likewise.
        geometry: of the reference.

    Returns:
        [windows, tests] or [tests] float64 in the order of `TESTS`. All but the far share are
        squared distances.
    """
    shift = np.sum(np.square(now.vectors - before.vectors), axis=-1)
    mmd = np.sum(np.square(now.features - before.features), axis=-1)
    far = now.far - before.far
    parts = (
        mmd,
        shift,
        _along_directions(now.vectors - before.vectors, geometry.directions),
        _divergence(now.topics, before.topics),
        far,
        _frechet(now, before, geometry),
    )
    return np.stack(np.broadcast_arrays(*parts), axis=-1)


def topic_directions(mean: np.ndarray, covariance: np.ndarray, topics: np.ndarray) -> np.ndarray:
    """Directions that separate each topic best from all rows, by a ridge linear discriminant.

    w_k = (S + r I)^-1 (c_k - m), scaled so that rows have variance 1 along it

    Args:
        mean: m, [dim] of the reference.
        covariance: S, [dim, dim].
        topics: c, [topics, dim] centres.

    Returns:
        [dim, topics] float32.

    Reference: Fisher, The use of multiple measurements in taxonomic problems, 1936.
    """
    values, vectors = np.linalg.eigh(np.float64(covariance))
    gaps = vectors.T @ (np.float64(topics) - mean).T
    values = np.maximum(values, 0)
    made = gaps / (values + _RIDGE * values[-1])[:, None]
    spread = np.sqrt(values @ np.square(made))
    return np.float32(vectors @ (made / np.where(spread > 0, spread, 1)))


def _along_directions(shift: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """(mean_k max(shift . w_k, 0)^3)^(2/3): large if the mean moved towards a few of the topics.

    The third power is a compromise of the sum of squares, which a shift along one direction hardly
    changes, and the maximum, which misses topics between several centres.
    """
    towards = np.maximum(shift @ directions, 0)
    return np.mean(towards**3, axis=-1) ** (2 / 3)


def _divergence(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    middle = (p + q) / 2

    def half(one):
        inside = np.where(one > 0, one / np.where(middle > 0, middle, 1), 1)
        return np.sum(one * np.log(inside), axis=-1) / 2

    return np.maximum(half(p) + half(q), 0)


def _frechet(now: Means, before: Means, geometry: Geometry) -> np.ndarray:
    """Squared Frechet distance on the main axes."""
    left, right = ((one.vectors - geometry.mean) @ geometry.axes for one in (before, now))
    old, new = (
        one.products - mean[..., :, None] * mean[..., None, :]
        for one, mean in ((before, left), (now, right))
    )
    values, vectors = np.linalg.eigh(old)
    root = (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    cross = np.linalg.eigvalsh(root @ new @ root)
    traces = np.trace(old, axis1=-2, axis2=-1) + np.trace(new, axis1=-2, axis2=-1)
    spread = traces - 2 * np.sqrt(np.maximum(cross, 0)).sum(axis=-1)
    return np.sum(np.square(right - left), axis=-1) + np.maximum(spread, 0)
