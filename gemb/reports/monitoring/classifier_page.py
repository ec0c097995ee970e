"""The page of a classifier. Its input is the tree that `evaluate_classifier` returns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemb.reports import html
from gemb.reports.svg import svg

_COLOR = "#2f7de1"


def write_classifier_page(path: str | Path, tree: Mapping[str, Any]) -> None:
    """Writes a self-contained HTML page; an existing file is replaced in one step.

    Args:
        path: the file to write.
        tree: from `gemb.analysis.classifier.evaluate_classifier`.

    Raises:
        UserError: the file cannot be written.
    """
    widest = tree["widths"][-1]["width"]
    shown = [
        (f"{tree['accuracy']['value']:.1%}", "accuracy with early exit",
         _between(tree, "accuracy")),
        (f"{tree['macro_f1']['value']:.3f}", "macro-F1", _between(tree, "macro_f1")),
        (f"{tree['early']:.1%}", "leave early", f"mean width {tree['mean_width']:.0f} of {widest}"),
        (f"{tree['full']['accuracy']['value']:.1%}", f"accuracy at {widest}",
         "without early exit"),
    ]  # fmt: skip
    rows = [
        [
            str(row["width"]),
            f"{row['accuracy']['value']:.4f}",
            f"{row['accuracy']['low']:.4f} to {row['accuracy']['high']:.4f}",
            f"{row['macro_f1']:.4f}",
            f"{row['threshold']:.3f}" if row["threshold"] <= 1 else "none leaves",
            f"{row['share']:.1%}",
            "" if row["accuracy_there"] is None else f"{row['accuracy_there']:.4f}",
        ]
        for row in tree["widths"]
    ]
    head = ["width", "accuracy", "95 % interval", "macro-F1", "threshold", "leave here",
            "their accuracy"]  # fmt: skip
    about = "Each head alone on all texts; then what leaves at its threshold, and how often right."
    parts = [html.tiles(shown), html.section("Widths", about, html.table(head, rows))]
    parts.append(html.section("", "", html.figures({"Accuracy by width": _figure(tree)})))
    unknown = tree["unknown_labels"]
    subtitle = f"{tree['texts']:,} texts"
    if unknown:
        subtitle += f"; {unknown:,} have labels that the classifier does not know"
    html.write_page(path, "gemb: classifier", subtitle, parts)


def _between(tree: Mapping[str, Any], name: str) -> str:
    return f"95 % interval {tree[name]['low']:.3f} to {tree[name]['high']:.3f}"


def _figure(tree: Mapping[str, Any]) -> str:
    def draw(axes):
        widths = [row["width"] for row in tree["widths"]]
        lows, values, highs = (
            [row["accuracy"][key] for row in tree["widths"]] for key in ("low", "value", "high")
        )
        axes.plot(widths, values, marker="o", color=_COLOR, label="each head alone")
        axes.fill_between(widths, lows, highs, color=_COLOR, alpha=0.2)
        axes.plot([tree["mean_width"]], [tree["accuracy"]["value"]], "D", color="#b3324a",
                  label="early exit, at its mean width")  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set(xlabel="width", ylabel="accuracy")

    return svg("classifier", draw)
