"""Lines of text files under their numbers, and the JSON objects and fields in them."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from gemb.checks import UserError

# A line ends with a line feed, a carriage return, or both, as for Python's csv module.
_RETURN = re.compile(rb"\r(?!\n)")
# A field that a CSV writer has put into quotes because there are quotes in it.
_QUOTED = re.compile(r'"(?=[^\t]*"")(?:[^"\t]|"")*"')


def numbered_lines(path: Path, first_encoding: str = "utf-8") -> Iterator[tuple[str, str]]:
    """("file:line", text) of every line that is not blank; `.gz` files are unpacked on the way.

    Args:
        path: the file.
        first_encoding: of the first line; "utf-8-sig" drops a byte order mark.

    Raises:
        UserError: naming file and line of what cannot be read.
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(_cut(file), start=1):
                text = line.decode(first_encoding if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield f"{path}:{number}", text
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: invalid UTF-8 at byte {error.start}") from error
    except (EOFError, zlib.error, OSError) as error:
        raise UserError(f"{path}:{number + 1}: cannot be read: {error}") from error


def _cut(file: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a file that was cut at line feeds, cut at lone carriage returns too."""
    for line in file:
        *pieces, last = _RETURN.split(line)
        yield from pieces
        if last:
            yield last


def tab_fields(line: str) -> list[str]:
    """The fields between the tabs of a line, as they are.

    Quotes are ordinary characters: it is not known whether a field that starts with a quote ends
    with one.
    Only one whose quotes are all doubled, as CSV writers do it, is taken out of its quotes.

    Example:
        >>> tab_fields('5" pipe\\t"a ""quoted"" word"\\t"Stop!"')
        ['5" pipe', 'a "quoted" word', '"Stop!"']
    """
    fields = line.split("\t")
    if '""' not in line:
        return fields
    return [
        field[1:-1].replace('""', '"') if _QUOTED.fullmatch(field) else field for field in fields
    ]


def json_object(text: str) -> dict:
    """The JSON object of a line.

    Raises:
        ValueError: broken JSON, or something else than an object.

    Example:
        >>> json_object('{"a": 1}')
        {'a': 1}
    """
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"broken JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"expected a JSON object, got {text[:40]!r}")
    return row
