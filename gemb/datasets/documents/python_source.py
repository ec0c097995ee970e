"""Python by its syntax tree: functions, and classes by their methods. Nothing is run."""

import ast
import warnings

from gemb.datasets.documents.document import Block, Document, lines_of
from gemb.datasets.documents.plain import paragraphs, read_code

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def read_python(text: str) -> Document:
    r"""The functions, classes and other lines of a Python file.

    A function or method is one block, from its decorators and the comments above it on; the
    headings of a block are the names of its class and function. A class is one section, so that
    its small methods share a chunk. A file that this Python cannot parse is read by blank lines.

    Example:
        >>> made = read_python("import os\n\n\nclass A:\n    x = 1\n\n    def f(self): pass\n")
        >>> [(b.headings, b.section) for b in made.blocks]
        [((), 0), (('A',), 1), (('A', 'f'), 1)]
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(text.removeprefix("\ufeff"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return read_code(text)
    lines = lines_of(text)
    made = _Cutter(text, lines)
    made.cut(tree.body, 0, len(lines), ())
    return Document(text, made.blocks)


class _Cutter:
    def __init__(self, text: str, lines: list[tuple[int, int]]):
        self.text, self.lines, self.blocks, self.section = text, lines, [], 0

    def cut(self, body: list[ast.stmt], start: int, end: int, names: tuple[str, ...]) -> None:
        """Cuts lines [start, end), whose statements are `body`, into blocks."""
        for node in body:
            if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                continue
            first = self._first_line(node, start)
            self._plain(start, first, names)
            if not names:
                self.section += 1
            own = (*names, node.name)
            if isinstance(node, ast.ClassDef):
                self.cut(node.body, first, node.end_lineno, own)
            else:
                self._add(first, node.end_lineno, own)
            start = node.end_lineno
            if not names:
                self.section += 1
        self._plain(start, end, names)

    def _first_line(self, node: ast.stmt, least: int) -> int:
        """The number, from 0, of the line where a definition with its comments begins."""
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1
        while first > least and self._row(first - 1).lstrip().startswith("#"):
            first -= 1
        return max(first, least)

    def _row(self, number: int) -> str:
        return self.text[slice(*self.lines[number])]

    def _plain(self, start: int, end: int, names: tuple[str, ...]) -> None:
        if start < end:
            places = paragraphs(self.text, self.lines[start][0], self.lines[end - 1][1])
            self.blocks += [Block(*each, self.section, names, whole=True) for each in places]

    def _add(self, start: int, end: int, names: tuple[str, ...]) -> None:
        if start >= end:  # a second definition on the line of the first
            return
        places = list(paragraphs(self.text, self.lines[start][0], self.lines[end - 1][1]))
        if places:
            place = places[0][0], places[-1][1]
            self.blocks.append(Block(*place, self.section, names, whole=True))
