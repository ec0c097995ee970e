"""One writer at a time: the lock, the log, and the rest of writers that were killed."""

import contextlib
import fcntl
import getpass
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from gemb.checks import UserError
from gemb.files import sync_path, users_errors
from gemb.identity import Version
from gemb.store.disk import layout

_FOREIGN_SECONDS = 24 * 3600


@contextlib.contextmanager
def writing(store: Path) -> Iterator[None]:
    """Holds the store's LOCK, and first removes what killed writers left.

    Raises:
        UserError: another process holds it; or the place cannot be written or has no locks.
    """
    with users_errors(store), open(store / layout.LOCK, "ab+", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).decode(errors="replace").strip() or "another process"
            raise UserError(
                f"{store}: is being written by {holder}; wait for it or stop it"
            ) from None
        except OSError as error:
            raise UserError(f"{store}: its file system has no locks ({error.strerror})") from None
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError):  # a full disk must not keep `retire` from freeing it
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()} since {since}\n".encode())
        remove_unfinished(store)
        yield
        file.truncate(0)


def remove_unfinished(store: Path) -> None:
    """Removes folders that killed writers left; the caller holds the lock.

    A folder of a live process of this machine stays: a file system may have no working locks.
    """
    for left in (store / layout.VERSIONS).glob(".*"):
        named = re.fullmatch(r"\.\d+\.\d+\.(\d+)\.[0-9a-f]+", left.name)
        pid = int(named[1]) if named else 0
        with contextlib.suppress(OSError):
            old = time.time() - left.stat().st_mtime > _FOREIGN_SECONDS
            if pid == os.getpid() or old or not _alive(pid):
                remove(left)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def set_writable(folder: Path, writable: bool) -> None:
    """Gives or takes everybody's right to write, for a folder and all in it."""
    for path in [folder, *folder.rglob("*")]:
        mode = path.stat().st_mode
        path.chmod(mode | 0o200 if writable else mode & ~0o222)


def remove(folder: Path) -> None:
    """Removes a folder that may be read-only.

    Files keep their mode: other versions may have them too, as hard links.
    """
    for path in [folder, *(each for each in folder.rglob("*") if each.is_dir())]:
        path.chmod(path.stat().st_mode | 0o200)
    shutil.rmtree(folder)


def append(store: Path, what: str, version: Version, why: str = "", **more) -> None:
    """Adds a line to log.jsonl and waits for the disk; the caller holds the lock."""
    with contextlib.suppress(OSError, KeyError, ImportError):
        more["who"] = getpass.getuser()  # some containers know no name
    line = {"time": time.time(), "what": what, "version": str(version), "why": why} | more
    path = store / layout.LOG
    new = not path.exists()
    with open(path, "ab+") as file:
        _drop_torn_line(file)
        file.write(json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_path(store)


def _drop_torn_line(file) -> None:
    """A writer was killed, or the disk was full, in the middle of the last line."""
    size = file.seek(0, os.SEEK_END)
    start = max(size - (1 << 16), 0)
    file.seek(start)
    tail = file.read()
    if tail and not tail.endswith(b"\n"):
        file.truncate(start + tail.rfind(b"\n") + 1)
        file.seek(0, os.SEEK_END)


def read_log(store: Path) -> list[dict]:
    """The lines of log.jsonl, oldest first; a last line without an end was never finished.

    Raises:
        UserError: a line that cannot be read.
    """
    path = store / layout.LOG
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append({"what": "", "why": ""} | json.loads(line))
            found[-1]["version"] = Version.parse(found[-1]["version"])
        except (ValueError, KeyError, TypeError, UserError):
            raise UserError(f"{path}: line {number} cannot be read; mend or delete it") from None
    return found
