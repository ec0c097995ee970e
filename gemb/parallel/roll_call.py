"""The roll call: the processes of a run find each other, or get the names of missing ones.

JAX alone kills a process whose partner is missing (SIGABRT inside C++) and does not report which
one it waited for. So all first connect over TCP, on the port that JAX's coordinator uses
afterwards: process 0 listens, the others report, and all get the same answer. Nothing here imports
JAX.
"""

import contextlib
import json
import select
import socket
import time
from collections.abc import Sequence

from gemb.checks import UserError

_LINE = 4096  # bytes of the longest line
_RETRY_SECONDS = 0.25
_GRACE_SECONDS = 5.0  # how much longer a reporting process waits than process 0, to get its answer


class NeverJoined(UserError):
    """A process of the run never joined; nothing is lost, and the same command can be repeated."""

    status = 75  # EX_TEMPFAIL, as for an interrupted run: the launchers start it again


def call_the_roll(
    coordinator: str,
    process_id: int,
    process_count: int,
    *,
    timeout_seconds: float,
    hosts: Sequence[str] = (),
) -> None:
    """Returns when all processes of the run have called it.

    Args:
        coordinator: "host:port" of process 0.
        process_id, process_count: the number of this process, and the number of processes.
        timeout_seconds: how long to wait for the others.
        hosts: host names by process id for messages, if they are known.

    Raises:
        NeverJoined: with one line about which host waited how long for which process on which host.
        UserError: if the port is in use, two processes have the same id, or counts differ.
    """
    here = f"host {socket.gethostname()} (process {process_id} of {process_count})"
    report = {"id": process_id, "count": process_count, "host": socket.gethostname()}
    deadline = time.monotonic() + timeout_seconds
    if process_id == 0:
        answer = _listen(coordinator, process_count, deadline)
    else:
        answer = _report(coordinator, report, deadline)
    if answer.get("error"):
        raise UserError(f"{here}: {answer['error']}")
    if answer["missing"]:
        raise NeverJoined(_missing(here, answer, coordinator, timeout_seconds, hosts))


def _missing(here: str, answer: dict, coordinator: str, seconds: float, hosts) -> str:
    names = [
        f"process {i}" + (f" ({hosts[i]})" if i < len(hosts) else "") for i in answer["missing"][:8]
    ]
    more = len(answer["missing"]) - len(names)
    names = ", ".join(names) + (f" and {more} more" if more else "")
    asked = "" if answer.get("heard", True) else ", which never answered"
    return (
        f"{here} waited {seconds:g} s for {names}{asked}, at {coordinator}; start every process "
        "with the same --coordinator and --process_count, check that this port is open between "
        "the hosts, or raise --join_timeout"
    )


class _Roll:
    """The state of process 0: who has reported, and what to answer."""

    def __init__(self, count: int, deadline: float):
        self.count, self.deadline, self.error = count, deadline, None
        self.present: dict[int, tuple[socket.socket, str]] = {}

    def open(self) -> bool:
        return len(self.present) < self.count - 1 and not self.error and self.left() > 0

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def answer(self) -> dict:
        return {
            "missing": sorted(set(range(1, self.count)) - set(self.present)),
            "error": self.error,
        }

    def admit(self, connection: socket.socket) -> None:
        """Reads one report; the shortest timeout sets the deadline of all."""
        report = _read(connection, time.monotonic() + 1)
        try:
            number, host = int(report["id"]), str(report["host"])
            count, seconds = int(report["count"]), float(report["seconds"])
        except (KeyError, TypeError, ValueError):
            connection.close()  # a port scanner, or a process that notices it and reports again
            return
        if count != self.count:
            self.error = f"process 0 says --process_count={self.count}, {host} says {count}"
        elif self.present.get(number, (None, host))[1] != host:
            other = self.present[number][1]
            self.error = f"two processes say --process_id={number}: {other} and {host}"
        if self.error:
            number = -1  # so that it gets the error too
        self.present[number] = (connection, host)  # the later one of a host, after a restart
        self.deadline = min(self.deadline, time.monotonic() + seconds)

    def gone(self, connection: socket.socket) -> None:
        self.present = {i: p for i, p in self.present.items() if p[0] is not connection}


def _listen(coordinator: str, count: int, deadline: float) -> dict:
    """Process 0: waits for reports and sends all of them the same answer."""
    roll = _Roll(count, deadline)
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(_server(coordinator))
        while roll.open():
            waiting = [connection for connection, _ in roll.present.values()]
            for ready in select.select([server, *waiting], [], [], max(0, roll.left()))[0]:
                if ready is server:
                    roll.admit(opened.enter_context(server.accept()[0]))
                else:
                    roll.gone(ready)  # a second message is not expected
        line = json.dumps(roll.answer()).encode() + b"\n"
        for connection, _ in roll.present.values():
            with contextlib.suppress(OSError):
                connection.sendall(line)
    return roll.answer()


def _report(coordinator: str, report: dict, deadline: float) -> dict:
    """Other processes: report to process 0 until it is reached, then wait for its answer."""
    host, port = split_address(coordinator)
    nobody = {"missing": [0], "heard": False}
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return nobody
        try:
            with socket.create_connection((host, port), timeout=left) as connection:
                line = json.dumps(report | {"seconds": left})
                connection.sendall(line.encode() + b"\n")
                answer = _read(connection, deadline + _GRACE_SECONDS)
                if "missing" in answer:
                    return answer
        except OSError:  # not started, not in the DNS yet, or restarted
            pass
        time.sleep(_RETRY_SECONDS)


def _server(coordinator: str) -> socket.socket:
    port = split_address(coordinator)[1]
    both = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        return socket.create_server(("", port), family=family, dualstack_ipv6=both, backlog=4096)
    except OSError as error:
        raise UserError(
            f"host {socket.gethostname()} cannot listen on port {port} ({error.strerror}); "
            "another run may use it: choose another port in --coordinator"
        ) from None


def _read(connection: socket.socket, deadline: float) -> dict:
    """One line of JSON; {} if it is invalid or the connection was closed."""
    received = b""
    try:
        while not received.endswith(b"\n") and len(received) < _LINE:
            connection.settimeout(max(0.01, deadline - time.monotonic()))
            part = connection.recv(_LINE)
            if not part:
                return {}
            received += part
        value = json.loads(received)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def split_address(coordinator: str) -> tuple[str, int]:
    """Parses "host:port" into ("host", port).

    Raises:
        UserError: for another form.

    Example:
        >>> split_address("node001:8482")
        ('node001', 8482)
    """
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"--coordinator: expected HOST:PORT, got {coordinator!r}")
    return host.strip("[]"), int(port)
