"""Pictures and videos as records: captioned folders and zips, tar shards, columns of other sources.

A record's picture is a `gemb.Image`, its video a `gemb.Video`, of bytes or of a path; they are
decoded where a batch is made. No file stays open for each of them.
"""

import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemb.checks import UserError
from gemb.data.sources import lines
from gemb.data.sources.records import Joined, Records, digest, found, identity, kept
from gemb.structs import Image, Video

VIDEO_ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".gif", ".webp", ".apng")
ENDINGS = (
    ".jpg",
    ".jpeg",
    ".png",
    ".gif",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".avif",
    ".ppm",
    ".jp2",
)
CAPTIONS = ("captions.jsonl", "captions.jsonl.gz")
_ZIPS = {"image": "images.zip", "video": "clips.zip"}
_MEDIA = {"image": Image, "video": Video}
_ZEROS = np.zeros(0)


def captioned(
    folder: str, *, split: str = "", language: str = "", where: dict[str, str] | None = None
) -> Records:
    """Records {"captions", "image", ...} of a folder in the form of `gemb harvest-pictures`.

    Args:
        folder: holds captions.jsonl (or .gz), and the files that it names, there or in images.zip.
        split: only records of this "split"; "" for all.
        language: captions from "labels" in this language, for records that have one; "" for the
            captions themselves.
        where: only records with these values, such as {"group": "animals"}.

    Raises:
        UserError: for a missing or broken file, or if nothing is left.
    """
    return Captioned(
        Path(folder).expanduser(),
        {**({"split": split} if split else {}), **(where or {})},
        language,
    )


def captioned_videos(
    folder: str, *, split: str = "", language: str = "", where: dict[str, str] | None = None
) -> Records:
    """Records {"captions", "video", ...} of a folder in the same form, with videos or animations.

    Args:
        folder: holds captions.jsonl (or .gz), and the files that it names, there or in clips.zip.
        split, language, where: as of `captioned`.

    Raises:
        UserError: for a missing or broken file, or if nothing is left.
    """
    return Captioned(
        Path(folder).expanduser(),
        {**({"split": split} if split else {}), **(where or {})},
        language,
        "video",
    )


class Captioned:
    """See `captioned` and `captioned_videos`.

    Attributes:
        folder: as given.
        kind: "image" or "video", the field of a record that holds it.
    """

    def __init__(
        self, folder: str | Path, wanted: dict[str, str], language: str, kind: str = "image"
    ):
        folder, self.kind = Path(folder), kind
        tables = [folder / name for name in CAPTIONS if (folder / name).is_file()]
        if not tables:
            raise UserError(f"{folder}: holds no captions.jsonl; run `gemb harvest-pictures`")
        self._lines, self._language, self.folder = lines.json_lines(tables[0]), language, folder
        packed = folder / _ZIPS[kind]
        self._zip = ZipFiles(packed) if packed.is_file() else None
        self._rows = [row for row in range(len(self._lines)) if self._wanted(row, wanted)]
        if not self._rows:
            raise UserError(f"{tables[0]}: no record with {wanted or 'a caption'} {language}")
        files = identity(packed) if self._zip else str(folder.resolve())
        self.fingerprint = digest(
            self._lines.fingerprint, files, json.dumps(wanted, sort_keys=True), language
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> dict:
        record = self._lines[self._rows[row]]
        captions = record.get("captions") or record.get("caption")
        if self._language:
            captions = record["labels"][self._language]
        return record | {"captions": captions, self.kind: self._file(record)}

    def where(self, row: int) -> str:
        line, place = self._rows[row], self._lines.where(self._rows[row])
        try:
            return f"{place} ({self._lines[line]['file']})"
        except (ValueError, KeyError, TypeError):
            return place

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        return np.ones(len(rows), np.int64)

    def row(self, number: int) -> int:
        """The line of the table, from 0, of one of the records."""
        return self._rows[number]

    def media(self, line: int) -> Image | Video:
        """The picture or video of a line of the table, from 0; ValueError where it is missing."""
        return self._file(self._lines[line])

    def _file(self, record: dict) -> Image | Video:
        name = record.get("file")
        if not isinstance(name, str) or os.path.isabs(name) or ".." in Path(name).parts:
            raise ValueError(
                f'the field "file" must be a path inside of the folder, got {name!r:.60}'
            )
        content = self._zip.read(name) if self._zip else _content(self.folder / name)
        return _MEDIA[self.kind](content)

    def _wanted(self, row: int, wanted: dict[str, str]) -> bool:
        try:
            record = self._lines[row]
        except ValueError:
            return True  # counted as a bad record where it is read
        if not record or (self._language and self._language not in (record.get("labels") or {})):
            return False
        return all(str(record.get(name, "")) == value for name, value in wanted.items())


class ZipFiles:
    """Files of a zip by name, read one at a time, from several threads too.

    Raises:
        UserError: for a file that is no zip.
    """

    def __init__(self, path: Path):
        self.path, self._lock = path, threading.Lock()
        try:
            self._archive = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None

    def read(self, name: str) -> bytes:
        """The bytes of a file; ValueError where it is missing or broken."""
        try:
            with self._lock:
                return self._archive.read(name)
        except (KeyError, OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"{self.path} has no readable {name!r:.80} ({error})") from None


def tar_shards(paths: str | Sequence[str]) -> Records:
    """Records of tar files in the form of WebDataset.

    Files with one name but for their endings are one record: the ending is the field, pictures are
    under "image", videos under "video", .txt and .cls files are texts (.txt also under "captions"),
    the fields of .json files are added as they are, and "__key__" is the name.

    Args:
        paths: a file, a pattern such as "train-*.tar", or a list of these.

    Raises:
        UserError: for a missing or broken file, or one without records.
    """
    parts = [TarShard(path) for path in found(paths)]
    return parts[0] if len(parts) == 1 else Joined(parts)


class TarShard:
    """One tar file, not compressed: an index of its parts is made once."""

    def __init__(self, path: Path):
        self.path = path
        self.fingerprint = identity(path)
        _, notes = kept("tar", self.fingerprint, lambda: (_ZEROS, {"records": self._index()}))
        self._records: list[tuple[str, dict[str, list[int]]]] = notes["records"]
        if not self._records:
            raise UserError(f"{path}: holds no records")

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, row: int) -> dict:
        key, parts = self._records[row]
        record: dict[str, Any] = {"__key__": key}
        with open(self.path, "rb") as file:
            for ending, (start, size) in parts.items():
                file.seek(start)
                content = file.read(size)
                record |= _fields(ending, content)
        return record

    def where(self, row: int) -> str:
        return f"{self.path}: {self._records[row][0]}"

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        return np.array([sum(s for _, s in self._records[row][1].values()) for row in rows])

    def _index(self) -> list:
        made: dict[str, dict[str, list[int]]] = {}
        try:
            with tarfile.open(self.path, "r:") as archive:
                for member in archive:
                    folder, _, name = member.name.rpartition("/")
                    stem, dot, ending = name.partition(".")
                    if member.isfile() and dot and stem:
                        key = f"{folder}/{stem}" if folder else stem
                        made.setdefault(key, {})[ending.lower()] = [member.offset_data, member.size]
        except (tarfile.TarError, OSError, EOFError) as error:
            raise UserError(f"{self.path}: not a whole tar file ({error})") from None
        return list(made.items())


def _fields(ending: str, content: bytes) -> dict[str, Any]:
    last = ending.rpartition(".")[2]
    if f".{last}" in ENDINGS:
        return {"image": Image(content)}
    if f".{last}" in VIDEO_ENDINGS:
        return {"video": Video(content)}
    if last == "json":
        try:
            made = json.loads(content)
        except ValueError as error:
            raise ValueError(f"broken JSON: {error}") from None
        return made if isinstance(made, dict) else {"json": made}
    if last in ("txt", "cls", "text"):
        text = content.decode("utf-8", "replace").strip()
        return {last: text} | ({"captions": text} if last == "txt" else {})
    return {ending: content}


def _content(path: Path) -> bytes:
    """The bytes of a file: what is cached of a picture is kept by its content, not by its name."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None


def with_images(records: Records, column: str = "image", folder: str = "") -> Records:
    """Records whose column of pictures becomes `gemb.Image`.

    A cell may be bytes, {"bytes", "path"} as Hugging Face's datasets write it, or a path.

    Args:
        records: any source, such as Parquet, a dataset that Hugging Face's `save_to_disk` wrote, or
            the TFRecord files of a prepared TFDS builder, by `gemb.data.sources.reading.files`.
        column: the column of pictures; it is read as "image" too.
        folder: where relative paths start; default the working folder.
    """
    return WithImages(records, column, Path(folder).expanduser())


def with_videos(records: Records, column: str = "video", folder: str = "") -> Records:
    """Records whose column of videos becomes `gemb.Video`, read as "video"; see `with_images`."""
    return WithImages(records, column, Path(folder).expanduser(), "video")


class WithImages:
    """See `with_images` and `with_videos`."""

    def __init__(self, source: Records, column: str, folder: Path, kind: str = "image"):
        self._source, self._column, self._folder, self._kind = source, column, folder, kind
        self.fingerprint = digest(source.fingerprint, column, str(folder))

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, row: int) -> dict:
        record = self._source[row]
        if not record:
            return record
        if self._column not in record:
            raise ValueError(
                f"the field {self._column!r} is missing; there are: {', '.join(record)}"
            )
        return record | {self._kind: self._media(record[self._column])}

    def where(self, row: int) -> str:
        return self._source.where(row)

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        return self._source.sizes(rows)

    def _media(self, cell: Any) -> Image | Video:
        if isinstance(cell, dict):
            cell = cell.get("bytes") or cell.get("path")
        if isinstance(cell, str) and cell:
            return _MEDIA[self._kind](_content(self._folder / cell))
        if isinstance(cell, bytes) and cell:
            return _MEDIA[self._kind](cell)
        kind = type(cell).__name__
        raise ValueError(f"the field {self._column!r} must hold bytes or a path, got {kind}")
