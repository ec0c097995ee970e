"""The report of models on tasks: tables by width, curves, and significant differences.

Its input is the tree that `gemb.evaluation.suite.summary` returns.
"""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from gemb.reports import figures, html
from gemb.reports.map_figure import HOVER, MAPS, map_figure
from gemb.reports.pictures_page import grid

Tree = Mapping[str, Any]
_NESTED = "Vectors are cut to their first dimensions and scaled to unit length again."
_CALLED = (
    "A difference is reported only if every test gives p < 0.05: a paired bootstrap and, if the "
    "models' answers can be swapped, a paired randomisation test. In a table with many rows some p "
    "are below 0.05 by chance: one in twenty if no model is better."
)


def write_suite_page(
    path: str | Path, tree: Tree, maps: Mapping[tuple[str, str], Tree] | None = None
) -> None:
    """Writes a self-contained HTML page; an existing file is replaced in one step.

    Args:
        path: the file to write.
        tree: from `gemb.evaluation.suite.summary`.
        maps: (task, model) -> `gemb.evaluation.maps.task_map`.

    Raises:
        UserError: the file cannot be written.
    """
    models = ", ".join(tree["models"])
    parts = [
        headline(tree),
        main_section(tree),
        retention_section(tree),
        comparisons_section(tree),
        wins_section(tree),
        curves_section(tree),
        calibration_section(tree),
        pictures_section(tree),
        maps_section(maps or {}),
        figures_section(tree),
        models_section(tree),
    ]
    count = len(tree["tasks"])
    html.write_page(path, f"gemb: {models}", f"{count} task{'s' * (count > 1)}", parts)


def headline(tree: Tree) -> str:
    """The average of each model at its full width."""
    shown, means = [], _means(tree)
    for model, rows in tree["averages"].items():
        width = max(rows, key=int)
        remark = f"width {width}"
        if "kinds" in means:
            remark += f"; {means['kinds']} {rows[width]['kinds']:.3f}"
        what = _what(tree)
        shown.append((f"{rows[width]['tasks']:.3f}", f"{model}, {what}", remark))
    return html.tiles(shown)


def _means(tree: Tree) -> dict[str, str]:
    """The means over tasks that say something, and their names."""
    means = {"tasks": "mean of tasks"} if len(tree["tasks"]) > 1 else {}
    if len({info["kind"] for info in tree["tasks"].values()}) > 1:
        means["kinds"] = "mean of task types"
    return means


def _what(tree: Tree) -> str:
    """What the average of a model is called: of a single task it is that task."""
    return _means(tree).get("tasks") or next(iter(tree["tasks"]))


def main_section(tree: Tree) -> str:
    """The main metric of each task, one row per model and one column per width; averages below."""
    widths = widths_of(tree)
    rows = [
        [task, _counted(info), model, *_row(by_width, widths, info["main"])]
        for task, info in tree["tasks"].items()
        for model, by_width in tree["results"][task].items()
    ]
    for mean, name in _means(tree).items():
        rows += [
            [name, "", model, *_row(by_width, widths, mean)]
            for model, by_width in tree["averages"].items()
        ]
    head = ["task", "metric", "model", *widths]
    return html.section("Tasks by width", _NESTED, html.table(head, rows, texts=3))


def comparisons_section(tree: Tree) -> str:
    """Pairs of models on every task, and whether they differ; narrower widths can be opened."""
    full, narrower = [], []
    for row in tree["comparisons"]:
        widest = [str(tree["models"][model]["dim"]) for model in row["models"]]
        measured = [max(tree["averages"][model], key=int) for model in row["models"]]
        at_full = list(map(str, row["widths"])) in (widest, measured)
        (full if at_full else narrower).append(_compared(row))
    if not full and not narrower:
        return ""
    head = ["task", "models", "better", "width", "difference", "95 % interval"]
    head += ["p, bootstrap", "p, randomisation"]
    shown = [html.table(head, full, texts=3)] if full else []
    if narrower:
        table = html.table(head, narrower, texts=3)
        shown.append(f"<details><summary>At narrower widths</summary>{table}</details>")
    return html.section("Significant differences", _CALLED, *shown)


def _compared(row: Tree) -> list[str]:
    left, right = row["models"]
    better = right if row["difference"] > 0 else left
    swapped = row["p_randomisation"]
    return [
        row["task"],
        f"{left} \u2192 {right}",
        better if row["different"] else "no significant difference",
        " / ".join(map(str, dict.fromkeys(row["widths"]))),
        _signed(row["difference"]),
        f"{_signed(row['low'])} to {_signed(row['high'])}",
        _p(row["p_bootstrap"]),
        "\u2013" if swapped is None else _p(swapped),
    ]


def retention_section(tree: Tree) -> str:
    """The share of the full width's main figure that each narrower width keeps, in percent."""
    widths = widths_of(tree)
    if len(widths) < 2:
        return ""
    rows = []
    for task, info in tree["tasks"].items():
        for model, by_width in tree["results"][task].items():
            full = by_width[max(by_width, key=int)][info["main"]]
            kept = (by_width[w][info["main"]] if w in by_width else None for w in widths)
            cells = [_share(value, full) for value in kept]
            rows.append([task, info["main"], model, *cells])
    for model, by_width in tree["averages"].items() if len(tree["tasks"]) > 1 else ():
        full = by_width[max(by_width, key=int)]["tasks"]
        kept = (by_width[w]["tasks"] if w in by_width else None for w in widths)
        rows.append(["mean of tasks", "", model, *(_share(value, full) for value in kept)])
    about = "Each figure as a share of the same model's figure at full width."
    table = html.table(["task", "metric", "model", *widths], rows, texts=3)
    return html.section("What narrower vectors keep", about, table)


def wins_section(tree: Tree) -> str:
    """The items with different results of two models at full width, in elements that open."""
    shown = []
    for row in tree["wins"]:
        (left, right), (better, worse, equal) = row["models"], row["counts"]
        shown_rows = [
            [
                right if side == "better" else left,
                one["text"],
                *map(_figure, (one["left"], one["right"])),
            ]
            for side in ("better", "worse")
            for one in row[side]
        ]
        if not shown_rows:
            continue
        counts = f"{right} better on {better:,}, worse on {worse:,}, equal on {equal:,}"
        table = html.table(["better", "text", left, right], shown_rows, texts=2)
        shown.append(
            f"<details><summary>{escape(row['task'])}: {escape(left)} \u2192 {escape(right)}"
            f'<span class="quiet">{escape(counts)}</span></summary>{table}</details>'
        )
    about = "The items with the largest differences in the task's main metric at full width."
    return html.section("Won and lost", about, *shown) if shown else ""


def curves_section(tree: Tree) -> str:
    """Averages and each task's main metric against width; nothing for a single width."""
    if len(widths_of(tree)) < 2:
        return ""
    sizes = {
        model: [(4 * int(width), row["tasks"], width) for width, row in rows.items()]
        for model, rows in tree["averages"].items()
    }
    drawn, mean = {}, _what(tree)
    if len(tree["tasks"]) > 1:
        drawn["Mean of tasks"] = figures.curves_figure(tree["averages"], ["tasks"], mean)
    drawn["Quality against size"] = figures.trade_figure(
        "size", sizes, ("bytes per vector, float32", mean), more_is_better=False
    )
    for task, info in tree["tasks"].items():
        main = info["main"]
        drawn[f"{task}, {main}"] = figures.curves_figure(tree["results"][task], [main], main)
    return html.section("Curves", _NESTED, html.figures(drawn))


def calibration_section(tree: Tree) -> str:
    """Calibration of the probes of classification tasks."""
    drawn = {}
    for task, models in tree.get("details", {}).items():
        curves = {name: row["reliability"] for name, row in models.items() if "reliability" in row}
        if curves:
            drawn[task] = figures.reliability_figure(task, curves)
    about = (
        "The logistic probe at full width, in ten bins of its largest probability. Above the "
        "diagonal it is right more often than its probability says. Larger marks stand for more "
        "texts."
    )
    return html.section("Calibration", about, html.figures(drawn)) if drawn else ""


def pictures_section(tree: Tree) -> str:
    """What some captions of tasks of pictures find, with thumbnails."""
    shown = []
    for task, models in tree.get("details", {}).items():
        for model, row in models.items():
            for example in row.get("pictures", ()):
                heading = f"<h3>{escape(example['caption'])}</h3>"
                found = [(src, "right" if right else "", "") for src, right in example["found"]]
                about = f'<p class="quiet">{escape(task)}, {escape(model)}</p>'
                shown.append(heading + about + grid(found))
    about = "Some captions of each task, and the pictures that they find first, at full width."
    return html.section("Pictures", about, *shown) if shown else ""


def maps_section(maps: Mapping[tuple[str, str], Tree]) -> str:
    """Maps of the texts of each task, one per model."""
    if not maps:
        return ""
    drawn = {
        f"{task}, {model}": map_figure(f"{task} by {model}", plane)
        for (task, model), plane in maps.items()
    }
    about = MAPS[next(iter(maps.values()))["method"]]
    return html.section("Maps", f"{about} {HOVER}", html.figures(drawn))


def figures_section(tree: Tree) -> str:
    """All figures of all tasks, in an element that opens."""
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
        table = html.table(["model", "width", *names], rows, texts=2)
        shown.append(f"<details>{summary}{table}</details>")
    return html.section("Every figure", "", *shown)


def models_section(tree: Tree) -> str:
    """The models, and how long the evaluation took."""
    values = {
        model: f"{info['dim']} dimensions, compared by {info.get('similarity', 'cosine')}, "
        f"fingerprint {info['fingerprint']}, "
        f"{sum(info['seconds'].values()):,.1f} s in this run (cached results take no time)"
        for model, info in tree["models"].items()
    }
    return html.section("Models", "", html.definitions(values | _empty_texts(tree)))


def _empty_texts(tree: Tree) -> dict[str, str]:
    """How many texts of each task have no direction."""
    return {
        f"{task}, {model}": f"{sum(row['without_direction'].values())} texts have no direction "
        "(their vector is zero, as that of an empty text); they are ranked last"
        for task, models in tree.get("details", {}).items()
        for model, row in models.items()
        if "without_direction" in row
    }


def widths_of(tree: Tree) -> list[str]:
    """The widths of all models, widest first."""
    found = {width for rows in tree["averages"].values() for width in rows}
    return sorted(found, key=int, reverse=True)


def _counted(info: Mapping[str, Any]) -> str:
    """The main metric and, if known, the number of items."""
    return info["main"] + ("" if info["items"] is None else f" of {info['items']:,}")


def _row(by_width: Mapping[str, Mapping[str, float]], widths: list[str], metric: str) -> list[str]:
    return [_figure(by_width[width][metric] if width in by_width else None) for width in widths]


def _figure(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.3f}"


def _share(value: float | None, full: float) -> str:
    return "\u2013" if value is None or full <= 0 else f"{value / full:.1%}"


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\u2212")


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
