"""Compares several runs: their curves, last and best figures, and how their configs differ.

This module returns values only; `gemb.reports.comparison_page` draws the page.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.runs.curves import Run, read_run
from gemb.runs.records import METRICS_FILE

POINTS = 400  # per drawn curve; longer curves are averaged, to keep the page small
_HIGHER = re.compile(r"accuracy|ndcg|recall|mrr|\bmap\b|spearman|pearson|f1", re.I)
_LOWER = re.compile(r"loss", re.I)
_FIRST = ("loss", "gradient_norm", "accuracy", "pairs_per_second", "tokens_per_second")


def compare(workdirs: Sequence[str | Path], *, smoothing: int = 0) -> dict:
    """Compares runs, finished or not.

    Args:
        workdirs: of `gemb train`.
        smoothing: steps of the running mean that curves, last and best figures are taken from; 0
            for a twentieth of the longest run.

    Returns:
        {"smoothing", "runs": {name: {"workdir", "steps", "of", "finished", "seconds", "result",
        "last": {metric: value}, "best": {metric: {"value", "step"}}}},
        "config": {binding: {name: value or None}}, of bindings that differ,
        "curves": {metric: {name: {"step", "raw", "smooth"}}}}. A number that is not finite is left
        out of curves and figures.

    Raises:
        UserError: for a folder that is not a run, a run without rows, a repeated folder, or runs
            without any metric.
    """
    if not workdirs:
        raise UserError("no runs are given; name their workdirs: gemb compare runs/a runs/b")
    if smoothing < 0:
        raise UserError(f"--smoothing: expected 0 or more steps, got {smoothing}")
    runs = {name: read_run(place) for name, place in names_of(workdirs).items()}
    window = smoothing or max(max(run.rows[-1]["step"] for run in runs.values()) // 20, 1)
    series = {name: _series(run.rows) for name, run in runs.items()}
    metrics = _ordered({metric for one in series.values() for metric in one})
    if not metrics:
        raise UserError(f"{METRICS_FILE} of these runs holds no numbers to compare")
    smooth = {
        name: {
            metric: (steps, _running_mean(steps, values, window))
            for metric, (steps, values) in one.items()
        }
        for name, one in series.items()
    }
    return {
        "smoothing": window,
        "runs": {name: _about(run, smooth[name], metrics) for name, run in runs.items()},
        "config": config_differences({name: run.config for name, run in runs.items()}),
        "curves": {
            metric: {
                name: _curve(series[name][metric], smooth[name][metric])
                for name in runs
                if metric in series[name]
            }
            for metric in metrics
        },
    }


def names_of(workdirs: Sequence[str | Path]) -> dict[str, Path]:
    """A short name for each run: the name of its folder if it is unique, else the path as given.

    Raises:
        UserError: for one folder twice.
    """
    paths = [Path(place) for place in workdirs]
    whole = [path.resolve() for path in paths]
    for i, path in enumerate(whole):
        if path in whole[:i]:
            raise UserError(f"{paths[i]} is given twice")
    short = [path.name for path in whole]
    names = short if len(set(short)) == len(short) and all(short) else map(str, paths)
    return dict(zip(names, paths, strict=True))


def config_differences(configs: dict[str, dict[str, str]]) -> dict[str, dict[str, str | None]]:
    """The bindings that differ between runs: {binding: {run: value or None}}.

    Example:
        >>> config_differences({"a": {"STEPS": "1", "SEED": "0"}, "b": {"STEPS": "2", "SEED": "0"}})
        {'STEPS': {'a': '1', 'b': '2'}}
    """
    names = dict.fromkeys(name for config in configs.values() for name in config)
    found = {name: {run: config.get(name) for run, config in configs.items()} for name in names}
    return {name: values for name, values in found.items() if len(set(values.values())) > 1}


def better(metric: str) -> int:
    """1 if higher is better for this metric, -1 if lower is better, 0 if not known."""
    if _HIGHER.search(metric):
        return 1
    return -1 if _LOWER.search(metric) else 0


def _series(rows: list[dict]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """metric -> (steps, values), of the rows that have it as a finite number."""
    points: dict[str, list] = {}
    for row in rows:
        for metric, value in row.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if metric != "step" and number and math.isfinite(value):
                points.setdefault(metric, []).append((row["step"], float(value)))
    return {metric: tuple(np.array(found).T) for metric, found in points.items()}


def _running_mean(steps: np.ndarray, values: np.ndarray, window: int) -> np.ndarray:
    """The mean of each value and of those of the `window` steps that end with its own."""
    last = np.arange(1, len(values) + 1)
    first = np.searchsorted(steps, steps - window, side="right")
    ends = np.stack([first, last], axis=1).ravel()  # each window is added up by itself
    return np.add.reduceat(np.append(values, 0.0), ends)[::2] / (last - first)


def _curve(raw: tuple, smooth: tuple) -> dict[str, list]:
    steps, values = raw
    size = -(-len(steps) // POINTS)
    edges = np.arange(0, len(steps), size)
    counts = np.diff(np.append(edges, len(steps)))
    ends = np.append(edges[1:], len(steps)) - 1
    return {
        "step": [int(step) for step in steps[ends]],
        "raw": (np.add.reduceat(values, edges) / counts).tolist(),
        "smooth": smooth[1][ends].tolist(),
    }


def _about(run: Run, smooth: dict, metrics: list[str]) -> dict:
    best = {}
    for metric in metrics:
        sign = better(metric)
        if sign and metric in smooth:
            steps, values = smooth[metric]
            at = int(np.argmax(sign * values))
            best[metric] = {"value": float(values[at]), "step": int(steps[at])}
    names = ("experiment.Experiment.steps", "loop.train.steps")  # the second in older runs
    planned = next((run.config[name] for name in names if name in run.config), "")
    planned = run.config.get(planned.removeprefix("%"), planned)
    return {
        "workdir": str(run.workdir),
        "steps": run.rows[-1]["step"],
        "of": int(planned) if planned.isdecimal() else None,
        "finished": run.finished,
        "seconds": run.seconds,
        "result": None if run.result is None else dict([run.result]),
        "last": {metric: float(smooth[metric][1][-1]) for metric in metrics if metric in smooth},
        "best": best,
    }


def _ordered(metrics: set[str]) -> list[str]:
    def rank(metric):
        place = _FIRST.index(metric) if metric in _FIRST else len(_FIRST)
        return (place, "per_second" in metric, metric)

    return sorted(metrics, key=rank)
