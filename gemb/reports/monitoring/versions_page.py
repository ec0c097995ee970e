"""The page of two versions of vectors side by side.

Its input is the tree that `gemb.analysis.versions.compare_vectors` returns.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemb.reports import html
from gemb.reports.map_figure import map_figure

Tree = Mapping[str, Any]


def write_versions_page(path: str | Path, tree: Tree, names: tuple[str, str]) -> None:
    """Writes a self-contained HTML page; an existing file is replaced in one step.

    Args:
        path: the file to write.
        tree: from `gemb.analysis.versions.compare_vectors`.
        names: of the old and the new version.

    Raises:
        UserError: the file cannot be written.
    """
    value, low, high = tree["neighbours"]["overlap"]
    ranked = tree["neighbours"]["rank_biased_overlap"]
    k = tree["k"]
    shown = [
        (f"{value:.3f}", f"overlap@{k} of neighbours", f"95 %: {low:.3f} to {high:.3f}"),
        (f"{ranked[0]:.3f}", "rank-biased overlap", f"95 %: {ranked[1]:.3f} to {ranked[2]:.3f}"),
        (f"{tree['similarity']['cka']:.3f}", "linear CKA", "1: equal up to rotation and scale"),
        (f"{tree['similarity']['procrustes']:.3f}", "Procrustes residual", "0: equal, turned"),
    ]
    parts = [
        html.tiles(shown),
        _metrics(tree),
        _shape(tree, names),
        _movers(tree),
        _maps(tree, names),
    ]
    about = f"{names[0]} and {names[1]}: {tree['items']:,} items, {tree['sample']:,} looked up"
    html.write_page(path, "gemb: two versions of vectors", about, parts)


def _metrics(tree: Tree) -> str:
    if "metrics" not in tree:
        return ""
    rows = [
        [
            name,
            *(f"{one[key]:.4f}" for key in ("old", "new")),
            f"{one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]",
            f"{one['p']:.4f}",
            f"{one['p_randomisation']:.4f}",
        ]
        for name, one in tree["metrics"].items()
    ]
    head = ["metric", "old", "new", "difference, 95 %", "p (bootstrap)", "p (randomisation)"]
    better, worse, equal = tree["wins"]["counts"]
    lists = [
        [side, one["query"], f"{one['old']:.3f}", f"{one['new']:.3f}"]
        for side in ("better", "worse")
        for one in tree["wins"][side]
    ]
    return html.section(
        "By the judgements",
        f"{better} queries are better, {worse} worse, {equal} equal (nDCG@10).",
        html.table(head, rows),
        html.table(["", "query", "old", "new"], lists, texts=2) if lists else "",
    )


def _shape(tree: Tree, names: tuple[str, str]) -> str:
    figures = tree["geometry"][0]
    rows = [
        [name.replace("_", " "), *(f"{one[name]:.4g}" for one in tree["geometry"])]
        for name in figures
    ]
    shape = html.table(["", *names], rows)
    apart = [
        [name, f"{value:.4g}", f"{expected:.4g}"]
        for name, (value, expected) in tree["distances"].items()
    ]
    head = ["distance between the versions", "value", "expected without change"]
    return html.section("Shape of the vectors", "", shape, html.table(head, apart) if apart else "")


def _movers(tree: Tree) -> str:
    rows = []
    for one in tree["movers"]:
        item = _short(one.get("text", f"item {one['item']}"))
        for side in ("lost", "gained"):
            for other in one[side]:
                why = "same cluster" if other["same_cluster"] else "another cluster"
                words = ", ".join(other.get("words", ())) or "none"
                text = _short(other.get("text", f"item {other['item']}"))
                rows.append([item, side, text, f"{why}; shared words: {words}"])
                item = ""  # said once
    about = "Items that kept the fewest neighbours, with neighbours lost and gained, and why these "
    about += "are near: cluster of the old version and shared words."
    table = html.table(["item", "", "neighbour", "why"], rows, texts=4)
    return html.section("Items that moved most", about, table if rows else "<p>None.</p>")


def _short(text: str) -> str:
    """The beginning, so that a narrow screen shows it in a few lines."""
    return text if len(text) <= 90 else f"{text[:90].rstrip()}\u2026"


def _maps(tree: Tree, names: tuple[str, str]) -> str:
    plane = tree["map"]
    drawn = {
        name: map_figure(
            f"map-{side}",
            {
                "places": plane[side],
                "groups": plane["groups"],
                "texts": plane["texts"],
                "links": [],
            },
        )
        for side, name in zip(("old", "new"), names, strict=True)
    }
    about = "PCA of the same items; the new map is turned onto the old one. Colours: clusters of "
    return html.section("Maps", about + "the old version.", html.figures(drawn))
