"""The verdict on an online test with two arms.

A fixed plan says how many units there will be and how often it is looked: looks are repeated on the
units that had been exposed by then, with O'Brien-Fleming bounds, so that it does not matter when
the command is run. `sequential` watches without a plan, by a confidence sequence, which needs more
units. Without either there is no verdict, and none where the arms' sizes are not as planned.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gemb.analysis.online import logs
from gemb.checks import UserError
from gemb.metrics import online

SAMPLE_RATIO = 1e-3  # p below which the arms' sizes are not as planned
_TUNED = 5_000  # units at which a confidence sequence is narrowest, if there is no horizon
_FIRST = 100  # units before which no sequence is looked at
_POINTS = 60  # moments of a sequence that are drawn


class Plan(NamedTuple):
    """How a test is to be read; decided before it starts.

    Attributes:
        metric: of the outcomes.
        per: "unit", the sum of a unit's outcomes; or "request", outcomes per exposure, by the
            delta method.
        horizon: units of both arms at the end; 0: none.
        looks: how often it is looked until then, at equal distances.
        sequential: watch without a horizon.
        share: planned share of the treatment.
        alpha: two-sided, for all looks together.
    """

    metric: str
    per: str = "unit"
    horizon: int = 0
    looks: int = 5
    sequential: bool = False
    share: float = 0.5
    alpha: float = 0.05


def analyse(
    exposures: Sequence[Mapping],
    outcomes: Sequence[Mapping],
    plan: Plan,
    *,
    experiment: str = "",
    control: str = "",
    covariates: Sequence[Mapping] | None = None,
    drop_unmatched: bool = False,
) -> dict[str, Any]:
    """Analyses the logs of an experiment.

    Args:
        exposures, outcomes: rows, see `gemb.analysis.online.logs`.
        plan: how to read them.
        experiment: its name, if the log has several.
        control: name of the control arm.
        covariates: rows of "unit", "value" and perhaps "time", measured before the exposure.
        drop_unmatched: leave out outcomes without an exposure.

    Returns:
        "verdict" ("better", "worse", "no difference", "continue" or "refused") and "why"; "arms"
        with units and mean; "sample_ratio" p-values; "rho" of the covariate; "looks" or "sequence"
        rows; and the "difference" of all units so far with its plain interval, which is for
        information only.

    Raises:
        UserError: rows that cannot be joined, see `gemb.analysis.online.logs`; a covariate that was
            measured after the exposure; or a plan out of range.
    """
    _check(plan)
    chosen = logs.choose_experiment(exposures, experiment)
    units = logs.units_of(
        chosen, outcomes, plan.metric, control=control, drop_unmatched=drop_unmatched
    )
    rho = None
    if covariates is not None:
        if plan.per != "unit":
            raise UserError("a covariate needs --per=unit")
        adjusted = online.cuped(units.sums, _covariate(units, covariates))
        units, rho = units._replace(sums=adjusted.values), adjusted.rho
    shares = (1 - plan.share, plan.share)
    counts = np.bincount(units.arms, minlength=2)
    ratio = {
        "chi_square": online.sample_ratio(counts, shares),
        "sequential": online.sequential_sample_ratio(units.arms, shares),
    }
    tree = {
        "metric": plan.metric,
        "per": plan.per,
        "arms": [
            {"name": name, "units": int(counts[arm]), "mean": _mean(units, plan, arm)}
            for arm, name in enumerate(units.labels)
        ],
        "sample_ratio": ratio,
        "rho": rho,
        "difference": difference(units, plan, len(units.arms))._asdict(),
        "looks": [],
        "sequence": [],
    }
    if min(ratio.values()) < SAMPLE_RATIO:
        why = (
            f"sample-ratio mismatch: {counts[0]} and {counts[1]} units where "
            f"{shares[0]:.0%} and {shares[1]:.0%} were planned (p {min(ratio.values()):.2g}); find "
            "the cause before any figure is believed"
        )
        return tree | {"verdict": "refused", "why": why}
    return tree | (_sequence(units, plan) if plan.sequential else _planned(units, plan))


def difference(units: logs.Units, plan: Plan, count: int) -> online.Difference:
    """The difference of the first `count` units, treatment less control."""
    sides = [np.flatnonzero(units.arms[:count] == arm) for arm in (0, 1)]
    try:
        if plan.per == "unit":
            return online.welch(*(units.sums[rows] for rows in sides), alpha=plan.alpha)
        pairs = [(units.sums[rows], units.requests[rows]) for rows in sides]
        return online.ratio_difference(*pairs, alpha=plan.alpha)
    except ValueError as error:
        raise UserError(f"{plan.metric}: {error}") from None


def plan_size(
    *, rate: float = 0.0, deviation: float = 0.0, lift: float, share: float = 0.5, units: int = 0
) -> dict[str, float]:
    """Units that find an effect with 80 % power, or the effect that some units find.

    Args:
        rate: share of units with the outcome, for yes-no outcomes.
        deviation: standard deviation of the outcome, for others.
        lift: the effect to find, a difference of means; 0 to ask by units.
        share: of the treatment.
        units: of both arms, to ask for the effect.

    Raises:
        UserError: neither or both of rate and deviation, or of lift and units.
    """
    if bool(rate) == bool(deviation):
        raise UserError("give one of --rate (yes-no outcomes) and --deviation")
    if bool(lift) == bool(units):
        raise UserError("give one of --lift and --units")
    spread = math.sqrt(rate * (1 - rate)) if 0 < rate < 1 else deviation
    try:
        if lift:
            return {"units": online.sample_size(spread, lift, share=share)}
        return {"effect": online.minimum_detectable_effect(spread, units, share=share)}
    except ValueError as error:
        raise UserError(str(error)) from None


def _planned(units: logs.Units, plan: Plan) -> dict[str, Any]:
    """Repeats the planned looks; the verdict is that of the first one that crosses its bound."""
    total = len(units.arms)
    if not plan.horizon:
        why = (
            "peeking: a fixed test is read once, at its planned end; give --horizon (and --looks), "
            "or watch with --sequential"
        )
        return {"verdict": "refused", "why": why}
    fractions = np.arange(1, plan.looks + 1) / plan.looks
    due = [math.ceil(fraction * plan.horizon) for fraction in fractions]
    bounds = online.obrien_fleming(fractions, alpha=plan.alpha)
    if total < due[0]:
        what = "peeking: " if plan.looks == 1 else ""
        why = f"{what}{total} of {plan.horizon} planned units; the first look is at {due[0]}"
        return {"verdict": "refused", "why": why}
    rows = []
    for count, bound in zip(due, bounds, strict=True):
        if count > total:
            break
        found = difference(units, plan, count)
        z = found.difference / found.error
        row = {"units": count, "z": z, "bound": float(bound), "difference": found.difference}
        rows.append(row | {"error": found.error})
        if abs(z) >= bound:
            state = "better" if z > 0 else "worse"
            why = f"z {z:.2f} is beyond {bound:.2f} at the look with {count} units"
            return {"verdict": state, "why": why, "looks": rows}
    if rows[-1]["units"] == due[-1]:
        why = f"no bound was crossed in {plan.looks} looks at {plan.horizon} units"
        return {"verdict": "no difference", "why": why, "looks": rows}
    why = f"no bound was crossed so far; the next look is at {due[len(rows)]} units"
    return {"verdict": "continue", "why": why, "looks": rows}


def _sequence(units: logs.Units, plan: Plan) -> dict[str, Any]:
    total = len(units.arms)
    if total < _FIRST:
        why = f"{total} units; a sequence is looked at from {_FIRST} units on"
        return {"verdict": "continue", "why": why}
    moments = np.unique(np.geomspace(_FIRST, total, _POINTS).astype(int))
    rows = []
    for count in moments.tolist():
        try:
            found = difference(units, plan, count)
        except UserError:  # no outcome yet
            continue
        half = online.confidence_sequence(
            found.error, count, tuned=plan.horizon or _TUNED, alpha=plan.alpha
        )
        low, high = found.difference - float(half), found.difference + float(half)
        rows.append({"units": count, "difference": found.difference, "low": low, "high": high})
        if low > 0 or high < 0:
            state = "better" if low > 0 else "worse"
            why = f"the confidence sequence left 0 at {count} units: [{low:.4g}, {high:.4g}]"
            return {"verdict": state, "why": why, "sequence": rows}
    low, high = rows[-1]["low"], rows[-1]["high"]
    why = f"the confidence sequence has 0 inside: [{low:.4g}, {high:.4g}]"
    return {"verdict": "continue", "why": why, "sequence": rows}


def _covariate(units: logs.Units, rows: Sequence[Mapping]) -> np.ndarray:
    known = {}
    for number, row in enumerate(rows, 1):
        if "unit" not in row or not isinstance(row.get("value"), int | float):
            raise UserError(f"covariate: row {number}: expected a 'unit' and a number 'value'")
        known[str(row["unit"])] = (float(row["value"]), row.get("time"))
    values = []
    for unit, shown in zip(units.names, units.times, strict=True):
        value, when = known.get(unit, (math.nan, None))
        if when is not None and shown and when >= shown:
            raise UserError(f"covariate: of unit {unit!r} was measured after its exposure")
        values.append(value)
    made = np.array(values)
    if np.isnan(made).all():
        raise UserError("covariate: no unit of the experiment has a value")
    return np.where(np.isnan(made), np.nanmean(made), made)  # new units: the mean, no adjustment


def _mean(units: logs.Units, plan: Plan, arm: int) -> float:
    rows = units.arms == arm
    below = rows.sum() if plan.per == "unit" else units.requests[rows].sum()
    return float(units.sums[rows].sum() / below)


def _check(plan: Plan) -> None:
    if plan.per not in ("unit", "request"):
        raise UserError(f"--per: expected unit or request, got {plan.per!r}")
    if not 0 < plan.share < 1 or not 0 < plan.alpha < 1:
        raise UserError("--share and --alpha: expected numbers between 0 and 1")
    if plan.looks < 1 or plan.horizon < 0 or (plan.horizon and plan.horizon < 2 * plan.looks):
        raise UserError("--horizon: expected at least two units per look")
