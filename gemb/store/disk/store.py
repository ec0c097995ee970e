"""A store on disk: immutable folders of versions, and one file that names the live one."""

import contextlib
import dataclasses
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from gemb.checks import UserError
from gemb.files import local_folder, sync_path
from gemb.identity import Listed, Space, Version
from gemb.store.disk import layout, reader, writer
from gemb.store.disk.draft import Draft
from gemb.store.ledger import KEEP_GENERATIONS, KEEP_REFRESHES, Ledger

_MARKS = {"marked bad": "bad", "marked good": "ready"}


class VersionStore:
    """Versions of a model's vectors on disk; one writer, any number of readers.

    A version's folder appears whole and never changes. CURRENT names the live version and is
    replaced in one step, so that a reader finds the old version or the new one and never a mixture.
    What a killed writer left is removed by the next one.

    Args:
        folder: the store.
        create: whether to make it where there is none.

    Raises:
        UserError: it is not a store, or of another format.

    Example:
        >>> import numpy as np
        >>> store = VersionStore(getfixture("tmp_path") / "store", create=True)
        >>> space = Space("q", "d", 2, True)
        >>> with store.draft(space) as draft:
        ...     draft.add("items", ["a", "b"], np.eye(2, dtype=np.float32))
        >>> store.publish(draft.version)
        >>> store.open().version
        Version(generation=1, refresh=1)
    """

    def __init__(self, folder: str | Path, *, create: bool = False):
        self.folder = local_folder("store", folder)
        if create:
            layout.create(self.folder)
        layout.check_store(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    def versions(self) -> list[Listed]:
        """What there is, newest first.

        Raises:
            UserError: a manifest or the log cannot be read.
        """
        return list(self.ledger().versions)

    def open(self, version: Version | None = None, **options) -> reader.Opened:
        """Reads a version, the live one by default; see `reader.open_version`."""
        return reader.open_version(self.folder, version, **options)

    @contextlib.contextmanager
    def draft(
        self, space: Space, *, version: Version | None = None, about: dict | None = None
    ) -> Iterator[Draft]:
        """Writes a new version, which appears when the block ends well; it is not live yet.

        Args:
            space: of its vectors: the same space as before makes a refresh, another a generation.
            version: a number that was given elsewhere; None for the next one.
            about: further JSON values for its manifest: digests of inputs, counts, metrics,
                fingerprints and alignment of the model where it declares the space of another.

        Yields:
            What vectors are added to.

        Raises:
            SpaceError: the number is of another space.
            UserError: another writer, a full disk, nothing added.
        """
        with writer.writing(self.folder):
            ledger = self.ledger()
            if version is None:
                version = ledger.next(space)
            ledger.check_number(version, space, self)
            if any(each.version == version for each in ledger.versions):
                raise UserError(f"{self}: version {version} is there already")
            parent = next((e.version for e in ledger.versions if e.space == space), None)
            made = Draft(self.folder, version, space)
            try:
                yield made
                kind = {"parent": str(parent or ""), "kind": "refresh" if parent else "full"}
                made.finish(kind | (about or {}))
            finally:
                if made.folder.exists():
                    writer.remove(made.folder)
            writer.append(self.folder, "made", version, space=space.id)

    def publish(self, version: Version) -> None:
        """Makes a version the live one, after it was read and its files were compared.

        A refresh of an older generation replaces the refresh before it, and is not live.

        Raises:
            UserError: it is damaged, marked bad, or older than the live one.
        """
        with writer.writing(self.folder):
            ledger = self.ledger().publish(version, self)
            self.open(version, verify=True)
            if ledger.live.version == version:
                self._point(version, "published")
            else:
                writer.append(self.folder, "published", version)

    def roll_back(self, version: Version | None = None, *, why: str) -> Version:
        """Makes an older version live.

        Args:
            version: to go back to; None for the newest older one that was live before.
            why: for the log.

        Returns:
            The version that is live now.

        Raises:
            UserError: there is none, or it is damaged or marked bad.
        """
        with writer.writing(self.folder):
            ledger = self.ledger(broken_pointer=True)
            target = ledger.roll_back(version, self).live.version
            self.open(target, verify=True)
            self._point(target, "rolled back", why)
        return target

    def mark_bad(self, version: Version, *, why: str) -> None:
        """Marks a version so that it is never published; the live one has to be rolled back first.

        Raises:
            UserError: it is live, or not there.
        """
        with writer.writing(self.folder):
            self.ledger().mark(version, "bad", self)
            writer.append(self.folder, "marked bad", version, why)

    def pin(self, version: Version, *, why: str, pinned: bool = True) -> None:
        """Keeps a version whatever its age, or no longer."""
        with writer.writing(self.folder):
            self.ledger().find(version, self)
            writer.append(self.folder, "pinned" if pinned else "unpinned", version, why)

    def retire(
        self,
        *,
        keep: int = KEEP_GENERATIONS,
        refreshes: int = KEEP_REFRESHES,
        dry_run: bool = False,
    ) -> list[Version]:
        """Removes old versions; never the live one, the one before it, or a pinned one.

        Args:
            keep: generations to keep.
            refreshes: versions to keep of each generation.
            dry_run: whether only to say what would be removed.

        Returns:
            What was removed.
        """
        if dry_run:
            return [each.version for each in self.ledger().old(keep, refreshes)]
        with writer.writing(self.folder):
            old = [each.version for each in self.ledger().old(keep, refreshes)]
            for version in old:
                final = layout.folder_of(self.folder, version)
                name = f".{final.name}.{os.getpid()}.{secrets.token_hex(4)}"
                final.chmod(0o755)
                final.rename(final.with_name(name))  # at once, as readers see it
                writer.remove(final.with_name(name))
                writer.append(self.folder, "retired", version)
        return old

    def check(self) -> list[str]:
        """Reads every file of every version and compares it with its manifest.

        Returns:
            What is wrong, a line each; empty where all is well.
        """
        problems = []
        for version in layout.finished(self.folder):
            folder = layout.folder_of(self.folder, version)
            try:
                problems += layout.differences(folder, layout.read_version(folder)["files"])
            except UserError as error:
                problems.append(str(error))
        try:
            self.ledger()
            current = layout.read_current(self.folder)
            if current and current not in layout.finished(self.folder):
                problems.append(f"{self}: {layout.CURRENT} names {current}, which is not there")
        except UserError as error:
            problems.append(str(error))
        return list(dict.fromkeys(problems))

    def _point(self, version: Version, what: str, why: str = "") -> None:
        """All that needs room on the disk comes before the rename that readers see."""
        temporary = self.folder / f".{layout.CURRENT}.tmp"
        try:
            temporary.write_text(f"{layout.folder_name(version)}\n", encoding="ascii")
            sync_path(temporary)
            writer.append(self.folder, what, version, why)
            os.replace(temporary, self.folder / layout.CURRENT)
        finally:
            temporary.unlink(missing_ok=True)
        sync_path(self.folder)

    def ledger(self, *, broken_pointer: bool = False) -> Ledger:
        """What the folders, the log and CURRENT say together.

        Args:
            broken_pointer: whether to go on where CURRENT cannot be read, as if there were none.
        """
        log, current = writer.read_log(self.folder), None
        try:
            current = layout.read_current(self.folder)
        except UserError:
            if not broken_pointer:
                raise
        marks, pins, published = {}, {}, {current} - {None}
        for line in log:
            what, version = line["what"], line["version"]
            if what in _MARKS:
                marks[version] = _MARKS[what]
            elif what in ("pinned", "unpinned"):
                pins[version] = what == "pinned"
            elif what in ("published", "rolled back"):
                published.add(version)
        ledger = Ledger()
        for version in {*layout.finished(self.folder), current} - {None}:
            state = "live" if version == current else marks.get(version, "ready")
            flags = {"published": version in published, "pinned": pins.get(version, False)}
            listed = _listed(self.folder, version, state, flags)
            if (
                listed.space
                or version == current
                or layout.folder_of(self.folder, version).exists()
            ):
                ledger = ledger.with_version(listed)  # else it was removed meanwhile
        return dataclasses.replace(ledger, numbers=_numbers(ledger, log))


def _listed(store: Path, version: Version, state: str, flags: dict[str, bool]) -> Listed:
    """A version; without a space and bad where its manifest cannot be read."""
    try:
        found = layout.read_version(layout.folder_of(store, version))
        space = Space.read(found["space"], f"version {version}: space")
    except UserError as error:
        state = state if state == "live" else "bad"
        return Listed(version, None, state, **flags, about={"problem": str(error)})
    rows = sum(each["rows"] for each in found["sets"].values())
    size = sum(each["bytes"] for each in found["files"].values())
    return Listed(version, space, state, found["made"], rows, size, **flags, about=found["about"])


def _numbers(ledger: Ledger, log: list[dict]) -> dict[int, tuple[str, int]]:
    """Numbers that are taken, those of removed versions included."""
    numbers = dict(ledger.numbers)
    for line in log:
        if line["what"] == "made":
            generation, refresh = line["version"]
            space, highest = numbers.get(generation, ("", 0))
            numbers[generation] = (space or line.get("space", ""), max(refresh, highest))
    return numbers
