"""Files that a run writes: metrics.jsonl, TensorBoard events, and the config that reruns it.

`trackers.py` has the services that a run reports to as well.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from gemb.checks import MissingExtra, UserError, needs
from gemb.files import atomic_file
from gemb.runs.configs import read_config
from gemb.runs.trackers import Reporting, Tracker

CONFIG_FILE = "config.gin"
METRICS_FILE = "metrics.jsonl"
LOCK_FILE = ".lock"


class Records:
    """Appends metrics to a workdir, to trackers, and to TensorBoard files if it is installed.

    Args:
        workdir: the run's folder.
        step: rows after this step are dropped first: a resumed run writes them again.
        trackers: what else to report to.

    Raises:
        UserError: for a tracker that cannot begin a run, or whose library is missing.
    """

    def __init__(self, workdir: Path, step: int, trackers: Sequence[Tracker] = ()):
        self._path = workdir / METRICS_FILE
        rows = read_metrics(workdir)
        config = read_config(workdir / CONFIG_FILE) if trackers else {}
        reported = rows[-1]["step"] if rows else 0
        self._reporting = Reporting(trackers, workdir, config, reported)
        kept = [row for row in rows if row["step"] <= step]
        with atomic_file(self._path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._file = self._path.open("a", encoding="utf-8")
        self._events = _event_writer(workdir / "tensorboard")

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Appends one row and writes it to disk at once, so that a kill loses no row."""
        self._file.write(json.dumps({"step": step, **metrics}) + "\n")
        self._file.flush()
        if self._events:
            self._events.add_event(_event(step, metrics))
        self._reporting.write(step, metrics)

    def close(self, ok: bool = True) -> None:
        """Flushes and closes both files, and ends the trackers' runs.

        Args:
            ok: False where the run was stopped or failed.
        """
        self._file.close()
        if self._events:
            self._events.close()
        self._reporting.finish(ok)


def _event_writer(folder: Path):
    """TensorBoard's writer; None, with a note on the terminal, if it is not installed."""
    try:
        with needs("writing TensorBoard files", extra="tensorboard"):
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except MissingExtra as error:
        print(f"metrics are written to {METRICS_FILE} only: {error}")
        return None
    return EventFileWriter(str(folder))


def _event(step: int, metrics: dict[str, float]):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=name, simple_value=x) for name, x in metrics.items()]
    return Event(step=step, summary=Summary(value=values))


def read_metrics(workdir: Path) -> list[dict]:
    """The rows of metrics.jsonl, [] if there is none; an incomplete last line is dropped."""
    path = Path(workdir) / METRICS_FILE
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def check_workdir(workdir: Path, config: str) -> None:
    """Checks that a run of this resolved config may use the workdir; changes nothing.

    Raises:
        UserError: when the workdir holds another experiment, naming the first line that differs.
    """
    path = workdir / CONFIG_FILE
    if path.exists():
        before, now = path.read_text(encoding="utf-8").splitlines(), config.splitlines()
        if before == now:
            return
        if (workdir / METRICS_FILE).exists():  # otherwise training never started
            old, new = next(pair for pair in _pad(before, now) if pair[0] != pair[1])
            raise UserError(
                f"{workdir} holds another experiment: its config says {old!r}, this one {new!r}; "
                "choose another --workdir, or delete this one"
            )
    elif workdir.exists() and not workdir.is_dir():
        raise UserError(f"{workdir} is a file; choose another --workdir")
    elif workdir.exists() and set(os.listdir(workdir)) - {LOCK_FILE}:
        raise UserError(
            f"{workdir} is not empty and has no {CONFIG_FILE}, so it is not a gemb run; "
            "choose another --workdir"
        )


def claim_workdir(workdir: Path, config: str) -> None:
    """Writes the resolved config into the workdir, if `check_workdir` accepts it."""
    check_workdir(workdir, config)
    with atomic_file(workdir / CONFIG_FILE) as temporary:
        temporary.write_text(config, encoding="utf-8")


def _pad(before: list[str], now: list[str]):
    for i in range(max(len(before), len(now))):
        yield (before[i] if i < len(before) else "", now[i] if i < len(now) else "")
