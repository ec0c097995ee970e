"""The code of a tutorial as one program, for running it without Jupyter."""

import re
from pathlib import Path

CELL = re.compile(r"^```\{code-cell\} ipython3\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def program(page: Path) -> str:
    """The page's cells, from first to last; `%%bash` and `%%writefile` become Python."""
    cells = CELL.findall(page.read_text(encoding="utf-8"))
    return "import subprocess\n" + "\n".join(map(_python, cells))


def _python(cell: str) -> str:
    first, _, rest = cell.partition("\n")
    if first == "%%bash":
        return f"subprocess.run(['bash', '-euc', {rest!r}], check=True)"
    if first.startswith("%%writefile "):
        return f"open({first.split()[1]!r}, 'w').write({rest!r})"
    return cell
