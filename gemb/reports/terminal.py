"""The main figures as plain text for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from gemb.reports.comparison_page import runs_table
from gemb.reports.suite_page import widths_of


def tasks_table(tree: Mapping[str, Any]) -> str:
    """Main figures: one row per task and model, one column per width.

    Args:
        tree: from `gemb.evaluation.suite.summary`.
    """
    widths = widths_of(tree)
    rows = [
        (f"{task} {info['main']}", model, by_width, info["main"])
        for task, info in tree["tasks"].items()
        for model, by_width in tree["results"][task].items()
    ]
    if len(tree["tasks"]) > 1:
        rows += [("mean of tasks", model, row, "tasks") for model, row in tree["averages"].items()]
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = [" " * (first + second + 2) + "".join(f"{width:>8}" for width in widths)]
    for what, model, by_width, metric in rows:
        cells = (f"{by_width[w][metric]:8.3f}" if w in by_width else f"{'':8}" for w in widths)
        lines.append(f"{what:{first}}  {model:{second}}" + "".join(cells))
    return "\n".join(lines + _notes(tree))


def _notes(tree: Mapping[str, Any]) -> list[str]:
    """What a reader of the figures must know: another similarity than cosine, empty texts."""
    notes = [
        f"{model} is compared by dot product, as it says"
        for model, info in tree["models"].items()
        if info.get("similarity") == "dot"
    ]
    for task, models in tree.get("details", {}).items():
        for model, row in models.items():
            if empty := sum(row.get("without_direction", {}).values()):
                notes.append(f"{task}, {model}: {empty} texts have no direction and are last")
    return notes


def run_table(retrieval: Mapping[str, Any]) -> str:
    """nDCG@10: one row per system, one column per width; ScaNN's figure after the slash.

    Args:
        retrieval: system -> width -> metric -> figure, as `evaluate_vectors` gives it.
    """
    widths = list(retrieval["trained"])
    lines = [f"{'nDCG@10':12}" + "".join(f"{width:>14}" for width in widths)]
    for system in retrieval:
        cells = []
        for width in widths:
            values = retrieval[system].get(width) or retrieval[system].get("text")
            if not values:  # the model is not as wide
                cells.append("")
                continue
            near = values.get("scann_ndcg@10")
            cells.append(f"{values['ndcg@10']:.3f}" + (f" / {near:.3f}" if near else ""))
        lines.append(f"{system:12}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


def comparison_table(tree: Mapping[str, Any]) -> str:
    """Last and best figures: one row per figure, one column per run.

    Args:
        tree: from `gemb.runs.comparison.compare`.
    """
    head, rows = runs_table(tree)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for first, *cells in (head, *rows):
        shown = (f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(" ".join([f"{first:{widths[0]}}", *shown]))
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lines whose columns start below each other; figures end below each other.

    Args:
        rows: of texts, the head first.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    figures = [all(not text or text[0].isdigit() for text in column[1:]) for column in columns]
    lines = []
    for row in rows:
        cells = zip(row, widths, figures, strict=True)
        shown = (
            f"{text:>{width}}" if right else f"{text:<{width}}" for text, width, right in cells
        )
        lines.append("  ".join(shown).rstrip())
    return "\n".join(lines)


def retention_lines(kept: Mapping[str, Any]) -> str:
    """What each student keeps of its teacher: one line per student.

    Args:
        kept: from `gemb.analysis.retention.measure_retention`.
    """
    teacher, lines = kept["teacher"], []

    def ratio(name: str, student: str) -> str:
        return f"{kept[name][student] / kept[name][teacher]:.2f}"

    for name, pair in kept["scores"].items():
        shares = kept["kept"]["mean of tasks"][name]
        lines.append(
            f"{name} keeps {shares[max(shares, key=int)]:.1%} of {teacher}, at "
            f"{ratio('speed', name)} times its speed and {ratio('bytes', name)} of its size; "
            f"their scores correlate at {pair['spearman']:.3f}"
        )
    return "\n".join(lines)
