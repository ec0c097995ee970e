"""One file of Python -> its functions, each cut from its docstring.

Belongs here: reading, parsing and cutting a single file. Which files, which pairs and which split
is `python_code.py`. Nothing is imported or run: the source is only parsed.
"""

import ast
import io
import os
import re
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAX_FILE_BYTES = 1_000_000
_GENERATED = re.compile(rb"generated.{0,80}do not (edit|modify)", re.IGNORECASE | re.DOTALL)
_DOCSTRING = re.compile(rb":[^\n\"']*\n\s*[rRuU]?[\"']")  # a block that opens with a string
_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


class Function(NamedTuple):
    """A function or method without its docstring.

    Attributes:
        name: qualified name as Python spells it, `Class.method` or `outer.<locals>.inner`.
        line: line of the `def`, counted from 1.
        text: source from the first decorator on, docstring cut out, dedented.
        docstring: as `inspect.cleandoc` gives it, "" where there is none.
    """

    name: str
    line: int
    text: str
    docstring: str


class Unreadable(Exception):
    """A file that yields nothing; its text is the reason, one of a few fixed words."""


def read_functions(path: str | Path, *, undocumented: bool = False) -> list[Function]:
    """Reads the functions of a file, in the order of their lines.

    Args:
        path: a Python file.
        undocumented: whether to keep functions that have no docstring.

    Returns:
        The functions whose body holds more than `pass`, `...` or `raise NotImplementedError`.

    Raises:
        Unreadable: "too large", "generated", "unreadable", "undecodable", "unparsable" or
            "too deep".
    """
    if not os.path.isfile(path):  # a pipe would be waited for
        raise Unreadable("unreadable")
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise Unreadable("unreadable") from error
    if len(data) > MAX_FILE_BYTES:
        raise Unreadable("too large")
    if _GENERATED.search(data[:1000]):
        raise Unreadable("generated")
    if b"def " not in data or not (undocumented or _DOCSTRING.search(data)):
        return []  # parsing is nearly all of a harvest's time
    return cut_functions(_decode(data), undocumented=undocumented)


def cut_functions(source: str, *, undocumented: bool = False) -> list[Function]:
    r"""Cuts the functions out of a source text; see `read_functions`.

    Example:
        >>> [twice] = cut_functions('def twice(x):\n    "Double a number."\n    return 2 * x\n')
        >>> twice.docstring, twice.text
        ('Double a number.', 'def twice(x):\n    return 2 * x')
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings
            tree = ast.parse(source)
    except (RecursionError, MemoryError) as error:
        raise Unreadable("too deep") from error
    except (SyntaxError, ValueError) as error:
        raise Unreadable("unparsable") from error
    lines = source.split("\n")
    functions = []
    for node, name in _walk(tree):
        docstring = ast.get_docstring(node)
        if (docstring or undocumented) and not _is_empty(node.body[docstring is not None :]):
            docstring = (docstring or "").encode(errors="replace").decode()  # "\ud800" is no text
            functions.append(Function(name, node.lineno, _cut(node, lines), docstring))
    return sorted(functions, key=lambda function: function.line)


def _decode(data: bytes) -> str:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeError, LookupError) as error:
        raise Unreadable("undecodable") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _walk(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """Functions with their qualified names, without recursion: a file may nest deeply."""
    stack: list[tuple[ast.AST, str]] = [(tree, "")]
    while stack:
        node, prefix = stack.pop()
        if isinstance(node, ast.ClassDef):
            prefix += f"{node.name}."
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, prefix + node.name
            prefix += f"{node.name}.<locals>."
        for block in _BLOCKS:
            children = getattr(node, block, ())
            if isinstance(children, list):  # a lambda's body is no list
                stack.extend((child, prefix) for child in children)


def _is_empty(body: list[ast.stmt]) -> bool:
    return all(_does_nothing(statement) for statement in body)


def _does_nothing(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Raise):
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return isinstance(raised, ast.Name) and raised.id == "NotImplementedError"
    is_ellipsis = (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and statement.value.value is Ellipsis
    )
    return is_ellipsis or isinstance(statement, ast.Pass)


def _cut(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    """The function's lines without the docstring; column offsets of ast count UTF-8 bytes."""
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    kept = [line.encode() for line in lines[start - 1 : node.end_lineno]]
    if ast.get_docstring(node, clean=False) is not None:
        first, last = node.body[0].lineno - start, node.body[0].end_lineno - start
        before = kept[first][: node.body[0].col_offset]
        after = kept[last][node.body[0].end_col_offset :].lstrip(b"; \t")
        rest = before + after
        kept[first : last + 1] = [rest] if before.strip() or after else []
    margin = kept[0][: len(kept[0]) - len(kept[0].lstrip())]
    text = "\n".join(line.removeprefix(margin).decode() for line in kept)
    return "\n".join(line.rstrip() for line in text.split("\n")).strip()
