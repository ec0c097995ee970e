"""Reads runs from their workdirs: rows, config and main result, finished or not."""

from pathlib import Path
from typing import NamedTuple

from gemb.checks import UserError
from gemb.files import read_object
from gemb.runs.configs import read_config
from gemb.runs.records import CONFIG_FILE, METRICS_FILE, read_metrics


class Run(NamedTuple):
    """What is read from a workdir.

    Attributes:
        workdir: its folder.
        rows: the rows of metrics.jsonl, in order of their steps.
        config: binding -> value, from config.gin.
        finished: whether training reached its last step.
        seconds: training time; None if the run was resumed or is not finished.
        result: (name, value) of the main evaluation, or None.
    """

    workdir: Path
    rows: list[dict]
    config: dict[str, str]
    finished: bool
    seconds: float | None
    result: tuple[str, float] | None


def read_run(workdir: str | Path) -> Run:
    """Reads a run's workdir.

    Raises:
        UserError: if the folder is not a run, or has no rows yet.
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise UserError(f"{workdir} is not a folder; give the workdirs of gemb train")
    if not ((workdir / METRICS_FILE).exists() or (workdir / CONFIG_FILE).exists()):
        beside = (workdir.parent / METRICS_FILE).exists()
        hint = f"did you mean {workdir.parent}?" if beside else "give workdirs of gemb train"
        raise UserError(f"{workdir} is not a run: it has no {METRICS_FILE}; {hint}")
    rows = read_metrics(workdir)
    if not rows:
        raise UserError(
            f"{workdir / METRICS_FILE} has no rows: the run has not started; leave it out"
        )
    if not all(isinstance(row, dict) and isinstance(row.get("step"), int) for row in rows):
        raise UserError(
            f"{workdir / METRICS_FILE} has a row without a step; it was not written by gemb train"
        )
    return Run(
        workdir,
        sorted(rows, key=lambda row: row["step"]),
        read_config(workdir / CONFIG_FILE),
        finished(workdir),
        _seconds(workdir),
        main_result(workdir),
    )


def finished(workdir: Path) -> bool:
    """Whether training reached its last step."""
    return (Path(workdir) / "model" / "gemb.json").exists()


def main_result(workdir: Path) -> tuple[str, float] | None:
    """Name and value of a run's main figure, from results.json; None if there is none.

    This is nDCG@10 or, for a suite, the mean of its tasks, at the largest width.
    """
    tree = read_object(Path(workdir) / "results.json")
    suite = "averages" in tree
    try:
        models = tree["averages" if suite else "retrieval"]
        model = models["trained"] if "trained" in models else next(iter(models.values()))
        width = max(model, key=int)
        name = "mean of tasks" if suite else "ndcg@10"
        return f"{name} at {width}", float(model[width]["tasks" if suite else name])
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        return None


def _seconds(workdir: Path) -> float | None:
    manifest = read_object(workdir / "model" / "gemb.json")
    seconds = (manifest.get("training") or {}).get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else None
