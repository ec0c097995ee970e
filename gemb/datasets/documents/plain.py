"""Plain text, and source code in other languages than Python: blocks between blank lines."""

from collections.abc import Iterator

from gemb.datasets.documents.document import Block, Document, lines_of


def read_text(text: str) -> Document:
    r"""Paragraphs of a text; blank lines and form feeds part them.

    Example:
        >>> made = read_text("one\ntwo\n\n\fthree")
        >>> [made.text[block.start : block.end] for block in made.blocks]
        ['one\ntwo', 'three']
    """
    return Document(text, [Block(*place) for place in paragraphs(text, 0, len(text))])


def read_code(text: str) -> Document:
    """Blocks of source code, each kept whole where it fits."""
    ranges = paragraphs(text, 0, len(text))
    return Document(text, [Block(*place, whole=True) for place in ranges])


def paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the stretches of a range that have no blank line inside."""
    begin = stop = start
    for first, last in lines_of(text, start, end):
        blank = not text[first:last].strip(" \t\n\f\r\v\ufeff")
        if stop > begin and (blank or text[first] == "\f"):
            yield trimmed(text, begin, stop)
            begin = stop
        if blank:
            begin = stop = last
        elif stop == begin:
            begin, stop = first, last
        else:
            stop = last
    if stop > begin:
        yield trimmed(text, begin, stop)


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """A range without blank lines at its start and white space at its end.

    The indentation of its first line stays.
    """
    end = start + len(text[start:end].rstrip())
    while start < end and text[start] in "\n\f\r\v\ufeff":
        start += 1
    line = text.find("\n", start, end)
    while line >= 0 and not text[start:line].strip():
        start, line = line + 1, text.find("\n", line + 1, end)
    return start, end
