"""Markdown by lines: headings, fences, tables, comments and paragraphs.

It follows CommonMark in what decides where a passage begins: a line that looks like a heading is
none inside a fence, an HTML block or front matter.
"""

import re

from gemb.datasets.documents.document import (
    Block,
    Document,
    Outline,
    first_heading,
    lines_of,
)
from gemb.datasets.documents.plain import paragraphs, trimmed

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r"[\s>]*(?:[-*+]\s+|\d+[.)]\s+)*(`{3,}|~{3,})(.*)$")
_TABLE = re.compile(r"[\s>]*\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_NO_TITLE = re.compile(r"\s*([-*+>|#]|\d+[.)]\s|<|$)|( {4}|\t)")  # cannot be a setext title
_HTML = re.compile(r" {0,3}<(!--|(?:pre|script|style|textarea)\b)", re.IGNORECASE)
_TITLE_KEY = re.compile(r"^title[ \t]*:[ \t]*(.+)$", re.MULTILINE | re.IGNORECASE)
_LINK = re.compile(r"!?\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])?")
_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)|\s*\{#[^}]*\}\s*$")


def read_markdown(text: str) -> Document:
    r"""The blocks of a Markdown file; its title is that of the front matter or first heading.

    Example:
        >>> made = read_markdown("# A\n```\n# none\n```\n## B\ntext\n")
        >>> [(made.text[b.start : b.end], b.headings) for b in made.blocks]
        [('# A', ('A',)), ('```\n# none\n```', ('A',)), ('## B', ('A', 'B')), ('text', ('A', 'B'))]
    """
    outline = Outline()
    blocks = markdown_blocks(text, 0, len(text), outline)
    end = _front_matter(text, lines_of(text), 0)
    named = _TITLE_KEY.search(text, 0, end) if end else None
    return Document(text, blocks, named[1].strip().strip("'\"") if named else first_heading(blocks))


def markdown_blocks(text: str, start: int, end: int, outline: Outline) -> list[Block]:
    """The blocks of a range of Markdown.

    Args:
        text: holds the range.
        start: where it begins.
        end: where it ends.
        outline: the headings above; those of the range are entered into it.
    """
    lines, blocks = lines_of(text, start, end), []
    rows = [text[a:b].rstrip("\n") for a, b in lines]
    number = open_at = 0

    def close(upto: int) -> None:
        """Ends the prose that began at line `open_at`."""
        if open_at < upto:
            ranges = paragraphs(text, lines[open_at][0], lines[upto - 1][1])
            blocks.extend(Block(*each, outline.section, outline.headings) for each in ranges)

    if start == 0 and (front := _front_matter(text, lines, 0)):
        blocks.append(Block(*trimmed(text, 0, front), outline.section, whole=True))
        number = open_at = next((i for i, line in enumerate(lines) if line[0] >= front), len(lines))
    while number < len(lines):
        if heading := _heading(rows, number, open_at):
            level, title, first = heading
            close(first)
            outline.enter(level, title)
            place = trimmed(text, lines[first][0], lines[number][1])
            blocks.append(Block(*place, outline.section, outline.headings, is_heading=True))
            number = open_at = number + 1
        elif (stop := _whole_until(rows, number)) > number:
            close(number)
            place = trimmed(text, lines[number][0], lines[stop - 1][1])
            blocks.append(Block(*place, outline.section, outline.headings, whole=True))
            number = open_at = stop
        else:
            number += 1
    close(number)
    return blocks


def plain_title(title: str) -> str:
    """A heading without the marks of emphasis, code and links.

    Example:
        >>> plain_title("The `gemb` [guide](x.md)")
        'The gemb guide'
    """
    return " ".join(_MARKS.sub("", _LINK.sub(r"\1", title)).split())


def _front_matter(text: str, lines: list[tuple[int, int]], start: int) -> int:
    """Where the YAML block at a file's start ends; 0 where there is none."""
    first = lines[0] if lines else (0, 0)
    if text[first[0] : first[1]].lstrip("\ufeff").rstrip() != "---":
        return 0
    for begin, end in lines[1:]:
        if text[begin:end].rstrip() in ("---", "..."):
            return end
    return 0


def _heading(rows: list[str], number: int, open_at: int) -> tuple[int, str, int] | None:
    """(level, title, first line) where a heading ends on a line."""
    row = rows[number].lstrip("\ufeff")
    if match := _ATX.match(row):
        return len(match[1]), plain_title(match[2] or ""), number
    match = _SETEXT.match(row)
    above = rows[number - 1].lstrip("\ufeff") if number > open_at else ""
    if not match or not above.strip() or _NO_TITLE.match(above):
        return None
    first = number - 1
    while first > open_at and rows[first - 1].strip() and not _NO_TITLE.match(rows[first - 1]):
        first -= 1
    if first > open_at and rows[first - 1].strip():  # the lines belong to a list or a quotation
        return None
    title = " ".join(line.strip() for line in rows[first:number])
    return 1 if match[1][0] == "=" else 2, plain_title(title.lstrip("\ufeff")), first


def _whole_until(rows: list[str], number: int) -> int:
    """Where the fence, table or HTML block that begins on a line ends; the line if none does."""
    row = rows[number]
    if (fence := _FENCE.match(row)) and not (fence[1][0] == "`" and "`" in fence[2]):
        return _fence_end(rows, number, fence[1])
    if html := _HTML.match(row):
        name = html[1].lower()
        close = "-->" if name == "!--" else f"</{name}>"
        for last in range(number, len(rows)):
            if close in rows[last].lower():
                return last + 1
        return number  # never closed: prose
    if "|" in row and number + 1 < len(rows) and _is_rule(rows[number + 1]):
        last = number + 2
        while last < len(rows) and "|" in rows[last] and rows[last].strip():
            last += 1
        return last
    return number


def _fence_end(rows: list[str], number: int, mark: str) -> int:
    """The line behind a fence; an open one ends with its quotation or the text."""
    close = re.compile(rf"[\s>]*{re.escape(mark[0])}{{{len(mark)},}}\s*$")
    quoted = rows[number].lstrip().startswith(">")
    for last in range(number + 1, len(rows)):
        if quoted and not rows[last].lstrip().startswith(">"):
            return last
        if close.match(rows[last]):
            return last + 1
    return len(rows)


def _is_rule(row: str) -> bool:
    """Whether a line parts a table's head from its rows."""
    return "|" in row and bool(_TABLE.match(row))
