"""Interruptions: SIGTERM, lost processes, and a lock that allows one run per workdir."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from gemb.checks import UserError
from gemb.parallel import hosts
from gemb.runs.records import LOCK_FILE

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: the same command resumes


class Stopped(UserError):
    """The run received SIGTERM and saved its state."""

    status = RESUMABLE
    shared = True


class LostProcess(UserError):
    """Another process of the run has ended.

    Args:
        error: the exception that reported it.
    """

    status = RESUMABLE

    def __init__(self, error: Exception):
        said = (str(error) or type(error).__name__).splitlines()[0][:160]
        super().__init__(
            f"another process of this run was lost ({said}); run the same command on every host to "
            "resume from the last checkpoint"
        )


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether SIGTERM was received; the signal does nothing else.

    Preemptible machines send it before they stop. Outside the main thread signals are unchanged.
    """
    came = []
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: came.append(True))
    except ValueError:  # not the main thread
        yield lambda: False
        return
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def resumable(what: str) -> Iterator[None]:
    """Ends a block with `Stopped` when SIGTERM is received, at any point of it.

    For work whose files appear whole: what is unfinished is as after a kill.

    Args:
        what: is stopped, for the message.
    """

    def stop(*_) -> None:
        raise Stopped(f"{what}: stopped by SIGTERM; the same command continues")

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def lost_process() -> Iterator[None]:
    """Replaces JAX's error about a lost process or full device memory by one line.

    Raises:
        LostProcess: if another process of the run has ended.
        UserError: if a device is out of memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        first = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" in first:
            raise UserError(
                "a device is out of memory; use a smaller BATCH_SIZE, more query_microbatches and "
                "document_microbatches of experiment.Experiment, or execution.Execution.remat = "
                f"'full'; --dry_run reports the memory that a step needs ({first[:160]})"
            ) from error
        if jax.process_count() == 1 or first.startswith(("INVALID_ARGUMENT", "UNIMPLEMENTED")):
            raise
        raise LostProcess(error) from error


@contextlib.contextmanager
def sole_run(workdir: Path) -> Iterator[None]:
    """Locks a workdir for all processes of a run; the first process holds the lock.

    Raises:
        UserError: if another live run holds it, naming its process and host.
    """
    with contextlib.ExitStack() as held:
        hosts.on_first(lambda: _lock(workdir, held))
        yield


def _lock(workdir: Path, held: contextlib.ExitStack) -> None:
    import fcntl

    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = held.enter_context((workdir / LOCK_FILE).open("a+", encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{workdir}: cannot be written ({error.strerror}); choose another folder"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        raise UserError(
            f"{workdir} is in use by a live run ({file.read().strip() or 'unknown process'}); "
            "wait for it, stop it, or choose another folder"
        ) from None
    except OSError as error:
        why = f"its file system does not support locks ({error.strerror})"
        print(f"warning: {workdir}: {why}; do not start a second run there", file=sys.stderr)
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
