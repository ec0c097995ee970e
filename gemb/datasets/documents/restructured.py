"""reStructuredText by lines: sections, directives, literal blocks, tables and paragraphs."""

import re

from gemb.datasets.documents.document import Block, Document, Outline, first_heading, lines_of
from gemb.datasets.documents.plain import paragraphs, trimmed

_RULE = re.compile(r"([!-/:-@\[-`{-~])\1*[ \t]*$")
_DIRECTIVE = re.compile(r"(\s*)\.\. ")
_GRID = re.compile(r"\s*(\+[-=+]+\+|={2,}( +={2,})+)\s*$")
_ROLE = re.compile(r":[\w:+.-]+:`|`__?|[`*]+")
_TARGET = re.compile(r"\s*<[^<>`]+>(?=`)")


def read_restructured(text: str) -> Document:
    r"""The blocks of a reStructuredText file; its title is the first section's.

    The level of a section follows from its line of punctuation: a kind that occurs first is higher.

    Example:
        >>> made = read_restructured("A\n=\n\nB\n-\n\ntext\n")
        >>> [(made.text[b.start : b.end], b.headings) for b in made.blocks]
        [('A\n=', ('A',)), ('B\n-', ('A', 'B')), ('text', ('A', 'B'))]
    """
    lines, blocks, outline = lines_of(text), [], Outline()
    rows = [text[a:b].rstrip().lstrip("\ufeff") for a, b in lines]
    kinds: list[tuple[str, bool]] = []
    number = open_at = 0

    def add(first: int, stop: int, **what) -> None:
        place = trimmed(text, lines[first][0], lines[stop - 1][1])
        blocks.append(Block(*place, outline.section, outline.headings, **what))

    def close(upto: int) -> None:
        if open_at < upto:
            for place in paragraphs(text, lines[open_at][0], lines[upto - 1][1]):
                blocks.append(Block(*place, outline.section, outline.headings))

    while number < len(rows):
        if stop := _section_end(rows, number):
            overlined = bool(_RULE.match(rows[number]) and stop - number == 3)
            kind = (rows[stop - 1][0], overlined)
            if kind not in kinds:
                kinds.append(kind)
            close(number)
            title = rows[number + overlined].strip()
            outline.enter(kinds.index(kind) + 1, _plain_title(title))
            add(number, stop, is_heading=True)
        elif (stop := _whole_until(rows, number, open_at)) > number:
            close(number)
            add(number, stop, whole=True)
        else:
            number += 1
            continue
        number = open_at = stop
    close(number)
    return Document(text, blocks, first_heading(blocks))


def _plain_title(title: str) -> str:
    return " ".join(_ROLE.sub("", _TARGET.sub("", title)).split())


def _section_end(rows: list[str], number: int) -> int:
    """The line behind a section's title that begins on a line; 0 if none does."""
    row = rows[number]
    if _RULE.match(row) and number + 2 < len(rows) and rows[number + 2] == row:
        title = rows[number + 1]
        if title.strip() and not _RULE.match(title) and len(title.strip()) <= len(row):
            return number + 3
    if number + 1 >= len(rows) or not row or row[0].isspace() or _RULE.match(row):
        return 0
    free = number == 0 or not rows[number - 1]
    below = rows[number + 1]
    # docutils takes a short line below a short title, and warns
    long_enough = len(below) >= min(len(row), 4)
    return number + 2 if free and _RULE.match(below) and long_enough else 0


def _whole_until(rows: list[str], number: int, open_at: int) -> int:
    """Where the directive, literal block or table that begins on a line ends, else the line."""
    row = rows[number]
    if match := _DIRECTIVE.match(row):
        return _indented_until(rows, number + 1, len(match[1]))
    before = number - 1
    while before > open_at and not rows[before]:
        before -= 1
    literal = before >= open_at and before < number - 1 and rows[before].endswith("::")
    if literal and row[:1].isspace() and row.strip():
        return _indented_until(rows, number, len(row) - len(row.lstrip()) - 1)
    if _GRID.match(row):
        stop = number
        while stop < len(rows) and rows[stop]:
            stop += 1
        return stop
    return number


def _indented_until(rows: list[str], number: int, margin: int) -> int:
    """The first line from one on that is not blank and not indented beyond a margin."""
    stop = number
    for at in range(number, len(rows)):
        if rows[at] and len(rows[at]) - len(rows[at].lstrip()) <= margin:
            break
        if rows[at]:
            stop = at + 1
    return stop
