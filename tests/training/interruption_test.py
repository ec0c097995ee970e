"""What ends a run before its time: a lock, a bad step, an unreadable checkpoint."""

import errno
import math
import os
import signal
import subprocess
import sys
from functools import partial

import jax
import numpy as np
import pytest
from tiny_runs import run

from gemb.checks import UserError
from gemb.runs.interruption import RESUMABLE, LostProcess, Stopped, lost_process, sole_run
from gemb.runs.records import read_metrics


def all_losses(workdir):
    return [(row["step"], row["loss"]) for row in read_metrics(workdir)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    return run(workdir)[0].params, all_losses(workdir)


@pytest.mark.long
def test_sigterm_saves_and_the_same_call_goes_on_bit_for_bit(tmp_path, unbroken):
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped, match="after step 3 of 6") as stopped:
        run(tmp_path, {3: partial(os.kill, os.getpid(), signal.SIGTERM)})
    assert stopped.value.status == RESUMABLE == 75
    assert signal.getsignal(signal.SIGTERM) is handler
    trained, _ = run(tmp_path)
    assert all_losses(tmp_path) == unbroken[1]
    for path, value in unbroken[0].items():
        np.testing.assert_array_equal(trained.params[path], value)


@pytest.mark.long
@pytest.mark.parametrize("harm", ["truncated", "zeroed", "missing"])
def test_an_unreadable_newest_checkpoint_is_put_aside(tmp_path, unbroken, harm, capsys):
    with pytest.raises(Stopped):
        run(tmp_path, {5: partial(os.kill, os.getpid(), signal.SIGTERM)})
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["4", "5"]
    arrays = (tmp_path / "checkpoints" / "5" / "state" / "d").iterdir()
    largest = max(arrays, key=lambda path: path.stat().st_size)
    if harm == "missing":
        largest.unlink()
    else:
        size = largest.stat().st_size
        largest.write_bytes(
            largest.read_bytes()[: size // 2] if harm == "truncated" else b"\0" * size
        )
    trained, _ = run(tmp_path)
    said = capsys.readouterr().out
    assert "5: the checkpoint cannot be read" in said
    assert "resuming from step 4" in said
    assert (tmp_path / "unreadable_checkpoints" / "5").is_dir()
    assert all_losses(tmp_path) == unbroken[1]
    for path, value in unbroken[0].items():
        np.testing.assert_array_equal(trained.params[path], value)


@pytest.mark.long
def test_a_bad_step_stops_the_run_and_its_batch_is_kept(tmp_path):
    with pytest.raises(UserError, match=r"step 3: loss is nan; the batch is in .*step_3.npz"):
        run(tmp_path, {3: "nan"})
    saved = np.load(tmp_path / "bad_batches" / "step_3.npz")
    assert math.isnan(saved["fields/weights"][3])
    assert saved["query/ids"].shape == (8, 6)
    assert (tmp_path / "checkpoints" / "2").is_dir()


@pytest.mark.long
def test_bad_steps_are_passed_over_as_often_as_allowed(tmp_path, capsys):
    trained, _ = run(tmp_path / "a", {3: "nan"}, skip_bad_steps=1)
    assert "skipped (1 in a row, at most 1 are allowed)" in capsys.readouterr().out
    assert all(np.isfinite(value).all() for value in trained.params.values())
    assert len(all_losses(tmp_path / "a")) == 6
    with pytest.raises(UserError, match="step 4: loss is nan"):
        run(tmp_path / "b", {3: "nan", 4: "nan"}, skip_bad_steps=1)


@pytest.mark.long
def test_bad_steps_in_a_row_are_counted_over_a_resume(tmp_path):
    run(tmp_path, {3: "nan"}, steps=3, skip_bad_steps=1)
    with pytest.raises(UserError, match="step 4: loss is nan"):
        run(tmp_path, {4: "nan"}, skip_bad_steps=1)
    assert not (tmp_path / "checkpoints" / "4").exists()


def test_a_workdir_is_held_by_one_process(tmp_path):
    code = (
        "import sys, pathlib\n"
        "from gemb.runs.interruption import sole_run\n"
        "with sole_run(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as other:
        assert other.stdout.readline() == "held\n"
        refused = pytest.raises(UserError, match=f"in use by a live run .process {other.pid} on")
        with refused, sole_run(tmp_path):
            pass
        other.kill()
    with sole_run(tmp_path):
        assert "process" in (tmp_path / ".lock").read_text()


def test_a_place_that_cannot_hold_a_run_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"), sole_run(tmp_path / "file" / "run"):
        pass


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with sole_run(tmp_path):
        assert (
            "does not support locks (No locks available); do not start a second run"
            in capsys.readouterr().err
        )


@pytest.mark.parametrize(
    ("processes", "said", "kind"),
    [
        (1, "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes", UserError),
        (2, "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes", UserError),
        (2, "UNAVAILABLE: connection reset by peer", LostProcess),
        (2, "INVALID_ARGUMENT: not implemented", jax.errors.JaxRuntimeError),
    ],
)
def test_an_error_of_the_devices_is_told_apart_from_a_lost_process(
    monkeypatch, processes, said, kind
):
    monkeypatch.setattr("jax.process_count", lambda: processes)
    with pytest.raises(kind) as raised, lost_process():
        raise jax.errors.JaxRuntimeError(said)
    assert type(raised.value) is kind
