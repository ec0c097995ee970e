"""The pages: their commands, code and tables agree with the repository."""

import ast
import re
import sys
from pathlib import Path

import gin
import pytest

import gemb
from gemb import config
from gemb.cli.__main__ import VERBS
from gemb.training.experiment import Experiment

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
import config_pages  # noqa: E402
import docstrings  # noqa: E402
import fill  # noqa: E402
import results  # noqa: E402
import tables  # noqa: E402

PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


@pytest.mark.parametrize("page", ["README.md", *NAMES])
def test_commands_name_verbs_and_files_that_exist(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for verb in re.findall(r"^gemb ([a-z][\w-]*)", _code(text), re.MULTILINE):
        assert verb in VERBS, f"{page}: gemb {verb}"
    for file in re.findall(r"--gin_file=([\w./]+\.gin)", text):
        made = file in ("mine.gin", "student.gin") or file.endswith("/config.gin")  # by the reader
        assert made or config.find(file), f"{page}: {file}"


def test_every_verb_stands_on_a_page():
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    used = set(re.findall(r"^gemb ([a-z][\w-]*)", text, re.MULTILINE))
    assert set(VERBS) - used <= {"configs"}
    sections = fill.filled("<!-- fill: verbs -->")
    assert re.findall(r"^## gemb ([\w-]+)$", sections, re.MULTILINE) == list(VERBS)


@pytest.mark.parametrize("page", ["README.md", *NAMES])
def test_python_on_pages_compiles(page):
    for language, code in BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        if language == "python":
            ast.parse(code)


@pytest.mark.parametrize("page", ["README.md", *NAMES])
def test_tables_are_those_of_the_data(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text.count("<!-- fill: result") == len(tables.TABLE.findall(text))
    assert tables.written(text) == text, "run: python docs/_ext/tables.py"


def test_every_file_of_results_is_whole_and_on_a_page():
    text = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    shown = set(re.findall(r"<!-- fill: result (\w+) -->", text))
    assert shown == set(results.names())
    for name in results.names():
        given = results.read(name)
        assert {"title", "recorded", "columns", "rows"} <= set(given), name
        assert given.get("hardware") or given.get("conditions") or given.get("command"), name
        assert {len(row) for row in given["rows"]} == {len(given["columns"])}, name
        assert results.table(name).count("\n") == len(given["rows"]) + 1


def test_numbers_keep_their_digits():
    assert results._cell(0.48, 3) == "0.480"
    assert results._cell(17656, 0) == "17,656"
    assert results._cell(None, 2) == ""


def test_configs_are_explained_by_the_functions_that_read_them():
    page = config_pages.pieces("mesh")
    assert "### mesh/fsdp.gin" in page
    row = next(line for line in page.splitlines() if "mesh.make_mesh.fsdp = -1" in line)
    assert "gemb.parallel.mesh.make_mesh" in row
    assert len(row.split("|")[3]) > 10


def test_the_config_of_your_own_data_is_an_experiment(tmp_path):
    text = (ROOT / "docs" / "start" / "your_own_data.md").read_text(encoding="utf-8")
    [code] = [code for language, code in BLOCK.findall(text) if code.startswith("include")]
    file = tmp_path / "mine.gin"
    file.write_text(code)
    config.load([str(file)])
    config.check_read(Experiment)
    gin.clear_config()


def test_type_checkers_see_the_names_that_gemb_has():
    stub = ast.parse((ROOT / "gemb" / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    names = {alias.asname for node in imports for alias in node.names}
    assert names | {"__version__"} == set(gemb.__all__)


def test_docstrings_become_restructured_text():
    given = "One line.\n\n    a = b * c\n\nArgs:\n    x: `code` or *.\n\nReference: A\n    B."
    made = "\n".join(docstrings.restructured(given.splitlines()))
    assert "\n::\n\n    a = b * c\n" in made
    assert "\nArgs:\n    x: ``code`` or \\*.\n" in made
    assert made.endswith("**Reference:** A\nB.")


def _code(text: str) -> str:
    return "\n".join(code for _, code in BLOCK.findall(text))
