"""Training across processes: the same gradients and losses, told to stop, killed, going on."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_runs

from gemb.parallel.mesh import make_mesh
from gemb.runs.interruption import RESUMABLE
from gemb.runs.records import read_metrics

ROOT = Path(__file__).parents[2]


def two_processes(workdir, mesh=(2, 2, 2), flags="", **options):
    """Runs both to their end, under more flags of XLA; returns what they printed, and statuses."""
    with socket.create_server(("localhost", 0)) as server:
        address = f"localhost:{server.getsockname()[1]}"
    environment = os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}", "JAX_NUM_CPU_DEVICES": "4",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    processes = [
        subprocess.Popen(
            [
                sys.executable, tiny_runs.__file__, str(workdir), address, str(i),
                json.dumps({"mesh": mesh, **options}),
            ],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=240)[0] for process in processes]
    return said, [process.returncode for process in processes]


def all_losses(workdir):
    return [(row["step"], row["loss"]) for row in read_metrics(workdir)]


def one_device():
    return make_mesh(1, 1, 1, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Gradient of step one, and the losses of 20 steps, on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    found = tiny_runs.gradient(workdir, mesh=one_device)
    tiny_runs.run(workdir, **tiny_runs.NESTED, mesh=one_device, steps=20)
    return found, all_losses(workdir)


def relative_difference(left, right):
    return np.linalg.norm(left - right) / np.linalg.norm(left)


def close(left, right, tolerance):
    assert [step for step, _ in left] == [step for step, _ in right] == list(range(1, 21))
    np.testing.assert_allclose([x for _, x in left], [x for _, x in right], rtol=tolerance)


# (1, 1, 8): both processes read every row, because the split of the model spans them.
@pytest.mark.parametrize("mesh", [(2, 2, 2), pytest.param((1, 1, 8), marks=pytest.mark.slow)])
def test_two_processes_train_as_one_device(mesh, alone, tmp_path):
    said, statuses = two_processes(tmp_path, mesh, gradient=True, steps=20)
    assert statuses == [0, 0], said
    assert relative_difference(alone[0], np.load(tmp_path / "gradient.npy")) < 1e-5
    close(alone[1], all_losses(tmp_path), 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)])
def test_eight_devices_train_as_one(mesh, alone, tmp_path):
    options = {"mesh": lambda: make_mesh(*mesh)}
    assert relative_difference(alone[0], tiny_runs.gradient(tmp_path, **options)) < 1e-5
    tiny_runs.run(tmp_path, **tiny_runs.NESTED, **options, steps=20)
    close(alone[1], all_losses(tmp_path), 1e-3)


# Every float32 made a float64: what is left of a difference is no rounding of float32.
FLOAT64 = """
import sys
import jax, jax.numpy as jnp
jnp.float32 = jnp.float64
import tiny_runs
from gemb.models.execution import Execution
from gemb.parallel.mesh import make_mesh
execution = Execution(attention="plain")
object.__setattr__(execution, "dtype", "float64")
for name, sizes in (("one", (1, 1, 1)), ("eight", (2, 2, 2))):
    devices = jax.devices()[: sizes[0] * sizes[1] * sizes[2]]
    tiny_runs.run(sys.argv[1] + "/" + name, **tiny_runs.NESTED, steps=20, execution=execution,
                  mesh=lambda: make_mesh(*sizes, devices=devices))
"""


@pytest.mark.slow
def test_in_float64_the_losses_agree_to_its_rounding(tmp_path):
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
    }
    subprocess.run([sys.executable, "-c", FLOAT64, str(tmp_path)], env=environment, check=True)
    close(*(all_losses(tmp_path / name) for name in ("one", "eight")), 1e-13)


@pytest.mark.slow
def test_sigterm_to_one_process_stops_both_and_they_go_on_bit_for_bit(tmp_path):
    said, statuses = two_processes(tmp_path / "whole", evaluate=True)
    assert statuses == [0, 0], said
    scores = [row["last/norm"] for row in read_metrics(tmp_path / "whole") if "last/norm" in row]
    assert len(set(scores)) == 3
    stopped = {"signals": {"1": {"3": "SIGTERM"}}, "evaluate": True}
    said, statuses = two_processes(tmp_path / "stopped", **stopped)
    assert statuses == [RESUMABLE, RESUMABLE], said
    assert all("stopped by SIGTERM after step 4 of 6" in text for text in said)
    said, statuses = two_processes(tmp_path / "stopped", evaluate=True)
    assert statuses == [0, 0], said
    assert "resuming from step 4 of 6" in said[0]
    assert all_losses(tmp_path / "stopped") == all_losses(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_process_ends_the_other_with_one_line(tmp_path):
    soon = "--xla_cpu_collective_timeout_seconds=20"  # not the minute that `join` asks for
    said, statuses = two_processes(tmp_path, flags=soon, signals={"1": {"4": "SIGKILL"}})
    assert statuses == [RESUMABLE, -9], said[0]
    assert "another process of this run was lost" in said[0]
    assert "Traceback" not in said[0]
