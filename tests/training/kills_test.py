"""Killed at any moment, run again until it is done: the losses of the run that nobody touched."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_runs

from gemb.runs.interruption import RESUMABLE
from gemb.runs.records import read_metrics

ROOT = Path(__file__).parents[2]
STEPS, TIMES = 30, 10
pytestmark = pytest.mark.slow


def start(workdir, count, cache):
    """One process, or two of one run."""
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}" if count == 2 else ""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": str(4 // count),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }  # fmt: skip
    options = {"mesh": [2, 2, 1], "steps": STEPS, "checkpoint_steps": 3, "pause": 0.1}
    command = [sys.executable, tiny_runs.__file__, str(workdir), address]
    return [
        subprocess.Popen(
            [*command, str(i), json.dumps(options)],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for i in range(count)
    ]  # fmt: skip


def all_losses(workdir):
    return [(row["step"], row["loss"], row["gradient_norm"]) for row in read_metrics(workdir)]


def statuses(processes):
    return [process.wait(timeout=300) for process in processes]


@pytest.mark.parametrize(
    ("count", "name"), [(1, "SIGKILL"), (1, "SIGTERM"), (2, "SIGKILL"), (2, "SIGTERM")]
)
def test_ten_kills_at_random_moments(count, name, tmp_path):
    draw, cache = random.Random(f"{count} {name}"), tmp_path / "cache"
    assert statuses(start(tmp_path / "whole", count, cache)) == [0] * count
    expected, landed = all_losses(tmp_path / "whole"), 0
    assert [step for step, *_ in expected] == list(range(1, STEPS + 1))
    for number in range(TIMES):
        workdir = tmp_path / str(number)
        processes = start(workdir, count, cache)
        rows = draw.randrange(1, STEPS - 2)
        while all(process.poll() is None for process in processes):
            if len(read_metrics(workdir)) >= rows:
                time.sleep(draw.uniform(0, 0.2))
                draw.choice(processes).send_signal(getattr(signal, name))
                break
            time.sleep(0.01)
        ended = statuses(processes)
        landed += ended != [0] * count
        own = {-signal.SIGKILL, RESUMABLE} if name == "SIGKILL" else {RESUMABLE}
        assert set(ended) <= own | ({-signal.SIGABRT} if count == 2 else set()) | {0}
        again = 0
        while set(ended) != {0}:
            ended, again = statuses(start(workdir, count, cache)), again + 1
            assert again < 4
        assert all_losses(workdir) == expected
    assert landed >= TIMES - TIMES // 5  # a run may end before its signal comes
