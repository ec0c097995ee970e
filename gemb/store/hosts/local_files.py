"""Files of a local index host next to the versions of its store.

loading/0007.0003.db       documents of a version that is being loaded: SQLite
changes/0007.0003.jsonl    documents added, changed and removed since the version was made
"""

import base64
import contextlib
import dataclasses
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import sync_path, users_errors
from gemb.identity import Listed, Space, Version
from gemb.store.disk.layout import folder_name
from gemb.store.hosts.protocol import Settings
from gemb.store.keyed.protocol import HostError

LOADING, CHANGES = "loading", "changes"
_TABLES = """
CREATE TABLE IF NOT EXISTS about (version TEXT, space TEXT, settings TEXT);
CREATE TABLE IF NOT EXISTS documents (
    id BLOB PRIMARY KEY, vector BLOB NOT NULL, attributes TEXT NOT NULL
) WITHOUT ROWID;
"""
_STEP = 4_096


class Loading:
    """Documents of a version that is being loaded.

    Args:
        store: folder of the store.
        version: its number.

    Raises:
        HostError: from every method, where the file cannot be read or written.
    """

    def __init__(self, store: Path, version: Version):
        self.path = store / LOADING / f"{folder_name(version)}.db"
        self.version = version

    def __str__(self) -> str:
        return str(self.path)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=30.0)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
                yield connection
        except (sqlite3.Error, OSError) as error:
            raise HostError(f"{self}: {error}; nothing of this was stored") from None

    def create(self, space: Space, settings: Settings) -> None:
        """Makes an empty file, whole or not at all."""
        with users_errors(self.path):
            self.path.parent.mkdir(exist_ok=True)
        about = [json.dumps(dataclasses.asdict(each)) for each in (space, settings)]
        with self._open() as connection, connection:
            connection.executescript(_TABLES)
            connection.execute("DELETE FROM about")
            connection.execute("INSERT INTO about VALUES (?, ?, ?)", (str(self.version), *about))

    def about(self) -> tuple[Space, Settings] | None:
        """What is loaded, and how it is indexed; None where making it was interrupted."""
        if not self.path.exists():
            return None
        with self._open() as connection:
            connection.executescript(_TABLES)
            found = connection.execute("SELECT space, settings FROM about").fetchone()
        if found is None:
            return None
        space, settings = map(json.loads, found)
        return Space.read(space, f"{self}: space"), Settings(**settings)

    def put(self, keys: Sequence[bytes], vectors: np.ndarray, attributes: Sequence[dict]) -> None:
        """Adds or replaces documents, all of them or none; they are kept when this returns."""
        rows = (
            (key, vector.tobytes(), json.dumps(each))
            for key, vector, each in zip(keys, vectors, attributes, strict=True)
        )
        with self._open() as connection, connection:
            connection.executemany("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", rows)

    def delete(self, keys: Sequence[bytes]) -> int:
        """Removes documents; returns how many were there."""
        with self._open() as connection, connection:
            removed = [
                connection.execute("DELETE FROM documents WHERE id = ?", (key,)).rowcount
                for key in keys
            ]
        return sum(removed)

    def count(self) -> int:
        """How many documents there are."""
        with self._open() as connection:
            return connection.execute("SELECT count(*) FROM documents").fetchone()[0]

    def read(self, dim: int) -> tuple[list[bytes], np.ndarray, list[dict] | None]:
        """All documents, by id.

        Returns:
            Ids, [documents, dim] float32 vectors, and attributes; None where no document has any.
        """
        count = self.count()
        vectors, keys = np.empty((count, dim), np.float32), []
        attributes, some = [], False
        with self._open() as connection:
            rows = connection.execute("SELECT id, vector, attributes FROM documents ORDER BY id")
            while batch := rows.fetchmany(_STEP):
                start = len(keys)
                keys += [key for key, *_ in batch]
                made = b"".join(vector for _, vector, _ in batch)
                if start + len(batch) > count or len(made) != 4 * dim * len(batch):
                    raise HostError(f"{self}: changed while it was read; run it again")
                vectors[start : len(keys)] = np.frombuffer(made, np.float32).reshape(-1, dim)
                attributes += [text for *_, text in batch]
                some = some or any(text != "{}" for *_, text in batch)
        return keys, vectors, [json.loads(text) for text in attributes] if some else None

    def remove(self) -> None:
        """Removes the file."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink(missing_ok=True)


def loading_versions(store: Path) -> list[Listed]:
    """Versions that are being loaded."""
    found = []
    for path in sorted((store / LOADING).glob("*.db")):
        each = Loading(store, Version.parse(path.stem))
        if about := each.about():
            space, settings = about
            about = {"of": "documents", "settings": dataclasses.asdict(settings)}
            found.append(Listed(each.version, space, "loading", rows=each.count(), about=about))
    return found


class Changes:
    """Documents that were added, changed and removed since a version was made: a log.

    Args:
        store: folder of the store.
        version: its number.
    """

    def __init__(self, store: Path, version: Version):
        self.path = store / CHANGES / f"{folder_name(version)}.jsonl"

    def append(self, lines: Sequence[dict]) -> None:
        """Adds lines, whole or not at all, and waits for the disk."""
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        with users_errors(self.path):
            self.path.parent.mkdir(exist_ok=True)
            new = not self.path.exists()
            with open(self.path, "ab+") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = _whole(file)
                try:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        os.ftruncate(file.fileno(), size)
                    raise
            if new:
                sync_path(self.path.parent)

    def size(self) -> int:
        """Bytes in it; grows with each change."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def read(self, start: int) -> tuple[list[dict], int]:
        """Whole lines from a place in the file on, and where the next one begins.

        Raises:
            UserError: a line that cannot be read.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(start)
                text = file.read()
        except FileNotFoundError:
            return [], start
        except OSError as error:
            raise UserError(f"{self.path}: {error.strerror}") from None
        text = text[: text.rfind(b"\n") + 1]
        try:
            return [json.loads(line) for line in text.splitlines()], start + len(text)
        except ValueError:
            raise UserError(f"{self.path}: cannot be read; make a refresh") from None

    def remove(self) -> None:
        """Removes the file."""
        self.path.unlink(missing_ok=True)


def _whole(file) -> int:
    """Drops the part of a line that a killed writer left; returns the size."""
    size = file.seek(0, os.SEEK_END)
    end = size
    while end:
        start = max(end - (1 << 16), 0)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        file.truncate(end)
        file.seek(0, os.SEEK_END)
    return end


def change_lines(ids: Sequence[bytes], vectors: np.ndarray, attributes: Sequence[dict]) -> list:
    """Documents to add or change, as lines of the log."""
    return [
        {"put": key.decode(), "vector": base64.b64encode(vector.tobytes()).decode(), "of": each}
        for key, vector, each in zip(ids, vectors, attributes, strict=True)
    ]


def change_vector(line: dict, dim: int) -> np.ndarray:
    """The vector of a line of the log."""
    return np.frombuffer(base64.b64decode(line["vector"]), np.float32, dim)
