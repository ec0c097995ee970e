"""Files: the cache folder, atomic writing, manifests, safetensors.

What belongs here: where files go and how they are written whole or not at all. What is written is
the caller's business.
"""

import contextlib
import errno
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any

from gemb.checks import UserError

if TYPE_CHECKING:
    import numpy as np

ARRAYS = "arrays.safetensors"
_STALE_SECONDS = 24 * 3600
_USERS_ERRORS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTEMPTY, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP),
}


def local_folder(name: str, place: str | Path) -> Path:
    """The path of a folder to read or write.

    Args:
        name: what the caller calls it, such as "--workdir".
        place: a path.

    Raises:
        UserError: for a URL such as gs://bucket/runs.
    """
    if "://" in str(place):
        raise UserError(
            f"{name}: {place} is not a local folder; mount the bucket and give the mounted folder"
        )
    return Path(place).expanduser()


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
    process left next to `final` is removed after a day.

    Replacing a folder is not atomic for readers: for a moment there is none, and a reader that
    opens several files may get old and new ones. Folders that others read while they change are
    versions of a `gemb.store.VersionStore`, which never change.

    Args:
        final: the folder to make, or to replace whole.

    Yields:
        An empty folder on the same disk.

    Raises:
        UserError: when the disk is full or the place cannot be written.
    """
    final, temporary = _beside(final)
    with users_errors(final):
        _remove_stale(final)
        temporary.mkdir(parents=True)
        try:
            yield temporary
            replace_folder(temporary, final)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def atomic_file(final: str | Path, *, sync: bool = False) -> Iterator[Path]:
    """Gives a temporary path; the file written there becomes `final` when the block ends well.

    Args:
        final: the file to make or to replace; its folder is made where it is missing.
        sync: whether to wait until it is on the disk, so that it survives a power cut.

    Yields:
        A path on the same disk, where no file is yet.

    Raises:
        UserError: when the disk is full or the place cannot be written.
    """
    final, temporary = _beside(final)
    with users_errors(final):
        _remove_stale(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            if sync:
                sync_path(temporary)
            os.replace(temporary, final)
            if sync:
                sync_path(final.parent)
        finally:
            temporary.unlink(missing_ok=True)


def sync_path(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_json(path: str | Path, tree: Any, *, sync: bool = False) -> None:
    """Writes a tree as JSON; an existing file is replaced in one step.

    Args:
        path: where to write it.
        tree: dicts, lists, texts and numbers, numpy's included.
        sync: whether to wait until it is on the disk.

    Raises:
        ValueError: a number that JSON cannot hold (NaN, infinity).
        UserError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile, numpy as np
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "results.json"
        >>> write_json(file, {"ndcg@10": np.float32(0.5)})
        >>> file.read_text()
        '{\\n  "ndcg@10": 0.5\\n}\\n'
    """
    text = json.dumps(tree, indent=2, allow_nan=False, default=lambda value: value.tolist())
    with atomic_file(path, sync=sync) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_object(path: Path) -> dict:
    """The JSON object of a file; {} where there is none yet, or a damaged one."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def replace_folder(temporary: Path, final: Path) -> None:
    """Puts `temporary` in the place of `final`, whose old content is removed afterwards."""
    old = temporary.with_name(f"{temporary.name}-old")
    if final.exists():
        os.replace(final, old)
    os.replace(temporary, final)
    shutil.rmtree(old, ignore_errors=True)


def _beside(final: str | Path) -> tuple[Path, Path]:
    """The path, and a name next to it that no other process uses: in containers all have id 1."""
    final = Path(os.path.abspath(final))
    return final, final.with_name(f".{final.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")


@contextlib.contextmanager
def users_errors(final: Path) -> Iterator[None]:
    """Turns a full disk, a missing permission and the like into a UserError."""
    try:
        yield
    except OSError as error:
        # numpy's tofile gives no number where the disk is full
        short = error.errno is None and "requested and" in str(error)
        if not short and error.errno not in _USERS_ERRORS:
            raise
        why = os.strerror(errno.ENOSPC) if short else error.strerror
        raise UserError(
            f"cannot write {final}: {why}. Free some space or choose another place "
            "(the cache moves with GEMB_CACHE); nothing half-written was kept."
        ) from error


def _remove_stale(final: Path) -> None:
    for left in final.parent.glob(f".{final.name}.partial-*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


def parse_manifest(path: Path, form: str) -> dict:
    """The manifest of a folder of one format, of any version.

    Raises:
        OSError, ValueError, RecursionError: if there is none, or another file.
    """
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(manifest, dict) or manifest.get("format") != form:
        raise ValueError(f"no {form}")
    return manifest


def read_manifest(
    path: Path, form: str, version: int, fields: Mapping[str, type | UnionType], made_by: str
) -> dict:
    """The manifest of a folder of one format and version.

    Args:
        path: the file.
        form: its "format".
        version: its "version".
        fields: what every version has, and of which type.
        made_by: the command that writes such folders, for messages.

    Raises:
        UserError: if there is none, a broken one, or one of another version.
    """
    try:
        manifest = parse_manifest(path, form)
        found = manifest["version"]
        for name, kind in fields.items():
            if not isinstance(manifest.get(name), kind):
                expected = getattr(kind, "__name__", kind)
                raise ValueError(f"{name}: expected {expected}, got {manifest.get(name)!r:.40}")
    except (OSError, ValueError, KeyError, RecursionError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({why}); make it with `{made_by}`") from None
    if found != version:
        raise UserError(
            f"{path}: of format version {found}, but this gemb reads version {version}; make it "
            f"again with `{made_by}`"
        )
    return manifest


def save_tensors(
    path: Path, tensors: "Mapping[str, np.ndarray]", metadata: dict[str, str] | None = None
) -> None:
    """Writes named arrays into one file.

    safetensors itself writes an array's memory unchanged, which is wrong for a slice or a
    transpose, and for its owner's eyes alone.

    Args:
        path: the file; its folder must exist.
        tensors: {name: array}.
        metadata: texts to keep in the header.
    """
    import numpy as np
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode & 0o777
    whole = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    save_file(whole, path, metadata=metadata)
    path.chmod(mode)


def save_arrays(
    place: Path,
    manifest: str,
    about: Mapping[str, Any],
    arrays: "Mapping[str, np.ndarray]",
    *,
    what: str,
    more: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Writes a folder of a manifest and named arrays, whole or not at all.

    Args:
        place: the folder; one of the same kind is replaced.
        manifest: name of the manifest's file.
        about: its content, JSON values with "format" and "version".
        arrays: {name: array}, kept in `ARRAYS`.
        what: what the folder is, such as "an adapter".
        more: writes further files into the folder.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    if place.exists() and any(place.iterdir()) and not (place / manifest).exists():
        raise UserError(f"{place}: exists and is not {what}; choose another folder")
    with atomic_folder(place) as temporary:
        save_tensors(temporary / ARRAYS, arrays)
        more(temporary)
        text = json.dumps(about, indent=2) + "\n"
        (temporary / manifest).write_text(text, encoding="utf-8")


@contextlib.contextmanager
def reading_arrays(place: Path) -> "Iterator[dict[str, np.ndarray]]":
    """The arrays of a folder that `save_arrays` wrote; faults in the block become one line.

    Raises:
        UserError: a file that cannot be read, or content that is not as expected.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        yield load_file(place / ARRAYS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"{place}: cannot be read ({error}); fit it again") from None
