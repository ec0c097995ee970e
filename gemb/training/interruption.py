"""Being stopped well: SIGTERM at the end of a step, one run a workdir."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from gemb.checks import UserError

RESUMABLE = 75  # EX_TEMPFAIL of sysexits.h: the same command goes on


class Stopped(UserError):
    """The run was told to stop and has saved itself."""

    status = RESUMABLE


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
def sole_run(workdir: Path) -> Iterator[None]:
    """Holds a workdir; the lock goes with the process, however that ends.

    Raises:
        UserError: if another live run holds it, naming its process and host.
    """
    import fcntl

    workdir.mkdir(parents=True, exist_ok=True)
    with open(workdir / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(
                f"{workdir} is in use by a live run ({file.read().strip() or 'unknown process'}); "
                "wait for it, stop it, or choose another --workdir"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
