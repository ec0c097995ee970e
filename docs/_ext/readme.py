"""Writes the tables of README.md from their data: python docs/_ext/readme.py."""

import re
from pathlib import Path

from results import table

README = Path(__file__).parents[2] / "README.md"
TABLE = re.compile(r"(<!-- fill: result-table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def written(text: str) -> str:
    """The text of README with its tables made again."""
    return TABLE.sub(lambda mark: f"{mark[1]}{table(mark[2])}\n{mark[3]}", text)


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
