"""The files of a store on disk: their names, and how CURRENT and manifests are read.

store.json        format of the store
CURRENT           the live version, "0007.0003"; absent: none is. Only this file is replaced
LOCK              held by the one writer; says which process it is
log.jsonl         what was done to versions, by whom and why
versions/
  0007.0003/      never changes: manifest.json, a folder of vectors for each set, whatever else
                  the release needs
  .0007.0004.PID.HEX/    not finished
"""

import dataclasses
import hashlib
import os
import re
from pathlib import Path

from gemb.checks import UserError
from gemb.files import read_manifest, sync_path, users_errors, write_json
from gemb.identity import Space, Version

STORE_FILE, CURRENT, LOCK, LOG = "store.json", "CURRENT", "LOCK", "log.jsonl"
VERSIONS, MANIFEST = "versions", "manifest.json"
STORE_FORM, VERSION_FORM, FORMAT = "gemb store", "gemb version", 1
_FIELDS = {"number": str, "space": dict, "sets": dict, "files": dict, "made": float, "about": dict}
MADE_BY = "gemb.store.VersionStore"


def create(store: Path) -> None:
    """Makes an empty store, unless one is there.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    with users_errors(store):
        if not (store / STORE_FILE).exists():
            if store.exists() and any(store.iterdir()):
                raise UserError(f"{store}: holds files and is not a store; choose another folder")
            (store / VERSIONS).mkdir(parents=True, exist_ok=True)
            write_json(store / STORE_FILE, {"format": STORE_FORM, "version": FORMAT}, sync=True)
            sync_path(store)


def check_store(store: Path) -> None:
    """Checks that a folder is a store of this format.

    Raises:
        UserError: it is not.
    """
    read_manifest(store / STORE_FILE, STORE_FORM, FORMAT, {}, MADE_BY)


def folder_name(version: Version) -> str:
    """The name of a version's folder, which sorts as versions do.

    Example:
        >>> folder_name(Version(7, 3))
        '0007.0003'
    """
    return f"{version.generation:04d}.{version.refresh:04d}"


def folder_of(store: Path, version: Version) -> Path:
    """The folder of a finished version."""
    return store / VERSIONS / folder_name(version)


def finished(store: Path) -> list[Version]:
    """Versions that are whole, newest first."""
    try:
        names = os.listdir(store / VERSIONS)
    except OSError as error:
        raise UserError(f"{store / VERSIONS}: {error.strerror}") from None
    found = (name for name in names if re.fullmatch(r"\d{4,9}\.\d{4,9}", name))
    return sorted(map(Version.parse, found), reverse=True)


def read_current(store: Path) -> Version | None:
    """The version that CURRENT names; None where nothing is published.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        text = (store / CURRENT).read_text(encoding="ascii")
        return Version.parse(text.removesuffix("\n"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, UserError) as error:
        raise UserError(
            f"{store / CURRENT}: cannot be read ({error}); `gemb rollback` with a version mends it"
        ) from None


def write_manifest(folder: Path, version: Version, space: Space, content: dict) -> None:
    """Writes manifest.json, which completes a version's folder, and waits for the disk."""
    tree = {"format": VERSION_FORM, "version": FORMAT, "number": str(version)}
    write_json(folder / MANIFEST, tree | {"space": dataclasses.asdict(space)} | content, sync=True)


def read_version(folder: Path) -> dict:
    """The content of a version's manifest.json.

    Raises:
        UserError: there is none, a broken one, or one of another format version.
    """
    found = read_manifest(folder / MANIFEST, VERSION_FORM, FORMAT, _FIELDS, MADE_BY)
    if Version.parse(found["number"]) != Version.parse(folder.name):
        raise UserError(f"{folder / MANIFEST}: of version {found['number']}; the folder was moved")
    return found


def digests(folder: Path) -> dict[str, dict]:
    """Bytes and BLAKE2b of every file of a version, manifest.json left out.

    Returns:
        {path in the folder: {"bytes": int, "blake2b": hexadecimal digits}}.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name != MANIFEST:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
            found[name] = {"bytes": path.stat().st_size, "blake2b": digest.hexdigest()}
    return found


def differences(folder: Path, files: dict[str, dict]) -> list[str]:
    """What of a version's files is not as its manifest says; empty where all is well."""
    try:
        found = digests(folder)
    except OSError as error:
        return [f"{folder}: cannot be read ({error.strerror})"]
    names = sorted({*found, *files})
    said = {name: "missing" if name not in found else "not in the manifest" for name in names}
    said |= {name: "damaged" for name in names if name in found and name in files}
    return [
        f"{folder / name}: {said[name]}" for name in names if found.get(name) != files.get(name)
    ]
