"""Which processes of this machine have files of a version open or mapped."""

import contextlib
import os
import re
from pathlib import Path

from gemb.identity import Version
from gemb.store.disk import layout

_PROCESSES = Path("/proc")


def readers(store: Path) -> dict[Version, list[str]]:
    """Processes that read versions now, as Linux lists them.

    Args:
        store: its folder.

    Returns:
        Version -> "process 123 (python)"; of other users' processes, and on other systems or
        machines, nothing is known.
    """
    folder = re.escape(os.fspath((store / layout.VERSIONS).resolve()))
    named = re.compile(rf"{folder}/(\d{{4,9}}\.\d{{4,9}})/")
    found: dict[Version, list[str]] = {}
    for place in _PROCESSES.glob("[0-9]*"):
        if place.name == str(os.getpid()):
            continue
        for version in sorted({*named.findall(_open_files(place))}):
            with contextlib.suppress(OSError):
                name = (place / "comm").read_text().strip()
                found.setdefault(Version.parse(version), []).append(
                    f"process {place.name} ({name})"
                )
    return found


def _open_files(process: Path) -> str:
    """The paths of files that a process maps or has open."""
    names = []
    with contextlib.suppress(OSError):
        names.append((process / "maps").read_text(errors="replace"))
    with contextlib.suppress(OSError):
        for link in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                names.append(f"{os.readlink(link)}\n")
    return "\n".join(names)
