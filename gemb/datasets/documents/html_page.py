"""HTML to plain text with headings; scripts, styles and the like are left out."""

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser

from gemb.datasets.documents.document import Block, Builder, Document, Outline, lines_of

_DROPPED = frozenset(["script", "style", "template", "noscript", "svg", "math", "head"])
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_WHOLE = frozenset(["pre", "table"])
_BLOCKS = frozenset(
    [
        *("address", "article", "aside", "blockquote", "body", "button", "caption", "center"),
        *("dd", "details", "dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure"),
        *("footer", "form", "header", "hr", "html", "legend", "li", "main", "nav", "ol"),
        *("option", "p", "pre", "section", "select", "summary", "table", "tbody", "tfoot"),
        *("thead", "title", "tr", "ul"),
    ]
)
_VOID = frozenset(
    [
        *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta"),
        *("source", "track", "wbr"),
    ]
)
_REFERENCE = re.compile(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\f <&#;]{1,32};?)")
_SPACE = re.compile(r"[ \t\n\f\r\v]+")


def read_html(text: str) -> Document:
    """The visible text of a page, white space folded outside of <pre>.

    Example:
        >>> made = read_html("<title>T</title><h1>A</h1><p>x &amp; <b>y</b></p>")
        >>> made.title, [(made.text[b.start : b.end], b.headings) for b in made.blocks]
        ('T', [('A', ('A',)), ('x & y', ('A',))])
    """
    page = _Page(text)
    page.feed(text)
    page.close()
    page.end_block()
    made = page.made
    title = " ".join("".join(page.title).split())
    return Document(made.text, page.blocks, title or page.first_heading, made.anchors)


class _Page(HTMLParser):
    def __init__(self, source: str):
        super().__init__()
        self.made, self.blocks, self.outline = Builder(), [], Outline()
        self.title, self.first_heading = [], ""
        self._source, self._starts = source, [start for start, _ in lines_of(source)] or [0]
        self._open: list[str] = []  # tags that wait for their end
        self._begin, self._whole, self._gap = None, False, ""

    def handle_starttag(self, tag: str, attrs) -> None:
        if (tag in _BLOCKS or tag in _HEADINGS) and not self._inside(_DROPPED | _WHOLE):
            self.end_block()
        if tag == "body" and "head" in self._open:  # a head that was not closed
            self._close("head")
        if tag not in _VOID:
            self._open.append(tag)
        elif tag == "br":
            self._gap = "\n"
        if tag in ("tr", "caption", "li", "p", "div") and self._inside(_WHOLE):
            self._gap = "\n"
        elif tag in ("td", "th"):
            self._gap = self._gap if "\n" in self._gap or self._begin is None else " | "
        self._whole = self._whole or self._inside(_WHOLE)

    def handle_startendtag(self, tag: str, attrs) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self._open:
            return
        if tag in _HEADINGS and not self._inside(_DROPPED):
            self._end_heading(_HEADINGS[tag])
        was_whole = self._inside(_WHOLE)
        self._close(tag)
        if (was_whole and not self._inside(_WHOLE)) or (tag in _BLOCKS and not was_whole):
            self.end_block()

    def handle_data(self, data: str) -> None:
        if "title" in self._open and "svg" not in self._open:
            self.title.append(data)
        elif not self._inside(_DROPPED):
            for text, start, end in self._written(data):
                self._add(text, start, end)

    def parse_marked_section(self, i: int, report: int = 1) -> int:
        """Passes over "<![...": a comment to browsers, an error to the library."""
        return self.rawdata.find(">", i) + 1 or len(self.rawdata)

    def _written(self, data: str) -> Iterator[tuple[str, int, int]]:
        """The pieces of some text with their places in the source, where references are longer."""
        line, column = self.getpos()
        at, got = self._starts[line - 1] + column, 0
        if self._source.startswith(data, at):
            yield data, at, at + len(data)
            return
        while got < len(data):
            match = _REFERENCE.search(self._source, at)
            plain = min(match.start() - at if match else len(data), len(data) - got)
            if plain:
                yield self._source[at : at + plain], at, at + plain
            at, got = at + plain, got + plain
            if match and got < len(data):
                text = html.unescape(match[0])
                yield text, at, match.end()
                at, got = match.end(), got + len(text)

    def _add(self, text: str, start: int, end: int) -> None:
        """Adds text from a place of the source."""
        if "pre" in self._open:
            self._put(text, start, end)
            return
        done = 0  # words are added one by one where white space between them is folded
        for space in _SPACE.finditer(text):
            self._put(text[done : space.start()], start + done, start + space.start())
            self._gap = self._gap or " "
            done = space.end()
        self._put(text[done:], start + done, max(end, start + done))

    def _put(self, text: str, start: int, end: int) -> None:
        if not text:
            return
        if self._begin is None:
            if not text.strip():
                return
            if self.made.length:
                self.made.space("\n\n")
            self._begin = self.made.length
        elif self._gap:
            self.made.space(self._gap)
        self._gap = ""
        self.made.add(text, start, end)

    def end_block(self) -> None:
        """Ends the paragraph, if one is open."""
        if self._begin is not None:
            self._block(is_heading=False)
        self._gap = ""

    def _block(self, *, is_heading: bool) -> None:
        end = self._begin + len(self.made.tail(self._begin).rstrip())
        where = (self._begin, end, self.outline.section, self.outline.headings)
        self.blocks.append(Block(*where, whole=self._whole, is_heading=is_heading))
        self._begin, self._whole = None, self._inside(_WHOLE)

    def _end_heading(self, level: int) -> None:
        if self._begin is None:
            return
        title = " ".join(self.made.tail(self._begin).split())
        self.first_heading = self.first_heading or title
        self.outline.enter(level, title)
        self._block(is_heading=True)

    def _inside(self, tags: frozenset[str]) -> bool:
        return any(tag in tags for tag in self._open)

    def _close(self, tag: str) -> None:
        while self._open.pop() != tag:
            pass
