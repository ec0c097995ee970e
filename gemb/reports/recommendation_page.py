"""The report on recommenders: figures of all models next to each other, and paired differences.

Its input is the tree that `gemb.evaluation.recommendation.evaluate_recommenders` returns.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemb.reports import html

Tree = Mapping[str, Any]
SHOWN = {
    "hr@10": "HR@10",
    "ndcg@10": "nDCG@10",
    "mrr@10": "MRR@10",
    "recall@20": "recall@20",
    "recall@100": "recall@100",
    "coverage@10": "coverage@10",
    "novelty@10": "novelty@10",
    "gini@10": "Gini@10",
    "tail_recall@10": "tail@10",
    "cold_recall@10": "cold@10",
}
_ABOUT = (
    "The whole catalogue is ranked for each user, without the items of the train events; equal "
    "scores are in the order of the catalogue. tail: recall of items with at most ten train "
    "events; cold: of those without any."
)
_PAIRED = (
    "nDCG@10 of the same users, less that of the best baseline, and for towers less that of towers "
    "of ids alone; 95 % intervals of a bootstrap."
)
_SETTINGS = (
    "Settings were chosen by nDCG@10 on validation events out of train; then the model was fitted "
    "on all train events and tested once."
)


def write_recommendation_page(path: str | Path, tree: Tree) -> None:
    """Writes a self-contained HTML page; an existing file is replaced in one step.

    Args:
        path: the file to write.
        tree: from `gemb.evaluation.recommendation.evaluate_recommenders`.

    Raises:
        UserError: the file cannot be written.
    """
    counts = tree["data"]
    subtitle = (
        f"{counts['users']:,} users, {counts['items']:,} items, {counts['train']:,} train events, "
        f"{counts['test']:,} test events"
    )
    parts = [_figures(tree), _intervals(tree), _differences(tree), _settings(tree), _notes(tree)]
    html.write_page(path, "gemb: recommenders", subtitle, parts)


def text_table(tree: Tree) -> str:
    """The main figures as lines for the terminal."""
    names = ("hr@10", "ndcg@10", "recall@20", "recall@100", "coverage@10", "tail_recall@10")
    width = max(len("model"), *map(len, tree["models"]))
    lines = ["  ".join(["model".ljust(width), *(f"{SHOWN[name]:>11}" for name in names)])]
    for model, row in tree["models"].items():
        cells = (f"{_figure(row['figures'][name]):>11}" for name in names)
        lines.append("  ".join([model.ljust(width), *cells]))
    return "\n".join(lines)


def _figures(tree: Tree) -> str:
    rows = [
        [model, *(_figure(row["figures"].get(name)) for name in SHOWN)]
        for model, row in tree["models"].items()
    ]
    return html.section("Figures", _ABOUT, html.table(["model", *SHOWN.values()], rows))


def _intervals(tree: Tree) -> str:
    names = list(next(iter(tree["models"].values()))["intervals"])
    rows = [
        [model, *(f"{low:.4f} to {high:.4f}" for low, high in row["intervals"].values())]
        for model, row in tree["models"].items()
    ]
    head = ["model", *(SHOWN.get(name, name) for name in names)]
    about = "95 % of resamples of the test users are inside."
    return html.section("Intervals", about, html.table(head, rows))


def _differences(tree: Tree) -> str:
    if not tree["comparisons"]:
        return ""
    rows = [
        [
            row["model"],
            row["baseline"],
            f"{row['difference']:+.4f}",
            f"{row['low']:+.4f} to {row['high']:+.4f}",
            f"{row['p']:.4f}",
        ]
        for row in tree["comparisons"]
    ]
    head = ["model", "compared with", "difference", "95 % interval", "p"]
    return html.section("Differences", _PAIRED, html.table(head, rows, texts=2))


def _settings(tree: Tree) -> str:
    rows = []
    for model, row in tree["models"].items():
        if row["tried"] is not None:
            chosen = ", ".join(f"{key} {value}" for key, value in row["settings"].items())
            seconds = f"{row['fit_seconds']:.1f}"
            rows.append(
                [model, chosen or "none", str(row["tried"]), _figure(row["validation"]), seconds]
            )
    head = ["model", "settings", "tried", "validation nDCG@10", "seconds to fit"]
    return html.section("Settings", _SETTINGS, html.table(head, rows, texts=2)) if rows else ""


def _notes(tree: Tree) -> str:
    notes = {str(number): note for number, note in enumerate(tree["notes"], start=1)}
    return html.section("Notes on the data", "", html.definitions(notes)) if notes else ""


def _figure(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.4f}"
