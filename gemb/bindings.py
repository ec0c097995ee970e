"""Finds the bindings that a run reads, from the text of its gin config, without gin itself.

A binding that nothing reads is an error, like an unused macro, unless
    its line ends in the comment `# if used`: pieces and overlays that serve many experiments, or
    its file defines a macro that a later file or parameter defines again: the whole piece is
    its file defines a macro that a later file or parameter defines again: the whole piece is
"""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

_STATEMENT = re.compile(
    r"^(?:(?P<scope>[\w/]+)/)?(?P<name>(?:\w+\.)*\w+) = (?P<value>.*(?:\n(?: +|\}|\)|\]).*)*)",
    re.MULTILINE,
)
_WHOLE = re.compile(_STATEMENT.pattern + r"\n?", re.MULTILINE)
_INCLUDE = re.compile(r"^include '([^']+)'", re.MULTILINE)
_REFERENCE = re.compile(r"@(?:[\w/]+/)?((?:\w+\.)+\w+)|%(\w+)")
_OPTIONAL = re.compile(r"# if used *$")
_BLOCK = re.compile(r"^# Parameters for (?:[\w/]+/)?([\w.]+):\n# =+\n(?:(?!# ).*\n)*", re.MULTILINE)


class Statement(NamedTuple):
    """A macro or a binding in a file.

    Attributes:
        name: "STEPS", or "losses.info_nce.temperature" without its scope.
        value: the right side of "=".
        source: the number of its file or parameter, in reading order.
        optional: whether its line ends in "# if used".
    """

    name: str
    value: str
    source: int
    optional: bool

    @property
    def function(self) -> str:
        """The function of a binding, such as "losses.info_nce"; '' for a macro."""
        return self.name.rpartition(".")[0]


def statements(
    files: Sequence[str], params: Sequence[str], find: Callable[[str], Path | None]
) -> list[Statement]:
    """All statements of files, their includes and parameters, in order.

    Args:
        files: names of gin files.
        params: single bindings.
        find: name -> path.
    """
    found: list[Statement] = []
    for text, source in enumerate_texts(files, params, find):
        for match in _STATEMENT.finditer(text):
            first = match["value"].partition("\n")[0]
            optional = bool(_OPTIONAL.search(first) or _OPTIONAL.search(match["value"]))
            found.append(Statement(match["name"], match["value"], source, optional))
    return found


def enumerate_texts(
    files: Sequence[str], params: Sequence[str], find: Callable[[str], Path | None]
) -> Iterator[tuple[str, int]]:
    """(text, number) of each file after those that it includes, then of each parameter."""
    number = 0

    def walk(name: str) -> Iterator[str]:
        path = find(name)
        text = path.read_text(encoding="utf-8") if path else ""
        for included in _INCLUDE.findall(text):
            yield from walk(included)
        yield text

    for name in files:
        for text in walk(name):
            yield text, number
            number += 1
    for param in params:
        yield param, number
        number += 1


def read_from(root: str, text: str) -> set[str]:
    """The functions and macros that a config reads, starting from one function.

    Args:
        root: such as "experiment.Experiment".
        text: the whole config as printed by gin.

    Returns:
        Names of functions ("losses.info_nce") and macros ("STEPS").

    Example:
        >>> sorted(read_from("a.b", "a.b.x = %M\\nM = @c.d()\\nc.d.y = 1\\ne.f.z = 2\\n"))
        ['M', 'a.b', 'c.d']
    """
    values: dict[str, list[str]] = {}
    for match in _STATEMENT.finditer(text):
        owner = match["name"].rpartition(".")[0] or match["name"]
        values.setdefault(owner, []).append(match["value"])
    seen, waiting = set(), [root]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for value in values.get(name, ()):
            waiting += [function or macro for function, macro in _REFERENCE.findall(value)]
    return seen


def unread(found: Sequence[Statement], read: set[str]) -> list[Statement]:
    """The statements that nothing reads, apart from optional and replaced ones.

    Args:
        found: from `statements`.
        read: from `read_from`.
    """
    last = {one.name: one.source for one in found}
    replaced = {one.source for one in found if not one.function and last[one.name] != one.source}
    return [
        one
        for one in found
        if (one.function or one.name) not in read
        and last[one.name] == one.source
        and not one.optional
        and one.source not in replaced
    ]


def only_read(text: str, read: set[str]) -> str:
    """A config as printed by gin, without the bindings and macros that nothing reads."""
    kept = _BLOCK.sub(lambda block: block[0] if block[1] in read else "", text)
    return _WHOLE.sub(lambda one: one[0] if "." in one["name"] or one["name"] in read else "", kept)
