"""The report on what students keep of their teacher: quality, speed, size, agreement of scores.

Its input is the tree that `gemb.analysis.retention.measure_retention` returns.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemb.reports import figures, html

_KEPT = "Each figure as a share of the teacher's figure at full width."
_SPEED = (
    "Models encode the same texts in turns; best of three. On a busy machine compare ratios only."
)


def write_retention_page(path: str | Path, kept: Mapping[str, Any]) -> None:
    """Writes a self-contained HTML page; an existing file is replaced in one step.

    Args:
        path: the file to write.
        kept: from `gemb.analysis.retention.measure_retention`.

    Raises:
        UserError: the file cannot be written.
    """
    students = ", ".join(kept["scores"])
    parts = [_kept_section(kept), _cost_section(kept), _scores_section(kept)]
    html.write_page(path, f"gemb: {students}", f"distilled from {kept['teacher']}", parts)


def _kept_section(kept: Mapping[str, Any]) -> str:
    widths = {w for by_model in kept["kept"].values() for row in by_model.values() for w in row}
    widths = sorted(widths, key=int, reverse=True)
    rows = [
        [task, name, *(f"{row[w]:.1%}" if row.get(w) is not None else "\u2013" for w in widths)]
        for task, by_model in kept["kept"].items()
        for name, row in by_model.items()
    ]
    table = html.table(["task", "student", *widths], rows, texts=2)
    return html.section("What students keep", _KEPT, table)


def _cost_section(kept: Mapping[str, Any]) -> str:
    teacher = kept["teacher"]
    rows = [
        [
            name,
            f"{kept['speed'][name]:,.0f}",
            f"{kept['speed'][name] / kept['speed'][teacher]:.2f}",
            f"{kept['bytes'][name] / 2**20:,.1f}",
            f"{kept['bytes'][name] / kept['bytes'][teacher]:.2f}",
        ]
        for name in kept["speed"]
    ]
    head = ["model", "texts/s", "times the teacher", "MiB, float32", "times the teacher"]
    points = {n: [(kept["speed"][n], kept["front"][n], n)] for n in kept["speed"]}
    labels = ("texts per second", "mean of tasks")
    drawn = figures.trade_figure("pareto", points, labels, more_is_better=True)
    shown = html.figures({"Quality against speed, at full width": drawn})
    return html.section("Speed and size", _SPEED, html.table(head, rows), shown)


def _scores_section(kept: Mapping[str, Any]) -> str:
    drawn = {
        f"{name}, Spearman {pair['spearman']:.3f}": figures.scatter_figure(
            f"scores-{name}",
            (pair["teacher"], pair["student"]),
            (f"cosine by {kept['teacher']}", f"cosine by {name}"),
        )
        for name, pair in kept["scores"].items()
    }
    about = "Scores of the same pairs of texts; most pairs are unrelated."
    return html.section("Scores of student and teacher", about, html.figures(drawn))
