"""Bytes of a file to its text, or the reason why there is none."""

import codecs
import io
import re
import tokenize
from pathlib import Path

from gemb.datasets.documents.document import Unreadable

MAX_TEXT_BYTES = 32 * 2**20  # a larger text file is a log or data, not a document
MAX_PDF_BYTES = 512 * 2**20
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)


def read_bytes(path: Path, limit: int) -> bytes:
    """A file's content.

    Raises:
        Unreadable: "no file" (a pipe, a broken link), "not permitted", "too large" or "empty".
    """
    if not path.is_file():  # a pipe would be waited for
        raise Unreadable("no file")
    try:
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise Unreadable("not permitted") from error
    if len(data) > limit:
        raise Unreadable("too large")
    if not data.strip():
        raise Unreadable("empty")
    return data


def decode(data: bytes, kind: str) -> tuple[str, str]:
    r"""A text file's text, its line ends as \n.

    Args:
        data: the file's content.
        kind: "python" and "html" files may name their encoding inside.

    Returns:
        The text as `Path.read_text(encoding)` gives it (a byte order mark of UTF-8 is its first
        character), and the encoding.

    Raises:
        Unreadable: "binary" for control characters that no text has, "encoding" for bytes that are
            not of the encoding: UTF-8 where the file names no other.

    Example:
        >>> decode(b"a\r\nb", "text")
        ('a\nb', 'utf-8')
    """
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "")
    if not encoding and b"\0" in data:
        raise Unreadable("binary")
    encoding = encoding or _named_inside(data, kind) or "utf-8"
    try:
        text = data.decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise Unreadable("encoding") from error
    if "\0" in text:
        raise Unreadable("binary")
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def without_surrogates(text: str) -> str:
    """The text with "?" for each lone surrogate, which is no character and cannot be written."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _named_inside(data: bytes, kind: str) -> str:
    if kind == "python":
        try:
            name = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        except (SyntaxError, UnicodeError) as error:
            raise Unreadable("encoding") from error
        return "" if name == "utf-8-sig" else name
    named = _META.search(data[:2048]) if kind == "html" else None
    return named[1].decode("ascii", "replace").lower() if named else ""
