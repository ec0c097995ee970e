"""What every reader gives: a file's plain text, its blocks, and where they are in the file."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

_NEAR = 64  # characters of white space that may follow the last word of a stretch


class Unreadable(Exception):
    """A file that gives no text; its message is the reason, one of a few fixed words."""


class Block(NamedTuple):
    """A paragraph, heading, table, fence or function: a range of a document's text.

    Attributes:
        start: first character in the document's text.
        end: the character behind the last one.
        section: a number that is equal for blocks which may share a chunk, in rising order.
        headings: the titles above it, outermost first.
        whole: cut only if it does not fit into a chunk by itself (a fence, a table, a function);
            other blocks are prose, in which an overlap may begin.
        is_heading: whether it is a heading line by itself.
    """

    start: int
    end: int
    section: int = 0
    headings: tuple[str, ...] = ()
    whole: bool = False
    is_heading: bool = False


class Anchor(NamedTuple):
    """A stretch of a document's text that comes from one place of the file.

    Attributes:
        at: where it begins in the document's text.
        start: where its source begins in the file's text.
        end: where its source ends there.
    """

    at: int
    start: int
    end: int


@dataclass(frozen=True)
class Document:
    """A file's plain text and its blocks.

    Attributes:
        text: plain text; of a text format the whole file.
        blocks: in order, apart from each other; what is between them is white space.
        title: "" where the file names none.
        anchors: where the text comes from, in order; empty where text and file are the same.
        pages: where each page begins in the text; empty for formats without pages.
    """

    text: str
    blocks: Sequence[Block]
    title: str = ""
    anchors: Sequence[Anchor] = field(default=())
    pages: Sequence[int] = field(default=())

    def source(self, start: int, end: int) -> tuple[int, int]:
        """The range of the file's text that a range of the document's text comes from."""
        if not self.anchors:
            return start, end
        first, last = (self.anchors[self._anchor(at)] for at in (start, end - 1))
        begin = min(first.start + start - first.at, first.end)
        if self._is_end(last, end):
            return begin, max(begin, last.end)
        return begin, max(begin, min(last.start + end - last.at, last.end))

    def page(self, start: int) -> int:
        """The number of the page that a character is on, counted from 1."""
        return bisect.bisect_right(self.pages, start)

    def _anchor(self, at: int) -> int:
        return max(0, bisect.bisect_right(self.anchors, at, key=lambda anchor: anchor.at) - 1)

    def _is_end(self, anchor: Anchor, end: int) -> bool:
        """Whether an anchor's stretch is read to its end: escapes make its source longer."""
        following = self._anchor(end - 1) + 1
        ends = self.anchors[following].at if following < len(self.anchors) else len(self.text)
        return ends - end < _NEAR and not self.text[end:ends].strip()


class Builder:
    """Puts a document's text together from pieces of a file.

    Example:
        >>> made = Builder()
        >>> made.add("a & b", 10, 19)
        >>> made.text, made.anchors
        ('a & b', [Anchor(at=0, start=10, end=19)])
    """

    def __init__(self):
        self._parts: list[str] = []
        self.anchors: list[Anchor] = []
        self.length = 0

    @property
    def text(self) -> str:
        """What was added so far."""
        return "".join(self._parts)

    def tail(self, start: int) -> str:
        """What was added from a character on."""
        parts, length = [], self.length
        for part in reversed(self._parts):
            if length <= start:
                break
            length -= len(part)
            parts.append(part)
        return "".join(reversed(parts))[max(0, start - length) :]

    def add(self, text: str, start: int, end: int) -> None:
        """Adds text that comes from a range of the file."""
        if text:
            self.anchors.append(Anchor(self.length, start, end))
            self.space(text)

    def space(self, text: str) -> None:
        """Adds text that does not come from the file, such as the line between paragraphs."""
        if text:
            self._parts.append(text)
            self.length += len(text)


class Outline:
    """The headings above the place that a reader has come to, and the number of its section."""

    def __init__(self):
        self._open: list[tuple[int, str]] = []
        self.section = 0

    @property
    def headings(self) -> tuple[str, ...]:
        """Titles, outermost first."""
        return tuple(title for _, title in self._open)

    def enter(self, level: int, title: str) -> None:
        """Opens a section; sections of its level and below are closed."""
        self._open = [(depth, name) for depth, name in self._open if depth < level]
        if title:
            self._open.append((level, title))
        self.section += 1


def first_heading(blocks: Sequence[Block]) -> str:
    """The title of the first heading; "" where there is none."""
    return next((block.headings[-1] for block in blocks if block.is_heading and block.headings), "")


def lines_of(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    r"""(start, end) of each line of a range, its line end included.

    Lines end with a line feed alone: form feeds and the like are characters of a line, as in
    editors.

    Example:
        >>> lines_of("a\n\nb")
        [(0, 2), (2, 3), (3, 4)]
    """
    end, found = len(text) if end is None else end, []
    while start < end:
        stop = text.find("\n", start, end) + 1 or end
        found.append((start, stop))
        start = stop
    return found
