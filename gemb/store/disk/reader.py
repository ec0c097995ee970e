"""Reads versions; a reader takes no lock and follows CURRENT."""

import time
from pathlib import Path
from typing import NamedTuple

from gemb.checks import UserError
from gemb.identity import Space, Version, check_same_space
from gemb.store.disk import layout
from gemb.store.embeddings import Embeddings, read_embeddings

_TRIES = 3


class Opened(NamedTuple):
    """A version in use. Its files stay mapped when a later one is published, or this one removed.

    Attributes:
        version, space: of all its vectors.
        folder: with whatever else the release holds.
        sets: name -> ids, vectors (mapped) and embeddings.json.
        about: what its maker said of it.
    """

    version: Version
    space: Space
    folder: Path
    sets: dict[str, Embeddings]
    about: dict


def open_version(
    store: Path,
    version: Version | None = None,
    *,
    space: Space | None = None,
    sets: tuple[str, ...] | None = None,
    verify: bool = False,
) -> Opened:
    """Opens a version of a store.

    Args:
        store: its folder.
        version: None for the live one.
        space: that it has to be of; None for any.
        sets: names of the sets to open; None for all.
        verify: whether to compare all files with their digests first.

    Raises:
        SpaceError: it is of another space.
        UserError: nothing is published, or files are missing or damaged.
    """
    for attempt in range(_TRIES):
        asked = version or layout.read_current(store)
        if asked is None:
            raise UserError(f"{store}: nothing is published yet")
        folder = layout.folder_of(store, asked)
        try:
            return _open(folder, asked, space, sets, verify)
        except UserError:
            # Between CURRENT and the folder a newer version was published and this one removed.
            moved = version is None and layout.read_current(store) != asked
            if attempt == _TRIES - 1 or not moved:
                raise
    raise AssertionError


def _open(folder: Path, version: Version, space: Space | None, sets, verify: bool) -> Opened:
    manifest = layout.read_version(folder)
    found = Space.read(manifest["space"], f"{folder / layout.MANIFEST}: space")
    if space is not None:
        check_same_space(space, found, str(folder))
    if verify and (problems := layout.differences(folder, manifest["files"])):
        raise UserError(f"{problems[0]}; make the version again")
    opened = {}
    for name in manifest["sets"] if sets is None else sets:
        if name not in manifest["sets"]:
            raise UserError(f"{folder}: no set {name!r}; there are {sorted(manifest['sets'])}")
        opened[name] = read_embeddings(folder / name, model=None)
        check_same_space(found, opened[name].about.get("space", "none"), str(folder / name))
    return Opened(version, found, folder, opened, manifest["about"])


class Follower:
    """The live version of a store, looked for again after some time.

    Args:
        store: a `VersionStore` or its folder.
        seconds: between two looks at CURRENT.
        **options: see `open_version`.

    Attributes:
        error: why the newest look failed; "" if it did not. The version before stays in use.
    """

    def __init__(self, store, *, seconds: float = 1.0, **options):
        self._store, self._seconds, self._options = Path(str(store)), seconds, options
        self._opened, self._stamp = None, None
        self._next, self.error = 0.0, ""
        self.get()

    def get(self) -> Opened:
        """The live version, at most `seconds` old.

        Raises:
            UserError: none was ever opened.
        """
        if self._opened is None or time.monotonic() >= self._next:
            self._next = time.monotonic() + self._seconds
            try:
                self._look()
                self.error = ""
            except UserError as error:
                if self._opened is None:
                    raise
                self.error = str(error)
        return self._opened

    def _look(self) -> None:
        try:
            stat = (self._store / layout.CURRENT).stat()
            stamp = (stat.st_ino, stat.st_mtime_ns)
        except OSError:
            stamp = None
        if self._opened is None or stamp is None or stamp != self._stamp:
            self._opened = open_version(self._store, **self._options)
            self._stamp = stamp
