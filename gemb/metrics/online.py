"""Statistics of online tests: differences of two arms, sample ratios, looks, interleaving.

Arrays in, numbers out. Reading logs and giving a verdict is in gemb.analysis.online.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.special

from gemb import checks

_POINTS = 201  # of the density between two looks


class Difference(NamedTuple):
    """The second arm's figure less the first one's.

    Attributes:
        difference: treatment less control.
        error: its standard error.
        low, high: the confidence interval.
        p: two-sided.
    """

    difference: float
    error: float
    low: float
    high: float
    p: float


def welch(control: np.ndarray, treatment: np.ndarray, *, alpha: float = 0.05) -> Difference:
    """Difference of two means with unequal variances (Welch's t-test).

    Args:
        control: [units] one number per unit.
        treatment: [units] likewise.
        alpha: the interval has confidence 1 - alpha.

    Raises:
        ValueError: fewer than two units in an arm, values that are not finite, or variance 0.

    Reference: Welch, The generalization of Student's problem, 1947.
    """
    control, treatment = (
        _values(n, v) for n, v in (("control", control), ("treatment", treatment))
    )
    parts = [float(values.var(ddof=1)) / len(values) for values in (control, treatment)]
    free = sum(parts) ** 2 / max(
        sum(p**2 / (len(v) - 1) for p, v in zip(parts, (control, treatment), strict=True)), 1e-300
    )
    return _difference(treatment.mean() - control.mean(), sum(parts), alpha, free)


def ratio_difference(
    control: tuple[np.ndarray, np.ndarray],
    treatment: tuple[np.ndarray, np.ndarray],
    *,
    alpha: float = 0.05,
) -> Difference:
    """Difference of two ratios of means, such as clicks per view, by the delta method.

    var(y/x) = (var y - 2 r cov(x, y) + r^2 var x) / (n mean(x)^2), r = mean(y) / mean(x): units,
    not views, are independent

    Args:
        control: numerator and denominator, each [units].
        treatment: likewise.
        alpha: the interval has confidence 1 - alpha.

    Raises:
        ValueError: as `welch`; or a denominator whose mean is 0.

    Reference: Deng, Knoblich and Lu, Applying the delta method in metric analytics, 2018, arXiv
        1803.06336.
    """
    ratios, variances = [], []
    for name, (top, bottom) in (("control", control), ("treatment", treatment)):
        top, bottom = _values(name, top), _values(name, bottom)
        checks.check_shape(name, bottom, top.shape)
        checks.check(bool(bottom.mean()), f"{name}: the mean of the denominator is 0")
        ratio = top.mean() / bottom.mean()
        spread = (top - ratio * bottom).var(ddof=1)
        ratios.append(ratio)
        variances.append(spread / len(top) / bottom.mean() ** 2)
    return _difference(ratios[1] - ratios[0], sum(variances), alpha)


class Adjusted(NamedTuple):
    """Outcomes with the part removed that a covariate predicts.

    Attributes:
        values: [units] adjusted outcomes, with the same mean.
        rho: correlation of outcome and covariate: the variance falls to 1 - rho^2.
    """

    values: np.ndarray
    rho: float


def cuped(outcome: np.ndarray, covariate: np.ndarray) -> Adjusted:
    """y - theta (x - mean x), theta = cov(x, y) / var x, over the units of all arms together.

    Args:
        outcome: [units].
        covariate: [units] measured *before* exposure; else it may remove the effect itself.

    Raises:
        ValueError: lists of other lengths, or values that are not finite.

    Example:
        >>> found = cuped(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 4.0]))
        >>> round(found.rho, 6), float(found.values.std().round(6))
        (1.0, 0.0)

    Reference: Deng, Xu, Kohavi and Walker, Improving the sensitivity of online controlled
        experiments by utilizing pre-experiment data, 2013.
    """
    outcome, covariate = _values("outcome", outcome), _values("covariate", covariate)
    checks.check_shape("covariate", covariate, outcome.shape)
    centred = covariate - covariate.mean()
    spread, other = float(centred @ centred), float(np.sum(np.square(outcome - outcome.mean())))
    if not spread or not other:
        return Adjusted(outcome, 0.0)
    shared = float(centred @ outcome)
    return Adjusted(outcome - shared / spread * centred, shared / math.sqrt(spread * other))


def sample_ratio(counts: Sequence[int], shares: Sequence[float]) -> float:
    """p of the chi-square test that units came to the arms in the planned shares.

    Args:
        counts: units per arm.
        shares: planned shares, which sum to 1.

    Raises:
        ValueError: other lengths, or shares that do not sum to 1.

    Example:
        >>> sample_ratio([500, 500], [0.5, 0.5])
        1.0
    """
    counts, shares = _shares(counts, shares)
    expected = counts.sum() * shares
    value = float(np.sum(np.square(counts - expected) / expected))
    return float(scipy.special.chdtrc(len(counts) - 1, value))


def sequential_sample_ratio(
    arms: np.ndarray, shares: Sequence[float], *, concentration: float = 1_000.0
) -> float:
    """p, valid at every moment, that units come to the arms in the planned shares.

    p = min_t 1 / BF_t, BF the Bayes factor of a Dirichlet(concentration shares) prior against the
    planned shares

    Args:
        arms: [units] the number of each unit's arm, in the order of exposure.
        shares: planned shares, which sum to 1.
        concentration: how near to the plan a wrong ratio is thought to be.

    Raises:
        ValueError: shares that do not sum to 1, or another number of an arm.

    Reference: Lindon and Malek, Anytime-valid inference for multinomial count data, 2022, arXiv
        2011.03567.
    """
    arms = np.asarray(arms, dtype=np.int64)
    shares = _shares(np.zeros(len(shares)), shares)[1]
    checks.check(
        not len(arms) or (arms.min() >= 0 and arms.max() < len(shares)),
        f"arms: expected numbers below {len(shares)}",
    )
    logs = np.zeros(len(arms))
    prior, steps = concentration * shares, np.arange(1, len(arms) + 1)
    for arm, share in enumerate(shares):
        counts = np.cumsum(arms == arm)
        logs += scipy.special.gammaln(prior[arm] + counts) - scipy.special.gammaln(prior[arm])
        logs -= counts * math.log(share)
    logs -= scipy.special.gammaln(concentration + steps) - scipy.special.gammaln(concentration)
    return float(min(1.0, math.exp(-max(float(logs.max(initial=0.0)), 0.0))))


def confidence_sequence(
    error: np.ndarray | float, units: np.ndarray | int, *, tuned: int, alpha: float = 0.05
) -> np.ndarray:
    """Half the width of an interval that is valid at every number of units.

    s sqrt( 2 (n r^2 + 1) / (n^2 r^2) ln( sqrt(n r^2 + 1) / alpha ) ),  s = error sqrt(n),
    r^2 = (-2 ln alpha + ln(1 - 2 ln alpha)) / tuned

    Args:
        error: standard error of the difference at each moment.
        units: units so far, at each moment.
        tuned: the number of units at which the interval is narrowest, compared with a fixed one.
        alpha: chance that it ever misses the true difference.

    Raises:
        ValueError: tuned or alpha out of range.

    Reference: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, Time-uniform central limit theory
        and asymptotic confidence sequences, 2021, arXiv 2103.06476.
    """
    checks.check(tuned > 0, f"tuned: expected a positive number of units, got {tuned}")
    checks.check(0 < alpha < 1, f"alpha: expected a number between 0 and 1, got {alpha}")
    units = np.asarray(units, np.float64)
    rate = (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha))) / tuned
    inner = units * rate + 1
    return error * np.sqrt(units * 2 * inner / (units**2 * rate) * np.log(np.sqrt(inner) / alpha))


def obrien_fleming(fractions: Sequence[float], *, alpha: float = 0.05) -> np.ndarray:
    """Bounds of |z| at each look so that all looks together are wrong in `alpha` of the cases.

    z_k = c / sqrt(t_k); c is found by bisection, the chance of crossing by integrating the density
    of the Brownian path from look to look

    Args:
        fractions: t, the share of the planned units at each look, increasing up to 1.
        alpha: two-sided.

    Returns:
        [looks] bounds.

    Raises:
        ValueError: fractions that do not increase within (0, 1], or alpha out of range.

    Example:
        >>> obrien_fleming([1.0]).round(3).tolist()
        [1.96]

    Reference: O'Brien and Fleming, A multiple testing procedure for clinical trials, 1979;
        Armitage, McPherson and Rowe, Repeated significance tests on accumulating data, 1969.
    """
    times = np.asarray(fractions, np.float64)
    checks.check(0 < alpha < 1, f"alpha: expected a number between 0 and 1, got {alpha}")
    checks.check(
        len(times) > 0 and times[0] > 0 and times[-1] <= 1 and bool(np.all(np.diff(times) > 0)),
        f"fractions: expected numbers that increase within (0, 1], got {list(fractions)}",
    )
    low, high = 0.0, 10.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if _crossing(times, middle) > alpha else (low, middle)
    return high / np.sqrt(times)


def minimum_detectable_effect(
    deviation: float, units: int, *, share: float = 0.5, alpha: float = 0.05, power: float = 0.8
) -> float:
    """The smallest difference of means that a test of so many units finds with a given power.

    Args:
        deviation: standard deviation of a unit's outcome; sqrt(p (1 - p)) of a rate p.
        units: units of both arms together.
        share: share of the treatment.
        alpha: two-sided.
        power: chance to find it.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> round(minimum_detectable_effect(1.0, 1570), 3)
        0.141
    """
    factor = _factor(deviation, share, alpha, power)
    checks.check(units > 1, f"units: expected at least 2, got {units}")
    return factor / math.sqrt(units)


def sample_size(
    deviation: float, effect: float, *, share: float = 0.5, alpha: float = 0.05, power: float = 0.8
) -> int:
    """Units of both arms that find a difference of means; see `minimum_detectable_effect`.

    Raises:
        ValueError: an argument out of range.

    Example:
        >>> sample_size(1.0, 0.2)
        785
    """
    checks.check(effect != 0, "effect: expected another number than 0")
    return math.ceil((_factor(deviation, share, alpha, power) / effect) ** 2)


class Draft(NamedTuple):
    """One list made of two rankings.

    Attributes:
        items: what to show, best first.
        teams: for each item 0 or 1, the ranking whose turn gave it.
    """

    items: list
    teams: list[int]


def team_draft(left: Sequence, right: Sequence, count: int, rng: np.random.Generator) -> Draft:
    """Interleaves two rankings: in each round both give their best item that is not yet taken.

    Args:
        left: items, best first.
        right: items, best first.
        count: how many to show.
        rng: decides by coin who begins a round.

    Example:
        >>> draft = team_draft("abc", "bcd", 4, np.random.default_rng(0))
        >>> sorted(draft.items)
        ['a', 'b', 'c', 'd']

    Reference: Radlinski, Kurup and Joachims, How does clickthrough data reflect retrieval quality?,
        2008.
    """
    rankings, items, teams, taken = (list(left), list(right)), [], [], set()
    while len(items) < count:
        first = int(rng.integers(2))
        given = 0
        for team in (first, 1 - first):
            best = next((item for item in rankings[team] if item not in taken), None)
            if best is None or len(items) == count:
                continue
            items.append(best)
            teams.append(team)
            taken.add(best)
            given += 1
        if not given:
            break
    return Draft(items, teams)


def interleaving_credit(teams: Sequence[int], clicked: Sequence[int]) -> int:
    """+1 if the right ranking's items got more clicks, -1 if the left one's did, 0 if equal.

    Args:
        teams: of `Draft`.
        clicked: positions that were clicked.

    Example:
        >>> interleaving_credit([0, 1, 1], [1])
        1
    """
    votes = sum(1 if teams[place] else -1 for place in set(clicked))
    return (votes > 0) - (votes < 0)


def sign_test(wins: int, losses: int) -> float:
    """Two-sided exact p that wins and losses are equally likely; ties are left out.

    Example:
        >>> sign_test(5, 0)
        0.0625
    """
    total, least = wins + losses, min(wins, losses)
    return float(min(1.0, 2 * scipy.special.bdtr(least, total, 0.5))) if total else 1.0


def normal_quantile(p: float) -> float:
    """The standard normal's quantile."""
    return float(scipy.special.ndtri(p))


def _factor(deviation: float, share: float, alpha: float, power: float) -> float:
    checks.check(deviation > 0, f"deviation: expected a positive number, got {deviation}")
    for name, value in (("share", share), ("alpha", alpha), ("power", power)):
        checks.check(0 < value < 1, f"{name}: expected a number between 0 and 1, got {value}")
    z = normal_quantile(1 - alpha / 2) + normal_quantile(power)
    return z * deviation / math.sqrt(share * (1 - share))


def _difference(gap, variance, alpha: float, free: float | None = None) -> Difference:
    checks.check(0 < alpha < 1, f"alpha: expected a number between 0 and 1, got {alpha}")
    checks.check(variance > 0, "the variance of the metric is 0: every unit has the same value")
    error = math.sqrt(variance)
    if free is None:
        p = 2 * float(scipy.special.ndtr(-abs(gap) / error))
        wide = normal_quantile(1 - alpha / 2) * error
    else:
        p = 2 * float(scipy.special.stdtr(free, -abs(gap) / error))
        wide = float(scipy.special.stdtrit(free, 1 - alpha / 2)) * error
    return Difference(float(gap), error, float(gap) - wide, float(gap) + wide, p)


def _values(name: str, values) -> np.ndarray:
    values = np.asarray(values, np.float64)
    checks.check_rank(name, values, 1)
    checks.check(len(values) > 1, f"{name}: expected at least 2 units, got {len(values)}")
    checks.check(bool(np.isfinite(values).all()), f"{name}: expected finite values")
    return values


def _shares(counts, shares) -> tuple[np.ndarray, np.ndarray]:
    counts, shares = np.asarray(counts, np.float64), np.asarray(shares, np.float64)
    checks.check_shape("shares", shares, counts.shape)
    good = len(shares) > 1 and bool((shares > 0).all()) and abs(shares.sum() - 1) < 1e-9
    checks.check(good, f"shares: expected two or more that sum to 1, got {shares.tolist()}")
    return counts, shares


def _crossing(times: np.ndarray, bound: float) -> float:
    """P(|B(t_k)| >= bound at some k), B a Brownian path: |z_k| >= bound / sqrt(t_k)."""
    points, weights = np.polynomial.legendre.leggauss(_POINTS)
    grid, weights = bound * points, bound * weights
    stayed = float(2 * scipy.special.ndtr(bound / math.sqrt(times[0])) - 1)
    density = _normal(grid, times[0])
    for apart in np.diff(times):
        kernel = _normal(grid[:, None] - grid, apart)
        inside = scipy.special.ndtr((bound - grid) / math.sqrt(apart))
        inside -= scipy.special.ndtr((-bound - grid) / math.sqrt(apart))
        stayed = float((density * weights) @ inside)
        density = kernel @ (density * weights)
    return 1 - stayed


def _normal(x: np.ndarray, variance: float) -> np.ndarray:
    return np.exp(-np.square(x) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
