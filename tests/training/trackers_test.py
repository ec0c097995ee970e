"""Reporting to trackers: with the libraries themselves where they are installed, and a stand-in."""

import importlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gemb import config
from gemb.checks import MissingExtra, UserError
from gemb.runs import trackers
from gemb.runs.records import Records, read_metrics
from gemb.training.experiment import Experiment

CONFIG = "STEPS = 4\nx.y.widths = (8, 4)\n"


class Stand:
    """A tracker that writes down what it is told."""

    def __init__(self, fails=()):
        self.told, self.fails = [], fails

    def start(self, name, config, run_id, workdir):
        self._tell("start", name, config, run_id)
        return run_id or "the-id"

    def write(self, step, metrics):
        self._tell("write", step, metrics)

    def finish(self, ok):
        self._tell("finish", ok)

    def _tell(self, *what):
        self.told.append(what)
        if what[0] in self.fails:
            raise ConnectionError("the server is down\nand more")


@pytest.fixture
def workdir(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.gin").write_text(CONFIG)
    return tmp_path / "run"


def report(workdir, tracker, first, last, ok=True):
    """A run that goes on behind step `first - 1`."""
    records = Records(workdir, first - 1, (tracker,))
    for step in range(first, last + 1):
        records.write(step, {"loss": 1 / step, "dev/sts@8": 0.5})
    records.close(ok)


def test_a_resumed_run_goes_on_with_its_own_and_repeats_nothing(workdir):
    first, second = Stand(), Stand()
    report(workdir, first, 1, 3, ok=False)
    report(workdir, second, 3, 4)  # from the checkpoint of step 2: step 3 is trained again
    expected = {"STEPS": "4", "x.y.widths": "(8, 4)"}
    assert first.told[0] == ("start", "run", expected, "")
    assert [row[1] for row in first.told if row[0] == "write"] == [1, 2, 3]
    assert first.told[-1] == ("finish", False)
    assert second.told[0] == ("start", "run", expected, "the-id")
    assert [row[1] for row in second.told if row[0] == "write"] == [4]
    assert second.told[-1] == ("finish", True)
    assert [row["step"] for row in read_metrics(workdir)] == [1, 2, 3, 4]
    assert json.loads((workdir / "trackers.json").read_text()) == {"Stand": "the-id"}


def test_a_server_that_goes_down_ends_no_training(workdir, capsys):
    tracker = Stand(fails=("write",))
    report(workdir, tracker, 1, 3)
    assert [row[0] for row in tracker.told] == ["start", "write"]
    assert capsys.readouterr().err == "warning: Stand reports no more: the server is down\n"
    assert len(read_metrics(workdir)) == 3
    report(workdir, Stand(fails=("start",)), 4, 4)  # resumed, and still down
    assert "warning: Stand cannot go on with its run: the server is down" in capsys.readouterr().err
    assert len(read_metrics(workdir)) == 4


def test_a_tracker_that_cannot_begin_is_one_line(workdir):
    with pytest.raises(UserError) as error:
        Records(workdir, 0, (Stand(fails=("start",)),))
    assert str(error.value) == "Stand: cannot begin a run: the server is down"


@pytest.mark.parametrize("kind", ["Wandb", "Mlflow", "Trackio"])
def test_a_missing_library_names_its_extra(kind, workdir, monkeypatch):
    library = kind.lower()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"needs {library}: pip install 'gemb\[{library}\]'"):
        Records(workdir, 0, (getattr(trackers, kind)(),))
    assert not (workdir / "metrics.jsonl").exists()


def test_one_gin_line_chooses_a_tracker():
    files = ["configs/experiments/quickstart.gin", "configs/debug.gin"]
    config.load(files)
    assert Experiment(**config.arguments(Experiment)).trackers == ()
    config.load(files, ["TRACKER = @trackers.Wandb()", "trackers.Wandb.project = 'mine'"])
    (one,) = Experiment(**config.arguments(Experiment)).trackers
    assert one == trackers.Wandb(project="mine")
    config.load(files, ["TRACKER = (@trackers.Mlflow(), @trackers.Trackio())"])
    made = Experiment(**config.arguments(Experiment)).trackers
    assert made == (trackers.Mlflow(), trackers.Trackio())
    for wrong in ("'wandb'", "@trackers.Wandb"):
        config.load(files, [f"TRACKER = {wrong}"])
        with pytest.raises(UserError, match=r"tracker: expected such as @trackers\.Wandb"):
            Experiment(**config.arguments(Experiment))


# The run is a process of its own: a tracker's library starts threads and handles its exit.
RUN = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from gemb.runs import trackers
from trackers_test import report
kind, place, first, last, kill = sys.argv[1:]
tracker = getattr(trackers, kind)(**{options!r})
if kill == "True":
    tracker.finish = lambda ok: os.kill(os.getpid(), signal.SIGKILL)
report(Path(place), tracker, int(first), int(last))
"""


def run(kind, workdir, first, last, kill=False, **options):
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
    code = RUN.format(paths=paths, options=options)
    asked = [kind, workdir, first, last, kill]
    done = subprocess.run([sys.executable, "-c", code, *map(str, asked)], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr


@pytest.mark.extra("wandb")
def test_wandb_offline_keeps_one_id(workdir, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run("Wandb", workdir, 1, 3)
    run("Wandb", workdir, 3, 4)
    known = json.loads((workdir / "trackers.json").read_text())["Wandb"]
    files = sorted((workdir / "wandb").glob("offline-run-*/run-*.wandb"))
    assert [file.name for file in files] == [f"run-{known}.wandb"] * 2
    assert [_wandb_steps(file) for file in files] == [[1, 2, 3], [4]]


def _wandb_steps(file):
    """The steps of an offline run: its file is a log of records in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, steps, parts = file.read_bytes(), 7, [], b""
    while len(data) - at > 7:
        if 32768 - at % 32768 < 7:  # too little for a record's head: the rest of a block is empty
            at += 32768 - at % 32768
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        parts += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            record, parts = Record.FromString(parts), b""
            if record.WhichOneof("record_type") == "history":
                steps.append(record.history.step.num)
    return steps


@pytest.mark.extra("mlflow")
@pytest.mark.parametrize("kill", [False, True])
def test_mlflow_holds_one_run_with_every_step_once(workdir, tmp_path, kill):
    pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run("Mlflow", workdir, 1, 3, kill, uri=uri)
    run("Mlflow", workdir, 3, 4, uri=uri)
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=uri)
    place = client.get_experiment_by_name("gemb").experiment_id
    (made,) = client.search_runs([place])
    assert made.info.run_id == json.loads((workdir / "trackers.json").read_text())["Mlflow"]
    assert (made.info.run_name, made.info.status) == ("run", "FINISHED")
    assert made.data.params == {"STEPS": "4", "x.y.widths": "(8, 4)"}
    for name, value in {"loss": 0.25, "dev/sts_at_8": 0.5}.items():
        points = client.get_metric_history(made.info.run_id, name)
        assert [point.step for point in points] == [1, 2, 3, 4]
        assert points[-1].value == value


@pytest.mark.extra("trackio")
def test_trackio_holds_one_run_with_every_step_once(workdir, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    run("Trackio", workdir, 1, 3)
    run("Trackio", workdir, 3, 4)
    known = json.loads((workdir / "trackers.json").read_text())["Trackio"]
    code = (
        "from trackio.sqlite_storage import SQLiteStorage as storage\n"
        "print({run: [row['step'] for row in storage.get_logs('gemb', run)]"
        " for run in storage.get_runs('gemb')})"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == str({known: [1, 2, 3, 4]})
