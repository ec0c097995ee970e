"""Being stopped well: SIGTERM at the end of a step, a lost process, one run a workdir."""

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

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on


class Stopped(UserError):
    """The run was told to stop and has saved itself."""

    status = RESUMABLE
    shared = True


class LostProcess(UserError):
    """Another process of the run is gone.

    Args:
        error: what told it.
    """

    status = RESUMABLE

    def __init__(self, error: Exception):
        said = (str(error) or type(error).__name__).splitlines()[0][:160]
        super().__init__(
            f"another process of this run was lost ({said}); the same command on every host goes "
            "on from the last checkpoint"
        )


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether SIGTERM has come; the signal does nothing else meanwhile.

    Preemptible machines send it some time before they go. Outside the main thread nothing changes.
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
def lost_process() -> Iterator[None]:
    """Turns what JAX raises when another process of the run is gone into one line.

    Raises:
        LostProcess: in its place.
        UserError: where a device is out of memory.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        first = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" in first:
            raise UserError(
                "a device is out of memory; a smaller BATCH_SIZE, more query_microbatches and "
                "document_microbatches of experiment.Experiment, or execution.Execution.remat = "
                f"'full' take less, and --dry_run tells how much ({first[:160]})"
            ) from error
        if jax.process_count() == 1 or first.startswith(("INVALID_ARGUMENT", "UNIMPLEMENTED")):
            raise
        raise LostProcess(error) from error


@contextlib.contextmanager
def sole_run(workdir: Path) -> Iterator[None]:
    """Holds a workdir for all processes of a run; the lock goes with the first of them.

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
        why = f"its file system has no locks ({error.strerror})"
        print(f"warning: {workdir}: {why}; start no second run there", file=sys.stderr)
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
