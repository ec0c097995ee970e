"""Refreshes that are killed at random points, on each key store."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
# "release" has another model, a new generation, now and then.
CASES = [
    pytest.param("refresh", 5, id="refresh-few"),
    pytest.param("refresh", 200, id="refresh-many", marks=pytest.mark.slow),
    pytest.param("release", 200, id="release-many", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("verb", "rounds"), CASES)
def test_kills_lose_and_break_nothing(opener, tmp_path, verb, rounds):
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    command = [sys.executable, HERE / "killed.py", verb, tmp_path / "store", opener.address]
    done = subprocess.run(
        [*map(str, command), str(rounds), "3"],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(found)
    assert (found["kills"], found["broken"], found["lost"]) == (rounds, 0, 0)
    assert found["done"] > rounds / 3
