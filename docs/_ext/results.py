"""Tables of measurements, from docs/results/*.json.

A file has title, columns (each with a title and, for numbers, digits), rows, and what is known of
the measurement: command, hardware, conditions, recorded (the commit and date at which the figures
were written down), notes.
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"


def section(name: str) -> str:
    """A heading, how it was measured, the table and its notes."""
    given = read(name)
    about = [f"**{label}:** {given[key]}" for key, label in LABELS.items() if key in given]
    if "command" in given:
        about.append(f"**Command:** `{given['command']}`")
    recorded = given["recorded"]
    about.append(f"**Recorded:** {recorded['date']}, commit `{recorded['commit']}`")
    parts = [f"## {given['title']}", "\\\n".join(about), table(name), *given.get("notes", ())]
    return "\n\n".join(parts)


LABELS = {"hardware": "Hardware", "conditions": "Conditions"}


def table(name: str) -> str:
    """The rows as a Markdown table."""
    given = read(name)
    columns = given["columns"]
    head = [column["title"] for column in columns]
    rows = [
        [_cell(value, column.get("digits")) for value, column in zip(row, columns, strict=True)]
        for row in given["rows"]
    ]
    return "\n".join(_line(cells) for cells in (head, ["---"] * len(head), *rows))


def read(name: str) -> dict[str, Any]:
    """The content of a file of results."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def names() -> list[str]:
    """All files of results, without their ending."""
    return sorted(path.stem for path in RESULTS.glob("*.json"))


def _cell(value: str | float | None, digits: int | None) -> str:
    if value is None:
        return ""
    return value if digits is None else f"{value:,.{digits}f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
