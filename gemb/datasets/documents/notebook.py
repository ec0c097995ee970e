"""Jupyter notebooks: the sources of their cells. Outputs are not read."""

import json
import json.scanner
from json.decoder import scanstring

from gemb.datasets.documents.decoding import without_surrogates
from gemb.datasets.documents.document import (
    Block,
    Builder,
    Document,
    Outline,
    Unreadable,
    first_heading,
)
from gemb.datasets.documents.markdown import markdown_blocks
from gemb.datasets.documents.plain import paragraphs, trimmed


class _Placed(str):
    """A string of a JSON file that knows where it is written, without its quotes."""

    start: int
    end: int


def read_notebook(text: str) -> Document:
    """The cells of a notebook, in order; headings of one reach over those after it.

    Raises:
        Unreadable: "broken notebook".

    Example:
        >>> made = read_notebook('{"cells": [{"cell_type": "code", "source": ["x = 1"]}]}')
        >>> made.text, made.source(0, 5)
        ('x = 1', (45, 50))
    """
    made, ranges = Builder(), []
    for kind, pieces in _cells(text):
        if "".join(pieces).strip():
            made.space("\n\n" if made.length else "")
            start = made.length
            for piece in pieces:
                made.add(without_surrogates(piece), piece.start, piece.end)
            ranges.append((kind, start, made.length))
    plain, blocks, outline = made.text, [], Outline()
    for kind, start, end in ranges:
        blocks += _blocks(plain, kind, start, end, outline)
    return Document(plain, blocks, first_heading(blocks), made.anchors)


def _blocks(text: str, kind: str, start: int, end: int, outline: Outline) -> list[Block]:
    """The blocks of one cell: code is one, whole."""
    if kind == "markdown":
        return markdown_blocks(text, start, end, outline)
    about = outline.section, outline.headings
    if kind == "code":
        return [Block(*trimmed(text, start, end), *about, whole=True)]
    return [Block(*place, *about) for place in paragraphs(text, start, end)]


def _cells(text: str) -> list[tuple[str, list[_Placed]]]:
    """(type, source) of each cell; of the third format, too."""
    try:
        mark = text.startswith("\ufeff")
        tree = _decoder().decode(" " + text[1:] if mark else text)
        cells = tree["cells"] if "cells" in tree else [
            cell for sheet in tree["worksheets"] for cell in sheet["cells"]
        ]  # fmt: skip
        return [(str(cell["cell_type"]), _source(cell)) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable("broken notebook") from error


def _source(cell: dict) -> list[_Placed]:
    source = cell["source"] if "source" in cell else cell["input"]
    pieces = [source] if isinstance(source, str) else list(source)
    if not all(isinstance(piece, _Placed) for piece in pieces):
        raise TypeError("a source is not a text")
    return pieces


def _decoder() -> json.JSONDecoder:
    """A decoder whose strings, but the keys, know their places."""
    decoder = json.JSONDecoder()

    def parse_string(text: str, begin: int, strict: bool) -> tuple[_Placed, int]:
        value, end = scanstring(text, begin, strict)
        made = _Placed(value)
        made.start, made.end = begin, end - 1
        return made, end

    decoder.parse_string = parse_string
    decoder.scan_once = json.scanner.py_make_scanner(decoder)
    return decoder
