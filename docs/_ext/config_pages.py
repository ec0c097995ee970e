"""The gin files of one folder of configs/: what each defines and binds, and who reads it.

What a parameter means is taken from the docstring of the function that reads it.
"""

import importlib
import inspect
import re
from pathlib import Path

CONFIGS = Path(__file__).parents[2] / "configs"
IMPORT = re.compile(r"^from (gemb[\w.]*) import (\w+)$", re.MULTILINE)
BINDING = re.compile(r"^((?:\w+/)?)((?:\w+\.)+\w+)\.(\w+) = (.*(?:\n +.*)*)", re.MULTILINE)
MACRO = re.compile(r"^([A-Z][A-Z_]*) = (.*(?:\n +.*)*)", re.MULTILINE)
ARGUMENT = r"^ {4,8}(?:[\w, ]*\b)?%s\b[^:\n]*: ((?:.*)(?:\n {9,}.*)*)"


def pieces(folder: str) -> str:
    """One section per gin file of a folder ("." for those at the top)."""
    paths = sorted((CONFIGS / folder).glob("*.gin"))
    return "\n\n".join(_section(path) for path in paths)


def _section(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(CONFIGS).as_posix()
    parts = [f"### {name}", f"```text\n{_header(text)}\n```"]
    included = re.findall(r"^include '(?:configs/)?(.+)'", text, re.MULTILINE)
    if included:
        parts.append("Includes " + ", ".join(f"`{one}`" for one in included) + ".")
    rows = [_row(match, _imports(text)) for match in BINDING.findall(text)]
    if macros := [f"`{macro} = {_short(value)}`" for macro, value in MACRO.findall(text)]:
        parts.append("Defines " + ", ".join(macros) + ".")
    if rows:
        parts.append("\n".join(["| binding | read by | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _header(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[2:])
    return "\n".join(lines)


def _imports(text: str) -> dict[str, str]:
    return {name: f"{package}.{name}" for package, name in IMPORT.findall(text)}


def _row(match: tuple[str, str, str, str], imports: dict[str, str]) -> str:
    scope, function, parameter, value = match
    first, _, rest = function.partition(".")
    place = f"{imports[first]}.{rest}" if first in imports else function
    meaning = _meaning(place, parameter) if first in imports else ""
    binding = f"`{scope}{function}.{parameter} = {_short(value)}`"
    return f"| {binding} | `{place}` | {meaning} |"


def _short(value: str) -> str:
    value = re.sub(r"\s*#.*", "", " ".join(value.split())).replace("|", "\\|")
    return value if len(value) <= 60 else value[:57] + "..."


def _meaning(place: str, parameter: str) -> str:
    module, _, name = place.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError:  # a class and its method, or a library of an extra
        return ""
    found = re.search(ARGUMENT % parameter, inspect.getdoc(found) or "", re.MULTILINE)
    text = " ".join(found[1].split()) if found else ""
    return re.sub(r"([*_<>|\[\]])", r"\\\1", text.split(". ")[0])
