"""Writes the tables of README.md and of pages from their data: python docs/_ext/tables.py.

They are committed so that a page can be read without building it; tests/docs_test.py compares.
"""

import re
from pathlib import Path

import results

ROOT = Path(__file__).parents[2]
TABLE = re.compile(
    r"^(<!-- fill: (result|result-table) (\w+) -->\n)(?:.*?\n)??(<!-- end -->)$",
    re.DOTALL | re.MULTILINE,
)
MAKERS = {"result": results.section, "result-table": results.table}


def written(text: str) -> str:
    """The text of a page with its tables made again."""
    return TABLE.sub(lambda mark: f"{mark[1]}{MAKERS[mark[2]](mark[3])}\n{mark[4]}", text)


def pages() -> list[Path]:
    """README and all pages."""
    found = (ROOT / "docs").rglob("*.md")
    return [ROOT / "README.md", *sorted(page for page in found if "_build" not in page.parts)]


if __name__ == "__main__":
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if written(text) != text:
            page.write_text(written(text), encoding="utf-8")
            print(f"written: {page.relative_to(ROOT)}")
