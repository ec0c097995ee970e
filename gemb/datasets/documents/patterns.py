"""Patterns of file names as in .gitignore, for it and for --include and --exclude."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from gemb.checks import UserError


class Pattern(NamedTuple):
    """One line of a .gitignore.

    Attributes:
        expression: of a path below the folder where the pattern stands, with slashes.
        negated: whether it takes back what an earlier line matched.
        folders_only: whether it matches folders alone.
    """

    expression: re.Pattern
    negated: bool
    folders_only: bool


def parse_patterns(lines: Sequence[str], name: str = "pattern") -> list[Pattern]:
    """Patterns of lines; blank ones and comments are none.

    Raises:
        UserError: for a broken pattern such as "[z-a]".
    """
    found = []
    for line in lines:
        line = re.sub(r"(?<!\\)[ \t]+$", "", line.rstrip("\r\n"))
        if not line or line.startswith("#"):
            continue
        negated = line.startswith("!")
        glob = line[negated:].removeprefix("\\")
        try:
            expression = re.compile(_expression(glob.rstrip("/")))
        except re.error:
            raise UserError(f"{name}: {line!r} is a broken pattern") from None
        found.append(Pattern(expression, negated, glob.endswith("/")))
    return found


def matches(patterns: Sequence[Pattern], path: str, *, folder: bool = False) -> bool | None:
    """Whether a path is matched; the last pattern that matches decides, None where none does.

    Example:
        >>> patterns = parse_patterns(["*.log", "/build/", "!keep.log"])
        >>> [matches(patterns, path) for path in ("a/b.log", "a/keep.log", "b.txt")]
        [True, False, None]
        >>> matches(patterns, "build", folder=True), matches(patterns, "a/build", folder=True)
        (True, None)
    """
    for pattern in reversed(patterns):
        if (folder or not pattern.folders_only) and pattern.expression.fullmatch(path):
            return not pattern.negated
    return None


def _expression(glob: str) -> str:
    """The regular expression of a glob: "**" crosses folders, "*" and "?" do not."""
    anchored = "/" in glob
    glob, made, at = glob.removeprefix("/"), "" if anchored else "(?:.*/)?", 0
    while at < len(glob):
        if glob.startswith("**/", at) and (at == 0 or glob[at - 1] == "/"):
            made, at = made + "(?:.*/)?", at + 3
        elif glob[at:] == "**" and at and glob[at - 1] == "/":
            made, at = made + ".+", at + 2
        elif glob[at] == "*":
            made, at = made + "[^/]*", at + 1
        elif glob[at] == "?":
            made, at = made + "[^/]", at + 1
        elif glob[at] == "[" and "]" in glob[at + 2 :]:
            stop = glob.index("]", at + 2)
            inside = glob[at + 1 : stop].replace("\\", "\\\\").replace("[", "\\[")
            made, at = made + f"[{re.sub('^!', '^', inside)}]", stop + 1
        else:
            at += glob[at] == "\\" and at + 1 < len(glob)
            made, at = made + re.escape(glob[at]), at + 1
    return made
