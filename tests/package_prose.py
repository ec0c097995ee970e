"""What a person reads of gemb/*.py: docstrings, help texts and the messages of errors."""

import ast
from collections.abc import Iterator
from pathlib import Path

_RAISED = ("Error", "UserError", "Exception", "_fail", "die", "check", "check_choice")


def prose(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, kind, text) of each docstring, flag's help and error message of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if text := ast.get_docstring(node, clean=False):
                yield node.body[0].lineno, "docstring", text
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rsplit(".", 1)[-1]
            if name.startswith("DEFINE_"):
                yield from ((line, "help", text) for line, text in _texts(node))
            elif name.endswith(_RAISED):
                yield from ((line, "error", text) for line, text in _texts(node))


def _texts(call: ast.Call) -> Iterator[tuple[int, str]]:
    """The strings of a call's arguments; what an f-string computes is left out."""
    for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
        if isinstance(argument, ast.JoinedStr):
            parts = [
                part.value if isinstance(part, ast.Constant) else "_" for part in argument.values
            ]
            yield argument.lineno, "".join(map(str, parts))
        elif isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.lineno, argument.value
