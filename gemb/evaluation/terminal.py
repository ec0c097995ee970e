"""The main figures as tables of plain text, for the terminal."""

from collections.abc import Mapping
from typing import Any

from gemb.evaluation.suite_report import widths_of


def tasks_table(tree: Mapping[str, Any]) -> str:
    """Main figures: a row a task and model, a column a width.

    Args:
        tree: from `gemb.evaluation.suite.summary`.
    """
    widths = widths_of(tree)
    rows = [
        (f"{task} {info['main']}", model, by_width, info["main"])
        for task, info in tree["tasks"].items()
        for model, by_width in tree["results"][task].items()
    ] + [("mean of tasks", model, row, "tasks") for model, row in tree["averages"].items()]
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    lines = [" " * (first + second + 2) + "".join(f"{width:>8}" for width in widths)]
    for what, model, by_width, metric in rows:
        cells = (f"{by_width[w][metric]:8.3f}" if w in by_width else f"{'':8}" for w in widths)
        lines.append(f"{what:{first}}  {model:{second}}" + "".join(cells))
    return "\n".join(lines)


def run_table(retrieval: Mapping[str, Any]) -> str:
    """nDCG@10: a row a system, a column a width; ScaNN's figure behind the slash.

    Args:
        retrieval: system -> width -> metric -> figure, as `evaluate_vectors` gives it.
    """
    widths = list(retrieval["trained"])
    lines = [f"{'nDCG@10':12}" + "".join(f"{width:>14}" for width in widths)]
    for system in retrieval:
        cells = []
        for width in widths:
            values = retrieval[system].get(width) or retrieval[system].get("text")
            if not values:  # a model that is not as wide
                cells.append("")
                continue
            near = values.get("scann_ndcg@10")
            cells.append(f"{values['ndcg@10']:.3f}" + (f" / {near:.3f}" if near else ""))
        lines.append(f"{system:12}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)
