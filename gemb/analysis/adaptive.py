"""Adaptive classification: narrow prefixes first, wider ones only if a head is not confident.

One head reads each width of a nested vector; an example exits at the first width whose largest
softmax probability reaches that width's threshold. Functions take arrays and return figures.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from gemb import checks
from gemb.metrics.geometry import truncate

_ITERATIONS = 200
_RATES = np.concatenate([[0.0], np.geomspace(1e-4, 0.3, 40)])


class Head(NamedTuple):
    """A linear classifier for one width.

    Attributes:
        weights: [width, classes] float32.
        bias: [classes] float32.
    """

    weights: np.ndarray
    bias: np.ndarray


def fit_heads(
    vectors: np.ndarray,
    labels: np.ndarray,
    widths: Sequence[int],
    *,
    tied: bool = False,
    strength: float = 10.0,
) -> dict[int, Head]:
    """Fits a softmax head at each width on frozen vectors, with prefixes of unit length.

    loss = sum over widths of mean cross-entropy + |weights|^2 / (2 * strength * examples).

    Args:
        vectors: [examples, dim] floats.
        labels: [examples] integer classes from 0.
        widths: leading coordinates that heads read.
        tied: False for a head of its own at each width (MRL); True for one matrix whose first rows
            serve each width (MRL-E), fitted at all widths together; the bias is each width's own.
        strength: inverse regularisation, C in scikit-learn.

    Returns:
        Heads by width, narrowest first.

    Raises:
        ValueError: shapes that do not fit, one class only, or a width outside 1 to dim.

    Reference: Kusupati et al., Matryoshka representation learning, 2022, arXiv 2205.13147, section
        3. There the encoder is trained along with the heads.
    """
    checks.check_rank("vectors", vectors, 2)
    checks.check_shape("labels", labels, (len(vectors),))
    checks.check_integer("labels", labels)
    checks.check(strength > 0, f"strength: expected above 0, got {strength}")
    classes = int(labels.max(initial=0)) + 1
    checks.check(classes > 1, "labels: expected two classes or more, got one")
    widths = sorted(checks.check_widths("widths", widths, vectors.shape[1]))
    groups = [widths] if tied else [[width] for width in widths]
    heads = {}
    for group in groups:
        heads |= _fit(vectors, labels, group, classes, strength)
    return heads


def probabilities(heads: Mapping[int, Head], vectors: np.ndarray) -> dict[int, np.ndarray]:
    """The softmax of each head: {width: [examples, classes]}."""
    found = {}
    for width, head in heads.items():
        logits = truncate(vectors, width) @ head.weights + head.bias
        logits = np.exp(logits - logits.max(axis=1, keepdims=True))
        found[width] = logits / logits.sum(axis=1, keepdims=True)
    return found


def learn_thresholds(
    by_width: Mapping[int, np.ndarray], labels: np.ndarray, *, tolerance: float = 0.005
) -> dict[int, float]:
    """Finds thresholds that keep the accuracy of the widest head at the least expected width.

    Width by width, the surest examples leave as long as no more than a share of them would have
    been right at the widest head and is wrong here, net; of forty such shares the one of the least
    expected width within the tolerance is kept.

    Args:
        by_width: {width: [examples, classes]} probabilities on validation examples.
        labels: [examples] classes.
        tolerance: accuracy that may be lost compared with the widest head.

    Returns:
        {width: threshold}, narrowest first; above 1 if no example exits, 0 for the widest.

    Raises:
        ValueError: shapes that do not fit, or a negative tolerance.

    Example:
        >>> narrow = np.array([[0.9, 0.1], [0.6, 0.4], [0.4, 0.6]])
        >>> wide = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]])
        >>> learn_thresholds({1: narrow, 2: wide}, np.array([0, 1, 1]), tolerance=0)
        {1: 0.9, 2: 0.0}
    """
    widths = _check_probabilities(by_width, labels)
    checks.check(tolerance >= 0, f"tolerance: expected 0 or more, got {tolerance}")
    least = _accuracy(by_width[widths[-1]], labels) - tolerance
    best, best_width = None, np.inf
    for rate in _RATES:
        thresholds = _thresholds_at(by_width, labels, widths, rate)
        predicted, used = classify(by_width, thresholds)
        enough = np.mean(predicted == labels) >= least - 1e-9
        if enough and used.mean() < best_width:
            best, best_width = thresholds, used.mean()
    # Never exiting early is always accurate enough.
    return best or dict.fromkeys(widths[:-1], 2.0) | {widths[-1]: 0.0}


def classify(
    by_width: Mapping[int, np.ndarray], thresholds: Mapping[int, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Classifies with early exit.

    Args:
        by_width: {width: [examples, classes]} probabilities.
        thresholds: {width: threshold} for the same widths.

    Returns:
        Classes [examples] int64, and the widths [examples] at which each example exited.

    Raises:
        ValueError: probabilities and thresholds for other widths.
    """
    widths = sorted(by_width)
    checks.check(
        widths == sorted(thresholds),
        f"thresholds: expected widths {widths}, got {sorted(thresholds)}",
    )
    predicted = by_width[widths[-1]].argmax(axis=1)
    used = np.full(len(predicted), widths[-1])
    for width in reversed(widths[:-1]):
        sure = by_width[width].max(axis=1) >= thresholds[width]
        predicted[sure] = by_width[width][sure].argmax(axis=1)
        used[sure] = width
    return predicted, used


def evaluate_adaptive(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    widths: Sequence[int],
    *,
    tied: bool = False,
    tolerance: float = 0.005,
) -> dict[str, float]:
    """Heads from "train", thresholds from "validation", figures from "test".

    Args:
        splits: those three names to ([examples, dim] vectors, [examples] classes).
        widths: leading coordinates that heads read; the widest is the reference.
        tied: see `fit_heads`.
        tolerance: see `learn_thresholds`.

    Returns:
        "accuracy" with early exit, "full_accuracy" of the widest head, "expected_width" the mean
        width at exit, "width_saving" the widest over it, and "computed_width" the mean of what was
        read in all: the same for tied heads, which go on where the narrower one stopped, and the
        sum of the widths tried for heads of their own.
    """
    checks.check(
        {"train", "validation", "test"} <= set(splits),
        f"splits: expected train, validation and test, got {sorted(splits)}",
    )
    heads = fit_heads(*splits["train"], widths, tied=tied)
    vectors, labels = splits["validation"]
    thresholds = learn_thresholds(probabilities(heads, vectors), labels, tolerance=tolerance)
    vectors, labels = splits["test"]
    by_width = probabilities(heads, vectors)
    predicted, used = classify(by_width, thresholds)
    tried = np.cumsum(sorted(by_width))[np.searchsorted(sorted(by_width), used)]
    return {
        "accuracy": float(np.mean(predicted == labels)),
        "full_accuracy": _accuracy(by_width[max(by_width)], labels),
        "expected_width": float(used.mean()),
        "width_saving": float(max(by_width) / used.mean()),
        "computed_width": float(used.mean() if tied else tried.mean()),
    }


def _fit(vectors, labels, widths: list[int], classes: int, strength: float) -> dict[int, Head]:
    """Heads that share the rows of one matrix."""
    import jax
    import jax.numpy as jnp
    from scipy.optimize import minimize

    inputs = {width: jnp.asarray(truncate(vectors, width)) for width in widths}
    shape = widths[-1] + len(widths), classes  # the matrix, then each width's bias
    rows = np.arange(len(labels))

    @jax.jit
    def loss(flat):
        table = flat.reshape(shape)
        weights, total = table[: widths[-1]], 0.0
        for number, width in enumerate(widths):
            logits = inputs[width] @ weights[:width] + table[widths[-1] + number]
            total -= jnp.mean(jax.nn.log_softmax(logits)[rows, labels])
        return total + jnp.sum(weights**2) / (2 * strength * len(labels))

    gradient = jax.jit(jax.value_and_grad(loss))

    def objective(flat):
        value, slope = gradient(flat.astype(np.float32))
        return float(value), np.asarray(slope, np.float64)

    start, options = np.zeros(shape[0] * shape[1]), {"maxiter": _ITERATIONS}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options=options).x
    table = found.reshape(shape).astype(np.float32)
    return {
        width: Head(table[:width], table[widths[-1] + number])
        for number, width in enumerate(widths)
    }


def _thresholds_at(by_width, labels, widths, rate: float) -> dict[int, float]:
    """Per width, the lowest threshold at which at most a share `rate` of examples is lost."""
    finally_right = by_width[widths[-1]].argmax(axis=1) == labels
    staying, thresholds = np.ones(len(labels), bool), {}
    for width in widths[:-1]:
        sure = by_width[width].max(axis=1)
        loss = finally_right.astype(int) - (by_width[width].argmax(axis=1) == labels)
        order = np.flatnonzero(staying)[np.argsort(-sure[staying], kind="stable")]
        allowed = np.cumsum(loss[order]) <= rate * np.arange(1, len(order) + 1)
        last = np.append(sure[order][:-1] > sure[order][1:], True)  # equals leave together
        ends = np.flatnonzero(allowed & last)
        thresholds[width] = float(sure[order[ends[-1]]]) if len(ends) else 2.0
        staying &= sure < thresholds[width]
    return thresholds | {widths[-1]: 0.0}


def _accuracy(table: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(table.argmax(axis=1) == labels))


def _check_probabilities(by_width, labels) -> list[int]:
    checks.check(len(by_width) > 0, "by_width: expected at least one width, got none")
    checks.check(len(labels) > 0, "labels: expected at least one example, got none")
    for width, table in by_width.items():
        checks.check_shape(f"by_width[{width}]", table, (len(labels), None))
    return sorted(by_width)
