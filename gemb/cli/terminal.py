"""The terminal: what it can print, and how a verb ends when something goes wrong.

Every verb runs inside `ends_well`; no verb handles a closed pipe, an interrupt, a full disk or a
device that JAX does not find by itself.
"""

import contextlib
import errno
import io
import os
import select
import sys
import traceback
from collections.abc import Iterator
from typing import NoReturn

from absl import flags

from gemb.checks import UserError

_INTERRUPTED, _CLOSED_PIPE = 130, 141  # 128 + SIGINT, 128 + SIGPIPE, as a shell reports them
# Caused by the disk, its permissions or a path, not by the code.
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO}
_DISK |= {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}


def print_anything() -> None:
    """Makes stdout and stderr accept any text; characters that they cannot print become "?"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdin, io.TextIOWrapper):  # undecodable input is then refused in one line
        sys.stdin.reconfigure(errors="surrogateescape")


@contextlib.contextmanager
def ends_well(verb: str) -> Iterator[None]:
    """Ends the process with one line for every error that the code did not cause.

    Exit status: 2 (or the error's own) for a user's mistake, 1 for a disk that cannot be written,
    130 for Ctrl-C, 141 if the reader of the output has ended (`gemb search ... | head`).

    Args:
        verb: the verb in the message; "" for none.
    """
    try:
        yield
        if sys.stdout:
            sys.stdout.flush()  # here, where a closed pipe is handled
    except flags.Error as error:
        fail(verb, str(error))
    except UserError as error:
        # gin appends its call stack
        message = str(error).split("In call to configurable")[0]
        fail(verb, message, error.status, alone=not error.shared)
    except KeyboardInterrupt:
        _interrupted(verb)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            _leave(_CLOSED_PIPE)
        if message := _mistake(error):
            fail(verb, message, 1 if isinstance(error, OSError) else 2)
        traceback.print_exc()
        _leave(1)


def fail(verb: str, message: str, status: int = 2, alone: bool = False) -> NoReturn:
    """Prints one line on stderr and exits.

    Args:
        verb: the verb in the message; "" for none.
        message: what is wrong.
        status: the exit status.
        alone: whether only this process of a run has the error.
    """
    line = f"gemb {verb}".strip() + f": error: {' '.join(message.split())}"
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)
    if alone:
        _leave(status)
    sys.exit(status)


def _interrupted(verb: str) -> NoReturn:
    with contextlib.suppress(OSError):
        print(f"\ngemb {verb}".rstrip() + ": interrupted", file=sys.stderr)
    sys.exit(_INTERRUPTED)


def _mistake(error: Exception) -> str:
    """The message of an error that the code did not cause; '' for any other error."""
    if isinstance(error, OSError) and error.errno in _DISK:
        if not error.filename:
            _drop(sys.stdout)
        return f"{error.filename or 'cannot write the output'}: {error.strerror}"
    config = sys.modules.get("gemb.config")
    if config and isinstance(error, TypeError) and (message := config.mistake(error)):
        return message
    return _missing_device()


def _missing_device() -> str:
    """Why JAX has no device of the kind that JAX_PLATFORMS names; '' if it has one."""
    wanted = os.environ.get("JAX_PLATFORMS", "")
    jax = sys.modules.get("jax")
    if not wanted or jax is None:
        return ""
    try:
        jax.devices()
    except Exception as error:  # a RuntimeError, or an AssertionError without a message
        reason = str(error).split(" (set JAX_PLATFORMS")[0].rstrip(".")
        return (
            f"JAX_PLATFORMS={wanted}: JAX finds no such device"
            + (f" ({reason})" if reason else "")
            + "; unset JAX_PLATFORMS, or set it to cpu"
        )
    return ""


def _reader_is_gone() -> bool:
    """Whether the reader of stdout or stderr has ended; remaining output is then dropped."""
    gone = [stream for stream in (sys.stdout, sys.stderr) if stream and _is_closed(stream)]
    for stream in gone:
        _drop(stream)
    return bool(gone)


def _drop(stream) -> None:
    """Discards the rest of the output: Python would report the error again when it flushes."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_closed(stream) -> bool:
    """Whether a stream is a pipe or a socket that has lost its reader."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # no file of the system's, as in a notebook
        return False
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _leave(status: int) -> NoReturn:
    """Exits; at once if this process and the others of a run would wait for each other."""
    distributed = sys.modules.get("gemb.parallel.distributed")
    if distributed and distributed.joined():
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
