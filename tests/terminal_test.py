"""What a verb does on a terminal that cannot print, goes away, or where JAX has no device."""

import errno
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gemb.cli import terminal

ROOT = Path(__file__).parents[1]
FAILING = "import sys; from gemb.cli.terminal import *; print_anything()\nwith ends_well('embed'): "


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def python(*arguments, **more):
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(**more), capture_output=True, text=True, check=False,
    )  # fmt: skip


def piped(*arguments, count=1):
    """Exit status and stderr of a process whose reader closes its stdout after `count` bytes."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    if count:
        process.stdout.read(count)
    process.stdout.close()
    return process.wait(timeout=120), process.stderr.read().decode()


@pytest.mark.parametrize(
    "more",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"},
    ],
)
def test_an_ascii_terminal_shows_what_it_can(more):
    result = python("-c", FAILING + "print('\\u732b cat \\ud800 5 \\xb5m')", **more)
    assert (result.returncode, result.stdout) == (0, "? cat ? 5 ?m\n")


def test_an_ascii_terminal_shows_errors():
    code = FAILING + "from gemb.checks import UserError; raise UserError('\\u732b: no such file')"
    result = python("-c", code, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (2, "gemb embed: error: ?: no such file\n")


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("count", [0, 1])
def test_a_closed_pipe_ends_quietly(lines, count):
    wait = "import time; time.sleep(1); "  # until the reader has closed it
    code = FAILING + f"print('x' * 10, flush=True); {wait}print('line\\n' * {lines})"
    status, errors = piped("-c", code, count=count)
    assert (status, errors) == (141, "")


@pytest.mark.parametrize("arguments", [["configs"], ["--help"], ["embed", "--help"]])
def test_help_into_a_closed_pipe_ends_quietly(arguments):
    _, errors = piped("-m", "gemb.cli", *arguments, count=0)
    assert errors == ""


def test_another_broken_pipe_is_not_hidden():
    result = python("-c", FAILING + "raise BrokenPipeError('of a worker')")
    assert result.returncode == 1
    assert "of a worker" in result.stderr


@pytest.mark.parametrize("place", ["cuda", "tpu", "rubbish"])
def test_a_device_that_is_not_there_is_one_line(place):
    code = FAILING + "import jax; jax.devices()"
    result = python("-c", code, JAX_PLATFORMS=place)
    if result.returncode == 0:
        pytest.skip(f"this machine has {place}")
    (line,) = result.stderr.strip().splitlines()[-1:]
    assert line.startswith(f"gemb embed: error: JAX_PLATFORMS={place}: JAX finds no such device")
    assert "Traceback" not in result.stderr
    assert result.returncode == 2


def test_other_errors_keep_their_traceback():
    result = python("-c", FAILING + "import jax; assert jax.devices() == 1", JAX_PLATFORMS="cpu")
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_an_interrupt_is_one_line():
    # A process in the background of a script starts with SIGINT ignored.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += FAILING + "print('on', flush=True); import time; time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.readline()
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.decode().strip()) == (130, "gemb embed: interrupted")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout_is_one_line():
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [sys.executable, "-c", FAILING + "print('x')"],
            env=environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    line = f"cannot write the output: {os.strerror(errno.ENOSPC)}"
    assert (result.returncode, result.stderr) == (1, f"gemb embed: error: {line}\n")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_place_that_cannot_be_written_is_one_line(number, capsys):
    with pytest.raises(SystemExit) as end, terminal.ends_well("index"):
        raise OSError(number, os.strerror(number), "/there/file")
    assert end.value.code == 1
    line = f"gemb index: error: /there/file: {os.strerror(number)}\n"
    assert capsys.readouterr().err == line


def test_a_process_without_stdout_runs(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    terminal.print_anything()
    with terminal.ends_well("index"):
        print("nobody reads this")


def test_a_verb_does_not_see_flags_of_an_earlier_one(capsys):
    from gemb.cli.__main__ import run

    # `model` is a list for search and a text for refresh; absl keeps the object that was set.
    for verb, arguments in (
        ("search", ["--model=one"]),
        ("refresh", ["--model=two", "--corpus=none.jsonl"]),
        ("search", ["--model=three"]),
    ):
        with pytest.raises(SystemExit) as left:
            run(verb, arguments)
        error = capsys.readouterr().err
        assert left.value.code == 2
        assert "times" not in error, error
        assert "expected" in error or "required" in error or "give" in error, error
