"""Refreshes and releases that are killed at random points, on each key store and index host."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def killed(verb, tmp_path, keys, rounds, *host):
    """Kills, and what was broken or lost."""
    path = os.pathsep.join([str(HERE.parents[1]), str(HERE)])
    command = [sys.executable, HERE / "killed.py", verb, tmp_path / "store", keys, rounds, 3, *host]
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    print(verb, keys, *host, found)
    assert (found["kills"], found["broken"], found["lost"]) == (rounds, 0, 0)
    assert found["done"] > rounds / 5


# "generations" has another model now and then.
CASES = [
    pytest.param("refresh", 5, id="refresh-few"),
    pytest.param("refresh", 200, id="refresh-many", marks=pytest.mark.slow),
    pytest.param("generations", 200, id="generations-many", marks=pytest.mark.slow),
    pytest.param("release", 200, id="release-many", marks=pytest.mark.slow),
]


@pytest.mark.long
@pytest.mark.parametrize(("verb", "rounds"), CASES)
def test_kills_lose_and_break_nothing(opener, tmp_path, verb, rounds):
    killed(verb, tmp_path, opener.address, rounds)


HOST_CASES = [
    pytest.param("release", 3, id="release-few"),
    pytest.param("refresh", 200, id="refresh-many", marks=pytest.mark.slow),
    pytest.param("release", 200, id="release-many", marks=pytest.mark.slow),
]


@pytest.mark.long
@pytest.mark.parametrize("server", ["postgres_address", "milvus_address"])
@pytest.mark.parametrize(("verb", "rounds"), HOST_CASES)
@pytest.mark.extra("services", "postgres", "milvus")
def test_kills_with_an_index_host(request, server, tmp_path, verb, rounds):
    host = request.getfixturevalue(server).replace("postgresql://", "pgvector://")
    killed(verb, tmp_path, f"sqlite:{tmp_path}/keys.db", rounds, host)
