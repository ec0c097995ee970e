"""Implementations side by side: each in a process of its own, all started first, then in turn.

A worker is the benchmark script itself, started with `--worker NAME`; it reads one JSON request a
line and answers one JSON line with `seconds` in it. Turns alternate, so that what else the
machine does falls on all alike; a ratio is the median of the ratios of one turn.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable


class Worker:
    """One implementation in its process.

    Args:
        script: path of the benchmark.
        name: the implementation.
        arguments: passed on.
    """

    def __init__(self, script: str, name: str, arguments: list[str]):
        self.name = name
        command = [sys.executable, script, "--worker", name, *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.about = self._read()

    def ask(self, **request) -> dict:
        """Sends a request and waits for its answer."""
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """Ends the process."""
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the worker {self.name} ended; its message stands above")
        return json.loads(line)


def serve(answer: Callable[..., dict], **about) -> None:
    """A worker's main loop: requests from stdin, answers with seconds and peak MiB to stdout."""
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        reply = answer(**request)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(json.dumps({"seconds": seconds, "peak_mib": round(peak, 1)} | reply), flush=True)


def alternate(workers: list[Worker], turns: int, **request) -> dict[str, list[dict]]:
    """Asks every worker the same, in turn.

    Returns:
        {name: its answers}; the first turn, which compiles and warms up, is left out.
    """
    answers = {worker.name: [] for worker in workers}
    for turn in range(turns + 1):
        for worker in workers:
            reply = worker.ask(**request)
            if turn:
                answers[worker.name].append(reply)
    return answers


def speed_up(base: list[dict], other: list[dict]) -> float:
    """How many times faster `other` is: the median over the turns."""
    pairs = zip(base, other, strict=True)
    return statistics.median(b["seconds"] / o["seconds"] for b, o in pairs)


def show(**row) -> None:
    """One JSON line."""
    print(json.dumps(row), flush=True)
