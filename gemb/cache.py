"""Where gemb keeps what it fetched and made, and how it writes: whole, or not at all.

Only paths and atomic writing belong here; what is written is the caller's business.
"""

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from gemb.checks import UserError

_STALE_SECONDS = 24 * 3600
_USERS_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP),
}


def cache_dir() -> Path:
    """The folder for models and harvests: $GEMB_CACHE, else `gemb` in the user's cache folder.

    Returns:
        An absolute path; the folder need not exist yet.
    """
    users = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("GEMB_CACHE") or f"{users}/gemb").expanduser().absolute()


@contextlib.contextmanager
def atomic_folder(final: str | Path) -> Iterator[Path]:
    """Gives a temporary folder that becomes `final` when the block ends well.

    Left by an exception, the temporary folder is removed and `final` stays as it was. What a killed
    process left beside `final` is removed after a day.

    Args:
        final: the folder to make, or to replace whole.

    Yields:
        An empty folder on the same disk.

    Raises:
        UserError: when the disk is full or the place cannot be written.
    """
    final, temporary = _beside(final)
    with _users_errors(final):
        _remove_stale(final)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            replace_folder(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(final: str | Path) -> Iterator[Path]:
    """Gives a temporary path; the file written there becomes `final` when the block ends well.

    Args:
        final: the file to make or to replace; its folder is made where it is missing.

    Yields:
        A path on the same disk, where no file is yet.

    Raises:
        UserError: when the disk is full or the place cannot be written.
    """
    final, temporary = _beside(final)
    with _users_errors(final):
        _remove_stale(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, final)
        finally:
            temporary.unlink(missing_ok=True)


def replace_folder(temporary: Path, final: Path) -> None:
    """Puts `temporary` in the place of `final`, whose old content is removed afterwards."""
    old = temporary.with_name(f"{temporary.name}-old")
    if final.exists():
        os.replace(final, old)
    os.replace(temporary, final)
    shutil.rmtree(old, ignore_errors=True)


def _beside(final: str | Path) -> tuple[Path, Path]:
    """The place, and a name beside it that no other process has: in containers all are number 1."""
    final = Path(os.path.abspath(final))
    return final, final.with_name(f".{final.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")


@contextlib.contextmanager
def _users_errors(final: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _USERS_ERRORS:
            raise
        raise UserError(
            f"cannot write {final}: {error.strerror}. Free some space or choose another place "
            "(the cache moves with GEMB_CACHE); nothing half-written was kept."
        ) from error


def _remove_stale(final: Path) -> None:
    for left in final.parent.glob(f".{final.name}.partial-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left) if left.is_dir() else left.unlink()
