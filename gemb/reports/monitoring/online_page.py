"""The page of an online test. Its input is the tree that `gemb.analysis.online.analyse` returns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemb.reports import html
from gemb.reports.svg import TEXT, svg

_COLOR, _BOUND = "#2f7de1", "#b3324a"


def write_online_page(path: str | Path, tree: Mapping[str, Any]) -> None:
    """Writes a self-contained HTML page; an existing file is replaced in one step.

    Args:
        path: the file to write.
        tree: from `gemb.analysis.online.analyse`.

    Raises:
        UserError: the file cannot be written.
    """
    found, ratio = tree["difference"], tree["sample_ratio"]
    shown = [
        (
            tree["verdict"],
            "verdict",
            tree["arms"][1]["name"] + " against " + tree["arms"][0]["name"],
        ),
        (
            f"{found['difference']:+.4g}",
            "difference so far",
            f"standard error {found['error']:.3g}",
        ),
        (f"{min(ratio.values()):.2g}", "p of the sample ratio", "a verdict is refused below 0.001"),
    ]
    if tree["rho"] is not None:
        kept = 1 - tree["rho"] ** 2
        shown.append((f"{tree['rho']:.2f}", "rho of the covariate", f"variance x {kept:.2f}"))
    arms = [[one["name"], f"{one['units']:,}", f"{one['mean']:.5g}"] for one in tree["arms"]]
    table = html.table(["arm", "units", f"{tree['metric']} per {tree['per']}"], arms)
    parts = [html.tiles(shown), html.section("Arms", "", table), _looks(tree), _sequence(tree)]
    html.write_page(path, "gemb: online test", tree["why"], parts)


def _looks(tree: Mapping[str, Any]) -> str:
    rows = tree["looks"]
    if not rows:
        return ""

    def draw(axes):
        units = [row["units"] for row in rows]
        axes.plot(units, [row["z"] for row in rows], marker="o", color=_COLOR, label="z")
        for sign in (1, -1):
            bounds = [sign * row["bound"] for row in rows]
            axes.plot(units, bounds, color=_BOUND, ls="--", label="bound" if sign > 0 else None)
        axes.set(xlabel="units", ylabel="z")

    cells = [[f"{row['units']:,}", *(f"{row[k]:.3g}" for k in ("difference", "z", "bound"))]
             for row in rows]  # fmt: skip
    table = html.table(["units", "difference", "z", "bound"], cells, texts=0)
    about = "O'Brien-Fleming bounds; looks are repeated on the units exposed by then."
    return html.section("Planned looks", about, html.figures({"z": svg("looks", draw)}), table)


def _sequence(tree: Mapping[str, Any]) -> str:
    rows = tree["sequence"]
    if not rows:
        return ""

    def draw(axes):
        units = [row["units"] for row in rows]
        axes.plot(units, [row["difference"] for row in rows], color=_COLOR, label="difference")
        lows, highs = ([row[k] for row in rows] for k in ("low", "high"))
        axes.fill_between(units, lows, highs, color=_COLOR, alpha=0.2)
        axes.axhline(0, color=TEXT, lw=1, alpha=0.5)
        axes.set(xlabel="units", ylabel="difference")

    drawn = html.figures({"Confidence sequence": svg("sequence", draw)})
    return html.section("Confidence sequence", "Valid at every number of units.", drawn)
