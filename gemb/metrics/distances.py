"""Distances between two sets of vectors: each with the value to expect where nothing has changed.

Every distance of two finite samples is above zero, also where both come from one distribution, so
a fixed threshold is right for one size of the window only. `Distance.expected` is the mean
under no change, in closed form. Pure numpy in float64. Which distances a drift panel reads, and its
thresholds, are in gemb.analysis.drift.
"""

import math
from typing import NamedTuple

import numpy as np
import scipy.special

from gemb import checks

_BLOCK = 1 << 20  # distances held at a time


class Distance(NamedTuple):
    """A distance of a window from a reference.

    Attributes:
        value: the distance.
        expected: its mean where both samples come from one distribution.
        p: the chance of a value as large there; None without a closed form.
    """

    value: float
    expected: float
    p: float | None = None


def mean_shift(reference: np.ndarray, window: np.ndarray) -> Distance:
    """|m_W - m_R|^2, the squared distance of the means; expected tr(S)(1/n + 1/N).

    Args:
        reference: [N, dim] floats.
        window: [n, dim] floats.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Example:
        >>> mean_shift(np.zeros((4, 2)), np.ones((4, 2))).value
        2.0
    """
    reference, window = _pair(reference, window)
    gap = window.mean(axis=0) - reference.mean(axis=0)
    spread = float(reference.var(axis=0, ddof=1).sum())
    return Distance(float(gap @ gap), spread * _rate(reference, window))


def hotelling(reference: np.ndarray, window: np.ndarray) -> Distance:
    """Hotelling's T^2 = nN/(n+N) d' S^-1 d with the pooled covariance; p from the F distribution.

    Args:
        reference: [N, dim] floats.
        window: [n, dim] floats, N + n > dim + 3.

    Raises:
        ValueError: naming the argument; or fewer rows than axes.

    Reference: Hotelling, The generalization of Student's ratio, 1931.
    """
    reference, window = _pair(reference, window)
    (rows, dim), other = reference.shape, len(window)
    free = rows + other - dim - 1
    checks.check(free > 2, f"window: {rows} + {other} rows are too few for {dim} axes")
    gap = window.mean(axis=0) - reference.mean(axis=0)
    pooled = (rows - 1) * _covariance(reference) + (other - 1) * _covariance(window)
    pooled /= rows + other - 2
    value = float(gap @ _solve(pooled, gap)) / (1 / rows + 1 / other)
    share = value * free / (dim * (rows + other - 2))
    p = float(scipy.special.fdtrc(dim, free, share))
    return Distance(value, dim * (rows + other - 2) / (free - 2), p)


def gaussian_kl(reference: np.ndarray, window: np.ndarray) -> Distance:
    """KL(W || R) of the Gaussians with the samples' means and covariances, in nats.

    (tr(S_R^-1 S_W) + d' S_R^-1 d - k + ln det S_R / det S_W) / 2; expected
    (k + k(k+1)/2) / 2 (1/n + 1/N), which is right where n is many times k

    Args:
        reference: [N, k] floats, N > k.
        window: [n, k] floats, n > k.

    Raises:
        ValueError: naming the argument; or fewer rows than axes.

    Reference: Kullback, Information theory and statistics, 1959, chapter 9.
    """
    reference, window = _pair(reference, window)
    axes = reference.shape[1]
    for name, rows in (("reference", reference), ("window", window)):
        checks.check(len(rows) > axes, f"{name}: {len(rows)} rows are too few for {axes} axes")
    before, now = _covariance(reference), _covariance(window)
    gap = window.mean(axis=0) - reference.mean(axis=0)
    logs = np.linalg.slogdet(before)[1] - np.linalg.slogdet(now)[1]
    trace = float(np.trace(_solve(before, now)))
    value = (trace + float(gap @ _solve(before, gap)) - axes + logs) / 2
    free = axes + axes * (axes + 1) / 2
    return Distance(float(value), free / 2 * _rate(reference, window))


def frechet(reference: np.ndarray, window: np.ndarray) -> Distance:
    """Squared Frechet distance |d|^2 + tr(S_R + S_W - 2 (S_R S_W)^1/2) of two Gaussians.

    Expected to first order (1/n + 1/N)(sum_i l_i + 1/2 sum_ij (1 + [i = j]) l_i l_j / (l_i + l_j)),
    l the eigenvalues of S_R.

    Args:
        reference: [N, dim] floats.
        window: [n, dim] floats.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Reference: Dowson and Landau, The Frechet distance between multivariate normal distributions,
        1982; the expansion is that of the Bures metric.
    """
    reference, window = _pair(reference, window)
    gap = window.mean(axis=0) - reference.mean(axis=0)
    before, now = _covariance(reference), _covariance(window)
    value = float(gap @ gap) + _bures(before, now)
    values = np.maximum(np.linalg.eigvalsh(before), 0)
    sums = values[:, None] + values
    pairs = np.where(sums > 0, np.outer(values, values) / np.where(sums > 0, sums, 1), 0)
    spread = values.sum() + (pairs.sum() + np.trace(pairs)) / 2
    return Distance(value, float(spread) * _rate(reference, window))


def psi(reference: np.ndarray, window: np.ndarray) -> Distance:
    """Population stability index sum (p - q) ln(p / q) of two lists of counts.

    Half a count is added to every bin, so that an empty one has a logarithm. Expected
    (bins - 1)(1/n + 1/N): the usual limits .1 and .25 are right for no size in particular.

    Args:
        reference: [bins] counts.
        window: [bins] counts.

    Raises:
        ValueError: lists of other lengths, or without counts.

    Example:
        >>> psi(np.array([5, 5]), np.array([5, 5])).value
        0.0
    """
    reference, window = _counts(reference, window)
    p, q = (counts + 0.5 for counts in (window, reference))
    p, q = p / p.sum(), q / q.sum()
    rate = 1 / reference.sum() + 1 / window.sum()
    return Distance(float(np.sum((p - q) * np.log(p / q))), (len(p) - 1) * rate)


def jensen_shannon(reference: np.ndarray, window: np.ndarray) -> Distance:
    """Jensen-Shannon divergence of two lists of counts, in nats; expected (bins - 1)/8 (1/n + 1/N).

    Args:
        reference: [bins] counts; bins that are empty in both are left out.
        window: [bins] counts.

    Raises:
        ValueError: lists of other lengths, or without counts.

    Example:
        >>> round(jensen_shannon(np.array([1, 0]), np.array([0, 1])).value, 6)  # ln 2
        0.693147

    Reference: Lin, Divergence measures based on the Shannon entropy, 1991.
    """
    reference, window = _counts(reference, window)
    p, q = window / window.sum(), reference / reference.sum()
    middle = (p + q) / 2
    value = sum(float(np.sum(scipy.special.rel_entr(one, middle))) for one in (p, q)) / 2
    rate = 1 / reference.sum() + 1 / window.sum()
    return Distance(max(value, 0.0), (np.count_nonzero(middle) - 1) / 8 * rate)


def kolmogorov_smirnov(reference: np.ndarray, window: np.ndarray) -> Distance:
    """The largest gap of two distribution functions; expected sqrt(pi/2) ln 2 sqrt(1/n + 1/N).

    Args:
        reference: [N] numbers.
        window: [n] numbers.

    Returns:
        The distance, with the asymptotic two-sided p.

    Raises:
        ValueError: not two lists, or an empty one.

    Example:
        >>> kolmogorov_smirnov(np.arange(4.0), np.arange(4.0) + 9).value
        1.0

    Reference: Smirnov, Table for estimating the goodness of fit, 1948.
    """
    reference, window = np.sort(np.asarray(reference, float)), np.sort(np.asarray(window, float))
    for name, rows in (("reference", reference), ("window", window)):
        checks.check(rows.ndim == 1 and len(rows) > 0, f"{name}: expected a list of numbers")
    every = np.concatenate([reference, window])
    left = np.searchsorted(reference, every, side="right") / len(reference)
    value = float(np.abs(left - np.searchsorted(window, every, side="right") / len(window)).max())
    root = math.sqrt(_rate(reference, window))
    expected = math.sqrt(math.pi / 2) * math.log(2) * root
    return Distance(value, expected, float(scipy.special.kolmogorov(value / root)))


def median_distance(vectors: np.ndarray, rows: int = 1_000) -> float:
    """The median squared distance of different rows, the scale of the kernel exp(-|x-y|^2/scale).

    Args:
        vectors: [rows, dim] floats.
        rows: how many of them are looked at, spread evenly.
    """
    chosen = np.asarray(vectors[np.linspace(0, len(vectors) - 1, rows, dtype=int)], np.float64)
    chosen = np.unique(chosen, axis=0) if len(vectors) < rows else chosen
    pairs = np.triu_indices(len(chosen), 1)
    found = float(np.median(_squared(chosen, chosen)[pairs])) if len(chosen) > 1 else 0.0
    return found if found > 0 else 1.0


def mmd(reference: np.ndarray, window: np.ndarray, scale: float | None = None) -> Distance:
    """Unbiased squared maximum mean discrepancy with k = exp(-|x-y|^2 / scale); expected 0.

    Args:
        reference: [N, dim] floats.
        window: [n, dim] floats. Of a large set take a random sample, never its first rows.
        scale: of the kernel; default `median_distance` of the reference.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Reference: Gretton et al., A kernel two-sample test, 2012.
    """
    reference, window = _pair(reference, window)
    scale = median_distance(reference) if scale is None else scale

    def total(left, right):
        return sum(float(np.exp(-part / scale).sum()) for part in _squared_blocks(left, right))

    sizes = len(reference), len(window)
    own = [
        (total(rows, rows) - size) / (size * (size - 1))
        for rows, size in zip((reference, window), sizes, strict=True)
    ]
    return Distance(sum(own) - 2 * total(reference, window) / (sizes[0] * sizes[1]), 0.0)


class RandomFeatures:
    """Features whose inner products approach the kernel exp(-|x-y|^2 / scale).

    z(x) = sqrt(2/count) [cos(x W), sin(x W)], W ~ N(0, 2/scale) of count / 2 columns

    Args:
        dim: of the vectors.
        scale: of the kernel.
        count: how many features, an even number.
        seed: of the draw.

    Reference: Rahimi and Recht, Random features for large-scale kernel machines, 2007.
    """

    def __init__(self, dim: int, scale: float, count: int = 1_024, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.count = count
        size = (dim, count // 2)
        self._weights = rng.normal(0, math.sqrt(2 / scale), size).astype(np.float32)

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """[rows, count] float32 features of [rows, dim] vectors."""
        turned = np.asarray(vectors, np.float32) @ self._weights
        made = np.empty((len(turned), self.count), np.float32)
        half = self.count // 2
        np.cos(turned, out=made[:, :half])
        np.sin(turned, out=made[:, half:])
        made *= math.sqrt(2 / self.count)
        return made


def mmd_features(reference: np.ndarray, window: np.ndarray) -> Distance:
    """|mean z(W) - mean z(R)|^2 of random features; expected tr(cov z)(1/n + 1/N).

    Args:
        reference: [N, count] features of `RandomFeatures`.
        window: [n, count] features.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.
    """
    return mean_shift(reference, window)


def energy(reference: np.ndarray, window: np.ndarray) -> Distance:
    """Energy distance 2E|X-Y| - E|X-X'| - E|Y-Y'|; expected (1/n + 1/N) E|X-X'|.

    Args:
        reference: [N, dim] floats.
        window: [n, dim] floats.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.

    Reference: Szekely and Rizzo, Energy statistics, 2013.
    """
    reference, window = _pair(reference, window)

    def mean(left, right):
        total = sum(float(np.sqrt(part).sum()) for part in _squared_blocks(left, right))
        return total / (len(left) * len(right))

    own = mean(reference, reference)
    value = 2 * mean(reference, window) - own - mean(window, window)
    different = own * len(reference) / (len(reference) - 1)
    return Distance(value, different * _rate(reference, window))


def classifier_auc(reference: np.ndarray, window: np.ndarray, seed: int = 0) -> Distance:
    """How well a linear discriminant separates the sets: area under its ROC curve; expected 0.5.

    Two folds: each half is scored by the discriminant of the other one.

    Args:
        reference: [N, dim] floats.
        window: [n, dim] floats.
        seed: of the split.

    Raises:
        ValueError: naming the argument with the wrong shape or dtype.
    """
    reference, window = _pair(reference, window)
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(len(rows)), 2) for rows in (reference, window)]
    found = []
    for fold in (0, 1):
        train = reference[halves[0][1 - fold]], window[halves[1][1 - fold]]
        test = reference[halves[0][fold]], window[halves[1][fold]]
        spread = sum(np.cov(rows, rowvar=False, ddof=0) * len(rows) for rows in train)
        spread = np.atleast_2d(spread) / sum(map(len, train))
        direction = _solve(spread, train[1].mean(axis=0) - train[0].mean(axis=0))
        found.append(area_under_curve(test[0] @ direction, test[1] @ direction))
    return Distance(float(np.mean(found)), 0.5)


def area_under_curve(negatives: np.ndarray, positives: np.ndarray) -> float:
    """P(positive > negative) + P(equal) / 2 of two lists of scores.

    Example:
        >>> area_under_curve(np.array([0.1, 0.4]), np.array([0.3, 0.9]))
        0.75
    """
    negatives = np.sort(negatives)
    below = np.searchsorted(negatives, positives, side="left")
    upto = np.searchsorted(negatives, positives, side="right")
    return float(np.mean(below + upto) / 2 / len(negatives))


def _pair(reference, window) -> tuple[np.ndarray, np.ndarray]:
    for name, rows in (("reference", reference), ("window", window)):
        checks.check_rank(name, rows, 2)
        checks.check_floating(name, rows)
        checks.check(len(rows) > 1, f"{name}: expected at least 2 rows, got {len(rows)}")
    checks.check_shape("window", window, (None, reference.shape[1]))
    return np.asarray(reference, np.float64), np.asarray(window, np.float64)


def _counts(reference, window) -> tuple[np.ndarray, np.ndarray]:
    checks.check_rank("reference", reference, 1)
    checks.check_shape("window", window, np.shape(reference))
    for name, counts in (("reference", reference), ("window", window)):
        checks.check(np.sum(counts) > 0, f"{name}: expected counts, got none")
    return np.asarray(reference, np.float64), np.asarray(window, np.float64)


def _rate(reference, window) -> float:
    return 1 / len(reference) + 1 / len(window)


def _covariance(rows: np.ndarray) -> np.ndarray:
    return np.atleast_2d(np.cov(rows, rowvar=False))


def _solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """matrix^-1 right, with a ridge far below its mean eigenvalue for vectors that fill no axis."""
    ridge = 1e-9 * max(float(np.trace(matrix)) / len(matrix), 1e-30)
    return np.linalg.solve(matrix + ridge * np.eye(len(matrix)), right)


def _bures(before: np.ndarray, now: np.ndarray) -> float:
    values, vectors = np.linalg.eigh(before)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.linalg.eigvalsh(root @ now @ root)
    total = np.trace(before) + np.trace(now) - 2 * np.sqrt(np.maximum(cross, 0)).sum()
    return max(float(total), 0.0)


def _squared(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    sizes = [np.einsum("nd,nd->n", rows, rows) for rows in (left, right)]
    return np.maximum(sizes[0][:, None] + sizes[1] - 2 * left @ right.T, 0)


def _squared_blocks(left: np.ndarray, right: np.ndarray):
    size = max(1, _BLOCK // len(right))
    for start in range(0, len(left), size):
        yield _squared(left[start : start + size], right)
