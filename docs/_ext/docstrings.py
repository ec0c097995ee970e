"""gemb's docstrings as reStructuredText, before napoleon reads their sections.

The house writes docstrings as plain text: `code` in single backticks, formulas with stars and bars,
indented blocks that are meant as written, and a paragraph that begins with "Reference:".
"""

import re

SECTION = re.compile(r"(Args|Arguments|Attributes|Returns|Raises|Yields|Example|Examples):$")
SPAN = re.compile(r"(`+[^`\n]+`+)")


def restructured(lines: list[str]) -> list[str]:
    """The lines of a docstring in Google's style, without what reStructuredText would misread."""
    made: list[str] = []
    section, reference, block = False, False, False
    for line in lines:
        indented = line.startswith(" ")
        if not line.strip():
            block = block and not section
            reference = False
        elif SECTION.match(line):
            section, block, reference = True, False, False
        elif line.startswith("Reference: "):
            section, block, reference = False, False, True
            line = line.replace("Reference:", "**Reference:**", 1)
        elif reference:
            line = line.strip()
        elif indented and not section and not block:
            made += ["", "::", ""]
            block = True
        elif not indented:
            made += [""] * block
            section, block = False, False
        made.append(line if block or ">>>" in line else _escaped(line))
    return made


def _escaped(line: str) -> str:
    if line.startswith("**Reference:**"):
        return "**Reference:**" + _escaped(line.removeprefix("**Reference:**"))
    return "".join(
        f"``{part.strip('`')}``" if part.startswith("`") else _plain(part)
        for part in SPAN.split(line)
    )


def _plain(text: str) -> str:
    return re.sub(r"([*|])", r"\\\1", re.sub(r"(?<=\w)_(?!\w)", r"\\_", text))


def _prepare(app, what, name, obj, options, lines: list[str]) -> None:
    lines[:] = restructured(lines)


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", _prepare, priority=400)
    return {"version": "1", "parallel_read_safe": True}
