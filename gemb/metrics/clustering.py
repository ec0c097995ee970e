"""Measures of a clustering against known classes, in float64 numpy, equal to scikit-learn's."""

from typing import NamedTuple

import numpy as np

from gemb import checks


class Agreement(NamedTuple):
    """How well clusters and classes agree.

    Attributes:
        homogeneity: 1 where each cluster holds items of one class only.
        completeness: 1 if each class is in a single cluster.
        v_measure: their harmonic mean.
    """

    homogeneity: float
    completeness: float
    v_measure: float


def v_measure(truth: np.ndarray, clusters: np.ndarray) -> Agreement:
    """Homogeneity, completeness and their harmonic mean, from entropies H in nats.

    h = 1 - H(class | cluster) / H(class),  c = 1 - H(cluster | class) / H(cluster),
    v = 2 h c / (h + c)

    Args:
        truth: [items] integer classes.
        clusters: [items] integer clusters; which number stands for which does not matter.

    Returns:
        The three, in [0, 1]. Where there is only one class (one cluster), h (c) is 1.

    Raises:
        ValueError: not two lists of one length, or no item.

    Example:
        >>> v_measure(np.array([0, 0, 1, 1]), np.array([7, 7, 3, 3])).v_measure
        1.0

    Reference: Rosenberg and Hirschberg, V-Measure: a conditional entropy-based external cluster
        evaluation measure, 2007.
    """
    truth, clusters = np.asarray(truth), np.asarray(clusters)
    checks.check_rank("truth", truth, 1)
    checks.check_shape("clusters", clusters, truth.shape)
    checks.check(len(truth) > 0, "truth: expected at least one item, got none")
    _, rows = np.unique(truth, return_inverse=True)
    _, columns = np.unique(clusters, return_inverse=True)
    cells = np.bincount(rows * (columns.max() + 1) + columns)
    classes, groups, both = (_entropy(n) for n in (np.bincount(rows), np.bincount(columns), cells))
    shared = max(classes + groups - both, 0.0)  # the mutual information
    homogeneity = shared / classes if classes > 0 else 1.0
    completeness = shared / groups if groups > 0 else 1.0
    total = homogeneity + completeness
    mean = 2 * homogeneity * completeness / total if total > 0 else 0.0
    return Agreement(homogeneity, completeness, mean)


def _entropy(counts: np.ndarray) -> float:
    counts = counts[counts > 0]
    if len(counts) < 2:
        return 0.0
    share = counts / counts.sum()
    return float(-np.sum(share * np.log(share)))
