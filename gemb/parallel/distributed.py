"""Starts runs with several processes: one per host, each with all its local devices.

A process gets its number from flags, SLURM or its TPU pod. No other module starts
`jax.distributed`.
"""

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Mapping, MutableMapping

from gemb.checks import UserError
from gemb.parallel.roll_call import call_the_roll, split_address

PORT = 8482
_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The position of a process in a run.

    Attributes:
        coordinator: "host:port" of process 0.
        process_id, process_count: the number of this process, and the number of processes.
        hosts: host names by process id, () if they are not known.
    """

    coordinator: str
    process_id: int
    process_count: int
    hosts: tuple[str, ...] = ()


def join(
    coordinator: str | None = None,
    process_id: int | None = None,
    process_count: int | None = None,
    *,
    timeout_seconds: float = 300,
    heartbeat_seconds: int = 100,
) -> Cluster | None:
    """Joins the other processes of the run; does nothing if there are none.

    Call it before JAX initialises devices. Afterwards `jax.devices()` lists those of all hosts.

    Args:
        coordinator, process_id, process_count: see `find_cluster`.
        timeout_seconds: how long to wait for the others.
        heartbeat_seconds: after so long without a sign of life a process counts as dead, and all

    Returns:
        The position of this process, or None if it is alone.

    Raises:
        NeverJoined: with the host that waited, and what it waited for.
        UserError: for arguments that contradict each other.
    """
    cluster = find_cluster(coordinator, process_id, process_count)
    if cluster is None:
        return None
    call_the_roll(
        cluster.coordinator,
        cluster.process_id,
        cluster.process_count,
        timeout_seconds=timeout_seconds,
        hosts=cluster.hosts,
    )
    _let_collectives_wait(os.environ)
    import jax

    jax.distributed.initialize(
        cluster.coordinator,
        cluster.process_count,
        cluster.process_id,
        initialization_timeout=max(60, int(timeout_seconds)),
        heartbeat_timeout_seconds=heartbeat_seconds,
        cluster_detection_method="deactivate",  # it would use one device per process under SLURM
    )
    return cluster


def _let_collectives_wait(environment: MutableMapping[str, str]) -> None:
    """On CPU one process waits 30 s for another within a program, little where one reads slowly.

    Longer than a minute it should not: when a process dies while others compute, some of their
    threads hear of it and the rest wait for these until this time is over.
    """
    flag, before = "--xla_cpu_collective_timeout_seconds", environment.get("XLA_FLAGS", "")
    if flag not in before:
        environment["XLA_FLAGS"] = f"{before} {flag}=60".strip()


def joined() -> bool:
    """Whether this process has joined others by `join`."""
    import jax

    return jax.distributed.is_initialized()


def find_cluster(
    coordinator: str | None,
    process_id: int | None,
    process_count: int | None,
    environment: Mapping[str, str] = os.environ,
) -> Cluster | None:
    """The position of this process, from arguments, else from variables of srun or a TPU pod.

    Args:
        coordinator: "host:port" of process 0; "auto" requires a cluster, and also asks a TPU VM's
            metadata server.
        process_id, process_count: give all three or none.
        environment: environment variables of the process.

    Returns:
        None if the process is alone.

    Raises:
        UserError: if only some are given, they do not match, or "auto" finds no cluster.

    Example:
        >>> find_cluster("a:1234", 1, 2)
        Cluster(coordinator='a:1234', process_id=1, process_count=2, hosts=())
    """
    if coordinator not in (None, "auto"):
        return _given(coordinator, process_id, process_count)
    if process_id is not None or process_count is not None:
        raise UserError("--process_id and --process_count need --coordinator=HOST:PORT")
    found = _slurm(environment) or _tpu_variables(environment)
    if not found and coordinator == "auto":
        found = _tpu_metadata(_ask_metadata)
    if found and found.process_count > 1:
        return found
    return None


def _given(coordinator: str, process_id: int | None, process_count: int | None) -> Cluster:
    if process_id is None or process_count is None:
        raise UserError("--coordinator needs --process_id and --process_count as well")
    if not 0 <= process_id < process_count:
        raise UserError(
            f"--process_id: expected 0 to --process_count - 1 = {process_count - 1}, "
            f"got {process_id}"
        )
    split_address(coordinator)
    return Cluster(coordinator, process_id, process_count)


def _slurm(environment: Mapping[str, str]) -> Cluster | None:
    """The position in a step that srun started; a job's or salloc's shell is not such a step."""
    try:
        job, task = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_PROCID"])
        count = int(environment["SLURM_STEP_NUM_TASKS"])
        nodes = expand_nodes(environment["SLURM_STEP_NODELIST"])
    except (KeyError, ValueError):
        return None
    port = 20000 + job % 10000  # so that jobs on the same node use different ports
    hosts = nodes if len(nodes) == count else ()
    return Cluster(f"{nodes[0]}:{port}", task, count, hosts)


def expand_nodes(nodes: str) -> tuple[str, ...]:
    """Expands SLURM's short form of host names, in order.

    Example:
        >>> expand_nodes("gpu[008-010,12],login")
        ('gpu008', 'gpu009', 'gpu010', 'gpu12', 'login')
    """
    names = []
    for item in re.findall(r"(?:[^,\[]|\[[^\]]*\])+", nodes):
        pieces = re.split(r"\[([^\]]*)\]", item)  # every second piece was in brackets
        choices = [_numbers(text) if i % 2 else [text] for i, text in enumerate(pieces)]
        names += ["".join(chosen) for chosen in itertools.product(*choices)]
    return tuple(names)


def _numbers(ranges: str) -> list[str]:
    """Expands "008-010,12" to 008, 009, 010, 12."""
    found = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        numbers = range(int(first), int(last or first) + 1)
        found += [f"{number:0{len(first)}d}" for number in numbers]
    return found


def _tpu_variables(environment: Mapping[str, str]) -> Cluster | None:
    """The position in a TPU pod in GKE, or wherever libtpu's variables are set."""
    hosts = tuple(filter(None, environment.get("TPU_WORKER_HOSTNAMES", "").split(",")))
    worker = environment.get("TPU_WORKER_ID", "")
    if not hosts or not worker.isdigit():
        return None
    return Cluster(f"{hosts[0]}:{PORT}", int(worker), len(hosts), hosts)


def _tpu_metadata(ask: Callable[[str], str]) -> Cluster:
    """The position of a TPU VM, from its metadata server.

    Args:
        ask: attribute name -> text; raises OSError if there is no such server.
    """
    try:
        worker = int(ask("agent-worker-number"))
        workers = ask("worker-network-endpoints").strip().split(",")
    except (OSError, ValueError):
        raise UserError(
            "--coordinator=auto: neither srun nor a TPU pod started this process; give "
            "--coordinator=HOST:PORT, --process_id and --process_count"
        ) from None
    hosts = tuple(endpoint.split(":")[-1] for endpoint in workers)  # "name:id:address", or a name
    return Cluster(f"{hosts[0]}:{PORT}", worker, len(hosts), hosts)


def _ask_metadata(attribute: str) -> str:
    import urllib.request

    request = urllib.request.Request(_METADATA + attribute, headers={"Metadata-Flavor": "Google"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()
