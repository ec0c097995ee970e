"""Logs of an online test: what was shown to whom, and what came of it.

An exposure has "unit", "arm" and "request_id", and may have "experiment", "time", "hits" and
"teams", the ranking that gave each hit. An outcome has "request_id", metrics as numbers, and may
have "time" (seconds since 1970) and "hit", the id of what was chosen.
"""

import glob
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.data.sources import reading

Rows = Sequence[Mapping]


class Units(NamedTuple):
    """The units of an experiment in the order of their first exposure.

    Attributes:
        names: of the units.
        arms: [units] 0 for control, 1 for treatment.
        sums: [units] the metric, summed over the unit's outcomes.
        requests: [units] how many exposures.
        times: [units] seconds of the first exposure; 0 if unknown.
        labels: names of control and treatment.
    """

    names: list[str]
    arms: np.ndarray
    sums: np.ndarray
    requests: np.ndarray
    times: np.ndarray
    labels: tuple[str, str]


def read_log(place: str | Path) -> list[dict]:
    """Reads JSON lines; a rotated log (NAME.jsonl.1, .2 and so on) is read with its file.

    Raises:
        UserError: a missing or broken file.
    """
    path = Path(place)
    older = [p for p in glob.glob(f"{glob.escape(str(path))}.*") if p.rsplit(".", 1)[1].isdigit()]
    files = [*sorted(older, key=lambda p: int(p.rsplit(".", 1)[1])), *([path] * path.exists())]
    if not files:
        raise UserError(f"{path}: no such file")
    source = reading.files([str(file) for file in files], format="jsonl")
    return [source[row] for row in range(len(source))]


def choose_experiment(exposures: Rows, name: str = "") -> list[Mapping]:
    """The exposures of one experiment.

    Raises:
        UserError: none of them, or several experiments and no name.
    """
    if not exposures:
        raise UserError("exposures: no rows")
    names = sorted({str(row.get("experiment", "")) for row in exposures})
    if not name and len(names) > 1:
        raise UserError(f"exposures: of {', '.join(names)}; choose one with --experiment")
    rows = [row for row in exposures if str(row.get("experiment", "")) == (name or names[0])]
    if not rows:
        raise UserError(f"exposures: none of {name!r}; there are {', '.join(names)}")
    return rows


def units_of(
    exposures: Rows,
    outcomes: Rows,
    metric: str,
    *,
    control: str = "",
    drop_unmatched: bool = False,
) -> Units:
    """Joins outcomes to exposures by request and sums them by unit.

    Raises:
        UserError: a row without a field, a unit in two arms, not two arms, an outcome without
            exposure or before it, or a metric that is not a finite number.
    """
    units, requests = _exposed(exposures)
    order = sorted(units, key=lambda unit: units[unit][1])
    labels = _labels([units[unit][0] for unit in order], control)
    sums, unmatched = dict.fromkeys(order, 0.0), 0
    for number, row in enumerate(outcomes, 1):
        where = f"outcomes: row {number}"
        if row.get("request_id") not in requests:
            unmatched += 1
            continue
        unit, shown = requests[row["request_id"]]
        if "time" in row and shown and row["time"] < shown:
            raise UserError(f"{where}: came before its exposure ({row['time']} < {shown})")
        value = row.get(metric, 0)
        if isinstance(value, bool) or value is None:
            value = float(value or 0)
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{where}: {metric}: expected a finite number, got {value!r:.40}")
        sums[unit] += value
    if unmatched and not drop_unmatched:
        raise UserError(
            f"outcomes: {unmatched} have no exposure; leave them out with --drop_unmatched if they "
            "are of requests outside the experiment"
        )
    if outcomes and not any(metric in row for row in outcomes):
        raise UserError(f"outcomes: no row has {metric!r}")
    return Units(
        order,
        np.array([int(units[unit][0] == labels[1]) for unit in order]),
        np.array([sums[unit] for unit in order], np.float64),
        np.array([units[unit][2] for unit in order], np.float64),
        np.array([units[unit][1] for unit in order], np.float64),
        labels,
    )


def _exposed(exposures: Rows) -> tuple[dict, dict]:
    """unit -> [arm, first time, requests], and request -> (unit, time)."""
    units: dict[str, list] = {}
    requests: dict[str, tuple[str, float]] = {}
    for number, row in enumerate(exposures, 1):
        where = f"exposures: row {number}"
        if lacking := [name for name in ("unit", "arm", "request_id") if not row.get(name)]:
            raise UserError(f"{where}: lacks {', '.join(lacking)}")
        unit, arm, when = str(row["unit"]), str(row["arm"]), float(row.get("time", 0))
        known = units.setdefault(unit, [arm, when, 0])
        if known[0] != arm:
            raise UserError(f"{where}: unit {unit!r} is in two arms, {known[0]!r} and {arm!r}")
        known[1], known[2] = min(known[1], when), known[2] + 1
        requests[row["request_id"]] = unit, when
    return units, requests


def _labels(arms: Sequence[str], control: str) -> tuple[str, str]:
    names = sorted(set(arms))
    if len(names) != 2:
        raise UserError(f"exposures: expected two arms with units, got {', '.join(names)}")
    first = control or next((name for name in names if name in ("control", "old", "a")), names[0])
    if first not in names:
        raise UserError(f"--control: no arm {first!r}; there are {', '.join(names)}")
    return first, names[1 - names.index(first)]
