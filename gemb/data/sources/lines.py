"""Text files as records: JSON lines, tables with tabs or commas, plain text; gzipped ones too.

Files are mapped, not loaded; an index holds where records start, and is kept in the cache for big
files. A .gz file, which cannot be read from the middle, is unpacked into the cache once.
"""

import csv
import gzip
import mmap
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.data.sources import records
from gemb.data.sources.numbered import json_object
from gemb.files import atomic_file, cache_dir

MAX_RECORD_BYTES = 16 * 2**20  # a longer line is a mistake in the file, not a text
_KEEP_INDEX_BYTES = 64 * 2**20
_CHUNK = 2**26
_UNITS = ("line", "paragraph", "file")


class Lines:
    """Records that are pieces of one text file.

    Args:
        path: the file, `.gz` or not.
        parse: (text of one record) -> dict; ValueError for a broken one.
        cut: what ends a record: "line", "quoted" (a line break outside of double quotes),
            "paragraph" (blank lines) or "file".
        skip: records at the start that are no data, such as a header.

    Raises:
        UserError: for a file that is empty or cannot be read.
    """

    def __init__(self, path: Path, parse: Callable[[str], dict], cut: str = "line", skip: int = 0):
        self.path, self._parse = Path(path), parse
        plain = unpacked(self.path)
        if plain.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty")
        with open(plain, "rb") as file:
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        def make():
            starts = np.fromiter(_starts(self._content, cut), np.int64)
            return starts, {"fingerprint": records.content_digest(plain)}

        if len(self._content) > _KEEP_INDEX_BYTES:
            starts, notes = records.kept("starts", f"{records.identity(plain)}-{cut}", make)
        else:
            starts, notes = make()
        self._starts, self.fingerprint = starts[skip:], notes["fingerprint"]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> dict:
        start, end = self._starts[row : row + 2].tolist()
        if end - start > MAX_RECORD_BYTES:
            raise ValueError(f"longer than {MAX_RECORD_BYTES / 2**20:.0f} MiB")
        try:
            text = self._content[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"invalid UTF-8 at byte {error.start}") from None
        return self._parse(text.removeprefix("\ufeff").strip("\r\n"))

    def where(self, row: int) -> str:
        before = range(0, int(self._starts[row]), _CHUNK)
        end = int(self._starts[row])
        number = 1 + sum(self._content[at : min(at + _CHUNK, end)].count(b"\n") for at in before)
        return f"{self.path}:{number}"

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        return np.asarray(self._starts[rows + 1]) - np.asarray(self._starts[rows])


def json_lines(path: Path) -> Lines:
    """One JSON object a line."""
    return Lines(path, _json_object)


def table(path: Path, separator: str, header: Sequence[str] = ()) -> Lines:
    """A table whose first line names the columns.

    Args:
        path: the file.
        separator: "\\t" (fields are taken as they are) or "," (double quotes may hold separators
            and line breaks, as in RFC 4180).
        header: names of the columns, for a file whose first line does not tell them.
    """
    split = _split_tabs if separator == "\t" else _split_commas
    try:
        names = list(header) or split(_first_line(path))
    except ValueError as error:
        raise UserError(f"{path}:1: {error}") from None

    def parse(text: str) -> dict:
        if not text.strip():
            return {}
        values = split(text)
        if len(values) != len(names):
            raise ValueError(f"{len(values)} fields where the header has {len(names)}")
        return dict(zip(names, values, strict=True))

    cut = "line" if separator == "\t" else "quoted"
    return Lines(path, parse, cut, skip=0 if header else 1)


def plain_text(path: Path, unit: str = "line") -> Lines:
    """Plain text: records of {"text"}.

    Args:
        path: the file.
        unit: what is one record: "line", "paragraph" or "file".
    """
    if unit not in _UNITS:
        raise UserError(f"unit: expected one of {_UNITS}, got {unit!r}")
    return Lines(path, lambda text: {"text": text.strip()} if text.strip() else {}, unit)


def unpacked(path: Path) -> Path:
    """The file itself, or where the content of a .gz file lies in the cache.

    Raises:
        UserError: for a broken or cut .gz file.
    """
    if path.suffix != ".gz":
        return path
    plain = cache_dir() / "data" / "unpacked" / f"{records.identity(path)}-{path.stem}"
    if not plain.exists():
        try:
            with gzip.open(path) as packed, atomic_file(plain) as made, open(made, "wb") as file:
                shutil.copyfileobj(packed, file, _CHUNK)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise UserError(f"{path}: cannot be unpacked: {error}") from None
    return plain


def _starts(content: mmap.mmap, cut: str) -> Iterator[int]:
    """Where records start, and at last where the file ends."""
    yield 0
    if cut in ("line", "quoted"):
        yield from _line_ends(content, quoted=cut == "quoted")
        if content[-1:] != b"\n":
            yield len(content)
        return
    last, blank_before = 0, False
    for end in _line_ends(content, quoted=False) if cut == "paragraph" else ():
        if not content[last:end].strip():
            blank_before = True
        elif blank_before:
            blank_before = False
            yield last
        last = end
    if blank_before and last < len(content):
        yield last
    yield len(content)


def _line_ends(content: mmap.mmap, quoted: bool) -> Iterator[int]:
    inside = False
    for at in range(0, len(content), _CHUNK):
        chunk = np.frombuffer(content[at : at + _CHUNK], np.uint8)
        breaks = chunk == ord("\n")
        if quoted:
            quoted_here = np.logical_xor.accumulate(chunk == ord('"')) ^ inside
            breaks &= ~quoted_here
            inside = quoted_here[-1]
        yield from (np.flatnonzero(breaks) + at + 1).tolist()


def _json_object(text: str) -> dict:
    return json_object(text) if text.strip() else {}


def _first_line(path: Path) -> str:
    with open(unpacked(path), "rb") as file:
        try:
            return file.readline().decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:1: invalid UTF-8 at byte {error.start}") from None


def _split_tabs(line: str) -> list[str]:
    return line.split("\t")


def _split_commas(record: str) -> list[str]:
    try:
        return next(csv.reader([record], strict=True), [])
    except csv.Error as error:
        raise ValueError(f"broken CSV: {error}") from None
