"""The house's word list and codespell over everything that a person reads; no exceptions.

The list is in house_words.py, the reasons in docs/writing.md. `python tests/writing_test.py` counts
what is found in gemb/ by folder.
"""

import collections
import re
import subprocess
import sys
from pathlib import Path

import house_words
import package_prose
import pytest

ROOT = Path(__file__).parents[1]
# docs/writing.md quotes the words that it advises against.
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").rglob("*"))
    if path.suffix in (".md", ".gin", ".py")
    and "_build" not in path.parts
    and path.name not in ("CHANGELOG.md", "writing.md")
)
DATA = sorted((ROOT / "docs" / "results").glob("*.json"))
CODE = sorted((ROOT / "gemb").rglob("*.py"))
SPELLING = ",".join(("nd", "pres", "temprature"))  # names, and an example of a mistake


@pytest.mark.parametrize("path", [*PAGES, *DATA], ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_use_the_houses_words(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".gin":  # only comments are prose
        text = "\n".join(re.sub(r"^[^#]*#?", "", line) for line in text.splitlines())
    found = [f"{line}: {what!r}: write {hint}" for line, what, hint in house_words.findings(text)]
    assert not found, f"{path.relative_to(ROOT)}:\n" + "\n".join(found)


def test_the_package_uses_the_houses_words():
    found = [
        f"{folder}/{name}:{line}: {what!r}" for folder, name, line, _, what in package_findings()
    ]
    assert not found, "\n".join(found)


def test_spelling():
    pytest.importorskip("codespell_lib")
    files = [*PAGES, *DATA, ROOT / "docs" / "writing.md", ROOT / "CHANGELOG.md", *CODE]
    command = [sys.executable, "-m", "codespell_lib", f"--ignore-words-list={SPELLING}", *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_list_finds_what_it_is_for():
    def found(text):
        return [what for _, what, _ in house_words.findings(text)]

    text = "It shall be told,\nbeside a row a task."
    assert found(text) == ["shall", "told", "beside", "row a task"]
    assert found("`shall` and --tells and models/lies.py") == []
    assert house_words.asks("which run should be evaluated?")
    assert not house_words.asks("--workdir is required. Did you mean runs/a?")


def package_findings():
    """(folder, file, line, kind, what) of all prose in gemb/."""
    for path in CODE:
        for line, kind, text in package_prose.prose(path):
            place = (path.parent.relative_to(ROOT).as_posix(), path.name)
            for inner, what, _ in house_words.findings(text):
                yield *place, line + inner - 1, kind, what
            if kind == "error" and house_words.asks(text):
                yield *place, line, kind, "a question"


if __name__ == "__main__":
    all_found = list(package_findings())
    for folder, count in sorted(collections.Counter(one[0] for one in all_found).items()):
        print(f"{count:4} {folder}")
    if "-v" in sys.argv:
        for folder, name, line, kind, what in all_found:
            print(f"{folder}/{name}:{line}: {kind}: {what}")
