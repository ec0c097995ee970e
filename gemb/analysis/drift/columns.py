"""Drift of feature columns: missing values, new categories, and the population stability index."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.special

from gemb.checks import UserError
from gemb.metrics import distances

_BINS = 10
_MOST_CATEGORIES = 50  # the rest counts as one
_GATE = 0.02  # change of a share that alarms at least


class ColumnDrift(NamedTuple):
    """What changed in a column.

    Attributes:
        missing_before, missing_now: shares of missing values.
        new: categories that the reference does not have, with their shares.
        psi: population stability index of the values that are not missing.
        expected: its mean without change.
        p: the smallest of the column's tests, adjusted for all columns by Holm.
        drifted: p < alpha, and a share changed by 2 points or PSI by more than noise.
    """

    missing_before: float
    missing_now: float
    new: dict[str, float]
    psi: float
    expected: float
    p: float
    drifted: bool


def judge_columns(
    before: Mapping[str, Sequence], now: Mapping[str, Sequence], *, alpha: float = 0.01
) -> dict[str, ColumnDrift]:
    """Compares feature columns of two periods.

    The threshold of PSI follows the sizes: without change PSI / (1/n + 1/N) is chi-square with
    bins - 1 degrees of freedom.

    Args:
        before: name -> values, numbers or texts; None and NaN are missing.
        now: the same columns later.
        alpha: for all columns together.

    Returns:
        name -> `ColumnDrift`.

    Raises:
        UserError: a column that is missing, empty, or numbers in one period and texts in the other.

    Example:
        >>> before, now = ["en"] * 99 + ["de"], ["en"] * 50 + ["fr"] * 50
        >>> found = judge_columns({"lang": before}, {"lang": now})
        >>> found["lang"].drifted, found["lang"].new
        (True, {'fr': 0.5})
    """
    if lacking := sorted(set(before) ^ set(now)):
        raise UserError(f"columns: {', '.join(lacking)}: not in both periods")
    found = {name: _column(name, list(before[name]), list(now[name])) for name in before}
    order = sorted(found, key=lambda name: found[name].p)
    largest = 0.0
    for step, name in enumerate(order):
        column = found[name]
        largest = max(largest, min(1.0, (len(order) - step) * column.p))
        changed = abs(column.missing_now - column.missing_before) > _GATE
        changed |= sum(column.new.values()) > _GATE or column.psi - column.expected > _GATE
        found[name] = column._replace(p=largest, drifted=bool(largest < alpha and changed))
    return found


def _column(name: str, before: list, now: list) -> ColumnDrift:
    if not before or not now:
        raise UserError(f"columns: {name}: no rows")
    real = [[value for value in rows if not _missing(value)] for rows in (before, now)]
    gone = [len(rows) - len(kept) for rows, kept in zip((before, now), real, strict=True)]
    shares = gone[0] / len(before), gone[1] / len(now)
    p = [_two_shares(gone, (len(before), len(now)))]
    psi, new = distances.Distance(0.0, 0.0), {}
    if real[0] and real[1]:
        numbers = {all(isinstance(value, int | float) for value in rows) for rows in real}
        if len(numbers) > 1:
            raise UserError(f"columns: {name}: numbers in one period and texts in the other")
        counts, new = _numbers(*real) if numbers == {True} else _categories(*real)
        if len(counts[0]) > 1:
            psi = distances.psi(*counts)
            scaled = psi.value / (1 / counts[0].sum() + 1 / counts[1].sum())
            p.append(float(scipy.special.chdtrc(len(counts[0]) - 1, scaled)))
    if new:
        p.append(_two_shares((0, round(sum(new.values()) * len(now))), (len(before), len(now))))
    least = min(1.0, len(p) * min(p))
    return ColumnDrift(*shares, new, psi.value, psi.expected, least, False)


def _numbers(before: list, now: list) -> tuple[tuple[np.ndarray, np.ndarray], dict]:
    edges = np.unique(np.quantile(np.float64(before), np.linspace(0, 1, _BINS + 1)[1:-1]))
    rows = (np.searchsorted(edges, np.float64(values), side="right") for values in (before, now))
    return tuple(np.bincount(one, minlength=len(edges) + 1) for one in rows), {}


def _categories(before: list, now: list) -> tuple[tuple[np.ndarray, np.ndarray], dict]:
    old, fresh = Counter(map(str, before)), Counter(map(str, now))
    new = {k: fresh[k] / len(now) for k, _ in fresh.most_common() if k not in old}
    kept = [name for name, _ in old.most_common(_MOST_CATEGORIES)]
    counts = []
    for each, size in ((old, len(before)), (fresh, len(now))):
        own = [each[name] for name in kept]
        counts.append(np.array([*own, size - sum(own)]))
    if not counts[0][-1] and not counts[1][-1]:
        counts = [each[:-1] for each in counts]
    return tuple(counts), dict(list(new.items())[:10])


def _missing(value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _two_shares(hits: Sequence[int], sizes: Sequence[int]) -> float:
    """Two-sided p that two shares are equal, by the pooled z-test."""
    pooled = sum(hits) / sum(sizes)
    error = math.sqrt(pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1]))
    if not error:
        return 1.0
    return 2 * float(scipy.special.ndtr(-abs(hits[1] / sizes[1] - hits[0] / sizes[0]) / error))
