"""Text files as records: JSON lines, tables with tabs or commas, plain text; gzipped ones too.

Files are mapped, not loaded; an index holds where records start, and is kept in the cache for big
files. A .gz file, which cannot be read from the middle, is unpacked into the cache once.
"""

import csv
import gzip
import mmap
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.data.sources import records
from gemb.data.sources.numbered import json_object, tab_fields
from gemb.files import atomic_file, cache_dir

MAX_RECORD_BYTES = 16 * 2**20  # a longer line is a mistake in the file, not a text
_KEEP_INDEX_BYTES = 64 * 2**20
_CHUNK = 2**26
_UNITS = ("line", "paragraph", "file")
# A field of a CSV file and what ends it. A quote opens a quoted field at its beginning only, and
# what follows the closing quote is taken as it is: Python's csv module and pandas do the same.
_FIELD = re.compile(rb'(?:"[^"]*+(?:""[^"]*+)*+"|(?!"))[^,\r\n]*+(,|\r\n?|\n|\Z)')


class Lines:
    """Records that are pieces of one text file.

    Args:
        path: the file, `.gz` or not.
        parse: (text of one record) -> dict; ValueError for a broken one.
        cut: what ends a record: "line", "csv" (a line break outside of quoted fields), "paragraph"
            (blank lines) or "file". A line ends with a line feed, a carriage return, or both.

    Raises:
        UserError: for a file that is empty or cannot be read, or a quoted field without an end.
    """

    def __init__(self, path: Path, parse: Callable[[str], dict], cut: str = "line"):
        self.path, self._parse = Path(path), parse
        plain = unpacked(self.path)
        if plain.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty")
        with open(plain, "rb") as file:
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

        def make():
            starts = np.fromiter(self._starts_of(cut), np.int64)
            return starts, {"fingerprint": records.content_digest(plain)}

        if len(self._content) > _KEEP_INDEX_BYTES:
            starts, notes = records.kept("starts", f"{records.identity(plain)}-{cut}-2", make)
        else:
            starts, notes = make()
        self._starts, self.fingerprint = starts, notes["fingerprint"]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, row: int) -> dict:
        return self._parse(self.text(row))

    def text(self, row: int) -> str:
        """A record before it is parsed, without its line end."""
        start, end = self._starts[row : row + 2].tolist()
        if end - start > MAX_RECORD_BYTES:
            raise ValueError(f"longer than {MAX_RECORD_BYTES / 2**20:.0f} MiB")
        try:
            text = self._content[start:end].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"invalid UTF-8 at byte {error.start}") from None
        return text.removeprefix("\ufeff").strip("\r\n")

    def skip(self, rows: int) -> None:
        """Leaves out records at the start that are no data, such as a header."""
        self._starts = self._starts[rows:]

    def where(self, row: int) -> str:
        return self._where(int(self._starts[row]))

    def _where(self, place: int) -> str:
        parts = (_breaks(self._content, at, place) for at in range(0, place, _CHUNK))
        return f"{self.path}:{1 + sum(map(np.count_nonzero, parts))}"

    def _starts_of(self, cut: str) -> Iterator[int]:
        try:
            yield from _starts(self._content, cut)
        except _Endless as error:
            raise UserError(
                f"{self._where(error.place)}: a double quote begins a field there and nothing ends "
                "it; double the quote and put the field in quotes"
            ) from None

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        rows = np.asarray(rows)
        return np.asarray(self._starts[rows + 1]) - np.asarray(self._starts[rows])


class _Endless(Exception):
    """A quoted field without an end.

    Attributes:
        place: where its record begins.
    """

    def __init__(self, place: int):
        super().__init__(place)
        self.place = place


def json_lines(path: Path) -> Lines:
    """One JSON object a line."""
    return Lines(path, _json_object)


def table(path: Path, separator: str, header: Sequence[str] = ()) -> Lines:
    """A table whose first line names the columns.

    Args:
        path: the file.
        separator: "\\t" (fields as they are, see `tab_fields`) or "," (a field may be in double
            quotes, and hold separators, line breaks and doubled quotes then, as in RFC 4180; a
            quote elsewhere is a character like others).
        header: names of the columns, for a file whose first line does not name them.
    """
    split = tab_fields if separator == "\t" else _split_commas
    names = list(header)

    def parse(text: str) -> dict:
        if not text.strip():
            return {}
        values = split(text)
        if len(values) != len(names):
            raise ValueError(f"{len(values)} fields where the header has {len(names)}")
        return dict(zip(names, values, strict=True))

    made = Lines(path, parse, "line" if separator == "\t" else "csv")
    if not header:
        names += _header(made, split)
    return made


def _header(made: Lines, split: Callable[[str], list[str]]) -> list[str]:
    """The fields of the first line that is not blank; the records begin after it."""
    first = next((row for row in range(len(made)) if made.text(row).strip()), 0)
    try:
        names = split(made.text(first))
    except ValueError as error:
        raise UserError(f"{made.where(first)}: {error}") from None
    made.skip(first + 1)
    return names


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
    """The file itself, or the unpacked content of a .gz file in the cache.

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
    if cut in ("line", "csv"):
        yield from _record_ends(content) if cut == "csv" else _line_ends(content, 0, len(content))
        if content[-1:] not in (b"\n", b"\r"):
            yield len(content)
        return
    last, blank_before = 0, False
    for end in _line_ends(content, 0, len(content)) if cut == "paragraph" else ():
        if not content[last:end].strip():
            blank_before = True
        elif blank_before:
            blank_before = False
            yield last
        last = end
    if blank_before and last < len(content):
        yield last
    yield len(content)


def _breaks(content: mmap.mmap, at: int, end: int) -> np.ndarray:
    """Whether a line ends with each of the bytes from `at`: at most _CHUNK, and before `end`."""
    part = np.frombuffer(content[at : min(at + _CHUNK, end) + 1], np.uint8)
    size = min(_CHUNK, end - at)
    following = np.append(part, 0)[1 : size + 1]
    lone = (part[:size] == ord("\r")) & (following != ord("\n"))
    return (part[:size] == ord("\n")) | lone


def _line_ends(content: mmap.mmap, start: int, end: int) -> Iterator[int]:
    """Where the lines between two places end."""
    for at in range(start, end, _CHUNK):
        yield from (np.flatnonzero(_breaks(content, at, end)) + at + 1).tolist()


def _record_ends(content: mmap.mmap) -> Iterator[int]:
    """Where the records of a CSV file end; only those with a quote are looked at by field."""
    start = 0
    while (quote := content.find(b'"', start)) >= 0:
        for end in _line_ends(content, start, quote):
            yield end
            start = end
        record = start
        while field := _FIELD.match(content, start):
            start = field.end()
            if field[1] != b",":
                break
        else:
            raise _Endless(record)
        if not field[1]:  # the end of the file
            return
        yield start
    yield from _line_ends(content, start, len(content))


def _json_object(text: str) -> dict:
    return json_object(text) if text.strip() else {}


def _split_commas(record: str) -> list[str]:
    try:
        return next(csv.reader([record]), [])
    except csv.Error as error:
        raise ValueError(f"broken CSV: {error}") from None
