"""Experiment trackers that a run reports to in addition to its own files: W&B, MLflow, trackio.

One class for each, with what it needs to know of an account or server; a library is imported only
by the run that names it. A resumed run continues its own run there: the workdir keeps its id.
"""

import dataclasses
import os
import re
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from gemb.checks import UserError, needs
from gemb.files import read_object, write_json

IDS_FILE = "trackers.json"


class Tracker(Protocol):
    """What a run reports to."""

    def start(self, name: str, config: dict[str, str], run_id: str, workdir: Path) -> str:
        """Starts or continues a run.

        Args:
            name: of the run's folder.
            config: binding -> value.
            run_id: what the call that began the run returned; "" to begin one.
            workdir: for the files of trackers that keep any.

        Returns:
            The run's id.

        Raises:
            MissingExtra: the library is not installed.
        """
        ...

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Reports the metrics of a step."""
        ...

    def finish(self, ok: bool) -> None:
        """Ends the run; `ok` is False where it was stopped or failed."""
        ...


@dataclasses.dataclass
class Wandb:
    """Weights & Biases. WANDB_MODE=offline needs no account; `wandb sync` sends its files later.

    Attributes:
        project: default WANDB_PROJECT, else "gemb".
        entity: the account or team; default WANDB_ENTITY, else the user's own.
        name: of the run; default that of the workdir.
    """

    project: str = ""
    entity: str = ""
    name: str = ""

    def start(self, name: str, config: dict[str, str], run_id: str, workdir: Path) -> str:
        with needs("reporting to Weights & Biases", extra="wandb"):
            import wandb
        self._run = wandb.init(
            project=self.project or os.environ.get("WANDB_PROJECT") or "gemb",
            entity=self.entity or None,
            name=self.name or name,
            id=run_id or secrets.token_hex(6),
            resume="allow",
            config=config,
            dir=str(workdir),
        )
        return self._run.id

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def finish(self, ok: bool) -> None:
        self._run.finish(exit_code=0 if ok else 1)


@dataclasses.dataclass
class Mlflow:
    """MLflow, at the server or store of MLFLOW_TRACKING_URI.

    Attributes:
        experiment: default MLFLOW_EXPERIMENT_NAME, else "gemb".
        uri: of the server or store, such as "sqlite:////data/mlflow.db"; default that of MLflow.
        name: of the run; default that of the workdir.
    """

    experiment: str = ""
    uri: str = ""
    name: str = ""

    def start(self, name: str, config: dict[str, str], run_id: str, workdir: Path) -> str:
        with needs("reporting to MLflow", extra="mlflow"):
            from mlflow import MlflowClient
            from mlflow.entities import Param
        self._client = MlflowClient(tracking_uri=self.uri or None)
        if run_id:
            self._client.update_run(run_id, status="RUNNING")
            self._id = run_id
            return run_id
        experiment = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "gemb"
        known = self._client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else self._client.create_experiment(experiment)
        self._id = self._client.create_run(place, run_name=self.name or name).info.run_id
        params = [Param(_mlflow_name(key), value[:500]) for key, value in config.items()]
        for first in range(0, len(params), 100):  # the most that a server takes at once
            self._client.log_batch(self._id, params=params[first : first + 100])
        return self._id

    def write(self, step: int, metrics: dict[str, float]) -> None:
        with needs("reporting to MLflow", extra="mlflow"):
            from mlflow.entities import Metric
        now = int(time.time() * 1000)
        points = [Metric(_mlflow_name(name), x, now, step) for name, x in metrics.items()]
        self._client.log_batch(self._id, metrics=points)

    def finish(self, ok: bool) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if ok else "FAILED")


@dataclasses.dataclass
class Trackio:
    """trackio, in a database on this machine (TRACKIO_DIR) or a Space of the Hugging Face hub.

    Attributes:
        project: shown by `trackio show --project`.
        space_id: OWNER/NAME of a Space; default none.
        name: what the run's name begins with; default the workdir's. An id follows, because
            trackio knows runs by their names.
    """

    project: str = "gemb"
    space_id: str = ""
    name: str = ""

    def start(self, name: str, config: dict[str, str], run_id: str, workdir: Path) -> str:
        with needs("reporting to trackio", extra="trackio"):
            import trackio
        run_id = run_id or f"{self.name or name}-{secrets.token_hex(3)}"
        space = {"space_id": self.space_id} if self.space_id else {}
        self._run = trackio.init(
            project=self.project, name=run_id, config=config, resume="allow", **space
        )
        return run_id

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self._run.log(metrics, step=step)

    def finish(self, ok: bool) -> None:
        self._run.finish()


class Reporting:
    """The trackers of one run. One that fails during the run is not used any more.

    Args:
        trackers: what to report to.
        workdir: the run's folder; keeps the ids.
        config: binding -> value.
        reported: steps up to this one were reported before the run was resumed.

    Raises:
        UserError: for a tracker that cannot begin a run, or whose library is missing.
    """

    def __init__(
        self, trackers: Sequence[Tracker], workdir: Path, config: dict[str, str], reported: int
    ):
        self._reported, self._live = reported, []
        ids = read_object(workdir / IDS_FILE)
        for tracker in trackers:
            kind = type(tracker).__name__
            try:
                known = ids.get(kind, "")
                ids[kind] = tracker.start(workdir.absolute().name, config, known, workdir)
            except UserError:
                raise
            except Exception as error:  # each library has its own
                if known:  # the run went on without it before; it shall not stop now
                    _warn(kind, "cannot go on with its run", error)
                    continue
                raise UserError(f"{kind}: cannot begin a run: {_said(error)}") from None
            self._live.append(tracker)
            write_json(workdir / IDS_FILE, ids)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Reports a step, once: a resumed run repeats what it did after its last checkpoint."""
        if step > self._reported:
            self._each("reports no more", lambda tracker: tracker.write(step, metrics))

    def finish(self, ok: bool) -> None:
        """Ends the runs."""
        self._each("could not end its run", lambda tracker: tracker.finish(ok))

    def _each(self, what: str, call) -> None:
        for tracker in tuple(self._live):
            try:
                call(tracker)
            except Exception as error:  # a server that is down must not end the training
                self._live.remove(tracker)
                _warn(type(tracker).__name__, what, error)


def _warn(kind: str, what: str, error: Exception) -> None:
    print(f"warning: {kind} {what}: {_said(error)}", file=sys.stderr)


def _said(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def _mlflow_name(name: str) -> str:
    """A name that MLflow takes: it refuses the @ of ndcg@10."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))
