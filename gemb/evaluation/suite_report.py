"""The report of models over tasks: tables of tasks by width, curves, and which differences hold.

It takes the tree of `gemb.evaluation.suite.summary`. How a page looks stands in
`gemb.evaluation.page`, the figures in `gemb.evaluation.figures`.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from gemb.cache import atomic_file
from gemb.evaluation import figures, page

Tree = Mapping[str, Any]
_NESTED = "A vector is cut to its first dimensions and made unit length again."
_CALLED = (
    "A difference is called one only where every p is below 0.05: of a paired bootstrap and, where "
    "the models' answers can be swapped, of a paired randomisation test. With many rows some fall "
    "below 0.05 by chance: one in twenty, where no model is better."
)


def write_suite_report(path: str | Path, tree: Tree) -> None:
    """Writes a self-contained HTML page; a file that was there is replaced in one step.

    Args:
        path: where to write it.
        tree: from `gemb.evaluation.suite.summary`.

    Raises:
        UserError: the file cannot be written.
    """
    models = ", ".join(tree["models"])
    parts = [
        headline(tree),
        main_section(tree),
        comparisons_section(tree),
        curves_section(tree),
        figures_section(tree),
        models_section(tree),
    ]
    text = page.page(f"gemb: {models}", f"{len(tree['tasks'])} tasks", parts)
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def headline(tree: Tree) -> str:
    """Each model's average at its full width."""
    shown = []
    for model, rows in tree["averages"].items():
        width = max(rows, key=int)
        remark = f"width {width}; mean of kinds {rows[width]['kinds']:.3f}"
        shown.append((f"{rows[width]['tasks']:.3f}", f"{model}, mean of tasks", remark))
    return page.tiles(shown)


def main_section(tree: Tree) -> str:
    """The main metric of each task, a row a model and a column a width; the average below."""
    widths = widths_of(tree)
    rows = [
        [task, f"{info['main']} of {info['items']:,}", model, *_row(by_width, widths, info["main"])]
        for task, info in tree["tasks"].items()
        for model, by_width in tree["results"][task].items()
    ]
    for mean in ("tasks", "kinds"):
        rows += [
            [f"mean of {mean}", "", model, *_row(by_width, widths, mean)]
            for model, by_width in tree["averages"].items()
        ]
    head = ["task", "metric", "model", *widths]
    return page.section("Tasks by width", _NESTED, page.table(head, rows, texts=3))


def comparisons_section(tree: Tree) -> str:
    """Every pair of models on every task and width, and whether they differ."""
    rows = []
    for row in tree["comparisons"]:
        left, right = row["models"]
        better = right if row["difference"] > 0 else left
        swapped = row["p_randomisation"]
        rows.append(
            [
                row["task"],
                f"{left} \u2192 {right}",
                better if row["different"] else "no difference shown",
                " / ".join(map(str, dict.fromkeys(row["widths"]))),
                _signed(row["difference"]),
                f"{_signed(row['low'])} to {_signed(row['high'])}",
                _p(row["p_bootstrap"]),
                "\u2013" if swapped is None else _p(swapped),
            ]
        )
    if not rows:
        return ""
    head = ["task", "models", "better", "width", "difference", "95 % interval"]
    head += ["p, bootstrap", "p, randomisation"]
    return page.section("Which differences hold", _CALLED, page.table(head, rows, texts=3))


def curves_section(tree: Tree) -> str:
    """Averages and each task's main metric against width; nothing where there is one width."""
    if len(widths_of(tree)) < 2:
        return ""
    drawn = {
        "Mean of tasks": figures.curves_figure(tree["averages"], ["tasks"], "mean of tasks"),
    }
    for task, info in tree["tasks"].items():
        main = info["main"]
        drawn[f"{task}, {main}"] = figures.curves_figure(tree["results"][task], [main], main)
    return page.section("Curves", _NESTED, page.figures(drawn))


def figures_section(tree: Tree) -> str:
    """Every figure of every task, to be opened."""
    shown = []
    for task, by_model in tree["results"].items():
        names = list(
            dict.fromkeys(n for rows in by_model.values() for r in rows.values() for n in r)
        )
        rows = [
            [model, width, *(_figure(row.get(name)) for name in names)]
            for model, by_width in by_model.items()
            for width, row in by_width.items()
        ]
        summary = f"<summary>{escape(task)}</summary>"
        table = page.table(["model", "width", *names], rows, texts=2)
        shown.append(f"<details>{summary}{table}</details>")
    return page.section("Every figure", "", *shown)


def models_section(tree: Tree) -> str:
    """What was measured, and how long it took."""
    values = {
        model: f"{info['dim']} dimensions, fingerprint {info['fingerprint']}, "
        f"{sum(info['seconds'].values()):,.1f} s this time (what is cached takes none)"
        for model, info in tree["models"].items()
    }
    return page.section("Models", "", page.definitions(values))


def widths_of(tree: Tree) -> list[str]:
    """Every width of any model, widest first."""
    found = {width for rows in tree["averages"].values() for width in rows}
    return sorted(found, key=int, reverse=True)


def _row(by_width: Mapping[str, Mapping[str, float]], widths: list[str], metric: str) -> list[str]:
    return [_figure(by_width[width][metric] if width in by_width else None) for width in widths]


def _figure(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.3f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
