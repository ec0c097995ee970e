"""Writers that are killed at random points, and readers while versions are published."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run(subject, address, first, second):
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    done = subprocess.run(
        [sys.executable, HERE / "processes.py", subject, str(address), str(first), str(second)],
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


ROUNDS = [pytest.param(8, id="few"), pytest.param(200, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("rounds", ROUNDS)
def test_killed_writers_of_a_store_on_disk(tmp_path, rounds):
    found = run("kills", tmp_path / "store", rounds, 1)
    print(found)
    assert (found["kills"], found["broken"], found["lost"]) == (rounds, 0, 0)
    assert found["put"] > rounds / 2


@pytest.mark.parametrize("rounds", ROUNDS)
def test_killed_writers_of_a_key_store(opener, rounds):
    found = run("kills", opener.address, rounds, 2)
    print(found)
    assert (found["kills"], found["broken"], found["lost"]) == (rounds, 0, 0)
    assert found["put"] > rounds / 2


HOST_ROUNDS = [pytest.param(2, id="few"), pytest.param(200, id="many", marks=pytest.mark.slow)]


@pytest.mark.long
@pytest.mark.parametrize("rounds", HOST_ROUNDS)
def test_killed_loaders_of_an_index_host(host_opener, rounds):
    if host_opener.kind == "local":
        pytest.importorskip("usearch")
    found = run("hosts", host_opener.address, rounds, 3)
    print(found)
    assert (found["kills"], found["broken"], found["lost"]) == (rounds, 0, 0)


@pytest.mark.parametrize(
    ("publishes", "reads"),
    [
        pytest.param(15, 500, id="few"),
        pytest.param(200, 100_000, id="many", marks=pytest.mark.slow),
    ],
)
def test_readers_find_whole_versions_while_others_are_published(tmp_path, publishes, reads):
    found = run("readers", tmp_path / "store", publishes, reads)
    print(found)
    assert (found["missing"], found["mixed"]) == (0, 0)
    assert found["reads"] >= reads
    assert found["versions"] > 2
