import json

import pytest

from gemb.checks import UserError
from gemb.runs.interruption import sole_run
from gemb.runs.records import Records, check_workdir, claim_workdir, read_metrics


def test_rows_after_the_resumed_step_are_written_anew(tmp_path):
    records = Records(tmp_path, 0)
    for step in range(1, 5):
        records.write(step, {"loss": float(step)})
    records.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # what a kill leaves
    resumed = Records(tmp_path, 2)
    resumed.write(3, {"loss": 30.0})
    resumed.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [
        (1, 1.0), (2, 2.0), (3, 30.0)
    ]  # fmt: skip


def test_events_are_readable_by_tensorboard(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    records = Records(tmp_path, 0)
    records.write(7, {"loss": 1.5})
    records.close()
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = list(loader.EventFileLoader(str(path)).Load())
    found = [(e.step, v.tag, v.tensor.float_val[:]) for e in events for v in e.summary.value]
    assert found == [(7, "loss", [1.5])]


def test_a_workdir_belongs_to_one_config(tmp_path):
    workdir = tmp_path / "run"
    claim_workdir(workdir, "A = 0\n")
    claim_workdir(workdir, "A = 1\nB = 2\n")  # nothing was trained under the first
    claim_workdir(workdir, "A = 1\nB = 2\n")
    (workdir / "metrics.jsonl").touch()
    with pytest.raises(UserError, match=r"holds another experiment.*'B = 2'.*'B = 3'"):
        claim_workdir(workdir, "A = 1\nB = 3\n")
    assert (workdir / "config.gin").read_text() == "A = 1\nB = 2\n"


def test_a_look_changes_nothing_and_a_lock_is_no_content(tmp_path):
    workdir = tmp_path / "run"
    check_workdir(workdir, "A = 0\n")
    assert not workdir.exists()
    with sole_run(workdir):
        claim_workdir(workdir, "A = 0\n")
    check_workdir(workdir, "A = 1\n")
    assert (workdir / "config.gin").read_text() == "A = 0\n"


def test_a_folder_of_something_else_is_not_a_workdir(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not a gemb run"):
        claim_workdir(tmp_path, "A = 1\n")
    assert json.loads("[]") == read_metrics(tmp_path)
