"""The report that compares runs: a table, the differences of their configs, one plot per metric.

Its input is the tree that `gemb.runs.comparison.compare` returns.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemb.reports import figures, html

Tree = Mapping[str, Any]
_NONE = "\u2013"


def write_comparison_page(path: str | Path, tree: Tree) -> None:
    """Writes a self-contained HTML page; an existing file is replaced in one step.

    Args:
        path: the file to write.
        tree: from `gemb.runs.comparison.compare`.

    Raises:
        UserError: the file cannot be written.
    """
    parts = [runs_section(tree), config_section(tree), curves_section(tree)]
    title, subtitle = "Runs: " + ", ".join(tree["runs"]), f"{len(tree['runs'])} runs"
    html.write_page(path, title, subtitle, parts)


def runs_section(tree: Tree) -> str:
    """The progress of each run, and its last and best figures."""
    head, rows = runs_table(tree)
    about = (
        f"Last and best are taken from running means over {tree['smoothing']} logged steps. "
        "Best is shown, with its step, for metrics with a known better direction."
    )
    return html.section("Runs", about, html.table(head, rows))


def runs_table(tree: Tree) -> tuple[list[str], list[list[str]]]:
    """Header and rows with one column per run; rows without any value are left out."""
    runs = tree["runs"]
    results = list(dict.fromkeys(name for run in runs.values() for name in run["result"] or ()))
    figures = ["state", "steps", "seconds", *results]
    for metric in tree["curves"]:
        figures.append(metric)
        if any(metric in run["best"] for run in runs.values()):
            figures.append(f"best {metric}")
    rows = [[figure, *(_cell(run, figure) for run in runs.values())] for figure in figures]
    return ["", *runs], [row for row in rows if set(row[1:]) != {_NONE}]


def curves_section(tree: Tree) -> str:
    """One plot per metric; each run has one colour."""
    lacking = [
        f"{name} has no {metric}"
        for metric, curves in tree["curves"].items()
        for name in tree["runs"]
        if name not in curves
    ]
    about = (
        "Thin lines: logged values. Thick lines: running means over "
        f"{tree['smoothing']} logged steps. "
    )
    about += f"{'; '.join(lacking)}." if lacking else ""
    names = list(tree["runs"])
    drawn = {
        metric: figures.steps_figure(metric, curves, names)
        for metric, curves in tree["curves"].items()
    }
    return html.section("Curves", about.strip(), html.figures(drawn))


def config_section(tree: Tree) -> str:
    """The bindings that differ, one column per run; '' for a single run."""
    if len(tree["runs"]) < 2:
        return ""
    if not tree["config"]:
        return html.section("Configs", "All runs have the same bindings.")
    rows = [
        [binding, *(_NONE if values[name] is None else values[name] for name in tree["runs"])]
        for binding, values in tree["config"].items()
    ]
    head = ["binding", *tree["runs"]]
    about = f"Only bindings that differ are shown. {_NONE}: not bound in this config."
    return html.section("Configs", about, html.table(head, rows, texts=len(head)))


def _cell(run: Mapping[str, Any], figure: str) -> str:
    best = run["best"].get(figure.removeprefix("best ")) if figure.startswith("best ") else None
    if best:
        return f"{number(best['value'])} @ {best['step']:,}"
    values = {
        "state": "finished" if run["finished"] else "unfinished",
        "steps": f"{run['steps']:,}" + (f" of {run['of']:,}" if run["of"] else ""),
        **(run["result"] or {}),
        "seconds": run["seconds"],
        **run["last"],
    }
    value = values.get(figure)
    if value is None:
        return _NONE
    return value if isinstance(value, str) else number(value)


def number(value: float) -> str:
    """A figure with a suitable number of digits.

    Example:
        >>> number(12345.6), number(0.51234), number(0.0000123)
        ('12,346', '0.5123', '1.23e-05')
    """
    if value and abs(value) < 1e-3:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
