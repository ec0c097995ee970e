"""Several processes as one run: the roll call, who stands where, a real psum over two of them."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gemb.checks import UserError
from gemb.parallel.distributed import Cluster, _tpu_metadata, expand_nodes, find_cluster
from gemb.parallel.roll_call import NeverJoined, call_the_roll

ROOT = Path(__file__).parents[2]
HERE = socket.gethostname()
# Sums 0..7 over all devices, and says who this process is.
PSUM = """
import sys
from functools import partial
import jax, jax.numpy as jnp
from jax.sharding import PartitionSpec as P
from gemb.parallel.distributed import join
from gemb.parallel.mesh import make_mesh
me = join(sys.argv[1], int(sys.argv[2]), 2, timeout_seconds=100)
mesh = make_mesh()
rows = jax.make_array_from_callback(
    (8,), jax.sharding.NamedSharding(mesh, P("replica")), lambda at: jnp.arange(8.0)[at])
total = jax.jit(jax.shard_map(
    lambda x: jax.lax.psum(x, "replica"), mesh=mesh, in_specs=P("replica"), out_specs=P()))(rows)
print(me.process_id, jax.process_index(), jax.process_count(), len(jax.devices()),
      len(jax.local_devices()), float(total[0]), flush=True)
"""


@pytest.fixture
def coordinator():
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    return f"localhost:{port}"


def start(*arguments):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "4", "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *arguments], env=environment, cwd=ROOT, **pipes)


def gather(coordinator, arguments, **options):
    """Calls the roll in one thread a process; returns what each raised, in their order."""
    raised = [None] * len(arguments)

    def run(place, process_id, count, options):
        try:
            call_the_roll(coordinator, process_id, count, **options)
        except UserError as error:
            raised[place] = error

    options = {"timeout_seconds": 20} | options
    threads = [
        threading.Thread(target=run, args=(place, *pair, options))
        for place, pair in enumerate(arguments)
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return raised


@pytest.mark.long
def test_two_processes_sum_over_all_eight_devices(coordinator):
    processes = [start("-c", PSUM, coordinator, str(i)) for i in range(2)]
    for i, process in enumerate(processes):
        out, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        said = out.splitlines()[-1].split()  # Gloo talks first
        assert said == [str(i), str(i), "2", "8", "4", str(float(sum(range(8))))]


@pytest.mark.long
@pytest.mark.parametrize(("process_id", "missing"), [(0, "process 1"), (1, "process 0")])
def test_train_names_the_host_that_waits_and_whom_it_waits_for(coordinator, process_id, missing):
    process = start(
        "-m", "gemb.cli", "train", "--gin_file=configs/experiments/quickstart.gin",
        "--workdir=never/made", f"--coordinator={coordinator}", f"--process_id={process_id}",
        "--process_count=2", "--join_timeout=1",
    )  # fmt: skip
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75  # the launchers start it again
    assert len(error.splitlines()) == 1
    said = f"host {HERE} (process {process_id} of 2) waited 1 s for {missing}"
    assert said in error
    assert coordinator in error
    assert not (ROOT / "never").exists()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 2, 0)])
def test_the_roll_ends_when_all_are_there(coordinator, order):
    assert gather(coordinator, [(i, 4) for i in order]) == [None] * 4


def test_all_hear_who_is_missing_by_the_most_impatient_deadline(coordinator):
    hosts = ("a", "b", "c", "d")
    start = time.monotonic()
    raised = gather(coordinator, [(0, 4), (2, 4)], timeout_seconds=1, hosts=hosts)
    assert time.monotonic() - start < 5
    for number, error in zip((0, 2), raised, strict=True):
        assert isinstance(error, NeverJoined)
        assert str(error).startswith(
            f"host {HERE} (process {number} of 4) waited 1 s for process 1 (b), process 3 (d), at"
        )
        assert "\n" not in str(error)


def test_contradictions_end_the_roll_at_once(coordinator):
    raised = gather(coordinator, [(0, 3), (1, 4)])
    for error in raised:
        assert f"process 0 says --process_count=3, {HERE} says 4" in str(error)


def test_strangers_and_processes_that_die_are_not_counted(coordinator):
    host, port = coordinator.split(":")

    def disturb():
        time.sleep(0.3)
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with socket.create_connection((host, int(port))) as dead:
            dead.sendall(b'{"id": 1, "count": 3, "host": "x", "seconds": 9}\n')

    threading.Thread(target=disturb).start()
    raised = gather(coordinator, [(0, 3)], timeout_seconds=2)
    assert "waited 2 s for process 1, process 2, at" in str(raised[0])


def test_a_process_that_is_slow_to_speak_is_hung_up_on_and_may_report_again(coordinator):
    host, port = coordinator.split(":")
    heard = []

    def slow():
        time.sleep(0.3)
        with socket.create_connection((host, int(port)), timeout=5) as silent:
            heard.append(silent.recv(1))
        call_the_roll(coordinator, 1, 2, timeout_seconds=5)

    other = threading.Thread(target=slow)
    other.start()
    assert gather(coordinator, [(0, 2)], timeout_seconds=10) == [None]
    other.join()
    assert heard == [b""]


def test_a_taken_port_is_one_line():
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on port {port}"):
            call_the_roll(f"localhost:{port}", 0, 2, timeout_seconds=1)


SLURM = {
    "SLURM_JOB_ID": "12345",
    "SLURM_PROCID": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[09-11],big",
}
TPU = {"TPU_WORKER_HOSTNAMES": "w-0,w-1", "TPU_WORKER_ID": "1"}


def test_slurm_and_tpu_pods_say_where_a_process_stands():
    hosts = ("gpu09", "gpu10", "gpu11", "big")
    assert find_cluster(None, None, None, SLURM) == Cluster("gpu09:22345", 2, 4, hosts)
    assert find_cluster(None, None, None, TPU) == Cluster("w-0:8482", 1, 2, ("w-0", "w-1"))
    two_a_node = SLURM | {"SLURM_STEP_NUM_TASKS": "8"}
    assert find_cluster(None, None, None, two_a_node).hosts == ()
    assert find_cluster("x:1", 0, 3, SLURM) == Cluster("x:1", 0, 3)  # flags win


@pytest.mark.parametrize(
    "environment",
    [
        {},
        SLURM | {"SLURM_STEP_NUM_TASKS": "1"},  # the shell of salloc
        {k: v for k, v in SLURM.items() if "STEP" not in k},  # the script of sbatch
        {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
    ],
)
def test_one_process_is_alone(environment):
    assert find_cluster(None, None, None, environment) is None


def test_a_tpu_vm_asks_its_metadata_server():
    answers = {
        "agent-worker-number": "1",
        "worker-network-endpoints": "unknown:unknown:10.0.0.2,unknown:unknown:10.0.0.3",
    }
    expected = Cluster("10.0.0.2:8482", 1, 2, ("10.0.0.2", "10.0.0.3"))
    assert _tpu_metadata(answers.__getitem__) == expected

    def nowhere(_):
        raise OSError

    with pytest.raises(UserError, match="--coordinator=auto: neither srun nor a TPU pod"):
        _tpu_metadata(nowhere)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 0, 2), "need --coordinator"),
        (("a:1", 0, None), "--coordinator needs"),
        (("a:1", 2, 2), "--process_id: expected 0 to --process_count - 1 = 1, got 2"),
        (("a", 0, 2), "expected HOST:PORT, got 'a'"),
        (("a:x", 0, 2), "expected HOST:PORT, got 'a:x'"),
    ],
)
def test_flags_that_do_not_fit_are_one_line(arguments, message):
    with pytest.raises(UserError) as error:
        find_cluster(*arguments, {})
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("short", "names"),
    [
        ("a", ("a",)),
        ("a,b", ("a", "b")),
        ("n[1-3]", ("n1", "n2", "n3")),
        ("n[099-101,7]-x,y", ("n099-x", "n100-x", "n101-x", "n7-x", "y")),
        ("r[1-2]n[3]", ("r1n3", "r2n3")),
    ],
)
def test_node_lists_of_slurm(short, names):
    assert expand_nodes(short) == names
