"""The table of a sweep: what each member bound, how far it is, and what came out."""

import csv
import io
import math
from pathlib import Path

from gemb.files import atomic_file
from gemb.reports import html
from gemb.runs.curves import finished, main_result
from gemb.runs.records import read_metrics

CSV, HTML = "results.csv", "results.html"


def show(members: list[dict], workdir: Path) -> None:
    """Prints the table and writes it into the sweep's workdir as CSV and HTML."""
    head, rows = table(members)
    print(as_text(head, rows))
    written = io.StringIO(newline="")
    csv.writer(written).writerows([head, *rows])
    done = sum(finished(Path(member["workdir"])) for member in members)
    subtitle = f"{done} of {len(members)} members finished"
    body = html.table(head, [[_shown(cell) for cell in row] for row in rows], texts=len(head) - 3)
    page = html.page(f"Sweep {workdir.name}", subtitle, [html.section("Members", "", body)])
    for name, text in ((CSV, written.getvalue()), (HTML, page)):
        with atomic_file(workdir / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(f"{subtitle}: {workdir / CSV}, {workdir / HTML}")


def table(members: list[dict]) -> tuple[list[str], list[list]]:
    """Head and rows, the best result first and what has none last.

    Args:
        members: of the manifest.

    Returns:
        Columns: the bound names, state, metric, step, loss, result.
    """
    bound = [dict(text.split(" = ", 1) for text in member["bindings"]) for member in members]
    names = list(dict.fromkeys(name for one in bound for name in one))
    rows = []
    for member, one in zip(members, bound, strict=True):
        workdir = Path(member["workdir"])
        metrics = read_metrics(workdir)
        last = metrics[-1] if metrics else {}
        metric, result = main_result(workdir) or ("", "")
        state = "finished" if finished(workdir) else "unfinished" if metrics else "not started"
        values = [one.get(name, "") for name in names]
        rows.append([*values, state, metric, last.get("step", ""), last.get("loss", ""), result])
    rows.sort(key=_rank)
    return [*names, "state", "metric", "step", "loss", "result"], rows


def _rank(row: list) -> tuple:
    loss, result = row[-2:]
    none = loss == "" or not math.isfinite(loss)
    return (result == "", -(result or 0), none, 0 if none else loss)


def as_text(head: list[str], rows: list[list]) -> str:
    """Columns lined up for a terminal."""
    cells = [head, *([_shown(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def _shown(cell: object) -> str:
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)
