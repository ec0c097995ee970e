"""The section of a run's report on the size and speed of precisions and widths."""

from collections.abc import Mapping, Sequence
from typing import Any

from gemb.reports import figures, html
from gemb.reports.wording import figure_of, label_of

_COSTS = (
    "The trained model; one mark per width. The broad line joins the points that no other point "
    "beats in both quality and cost, with their widths. Re-scored: ten times as many hits are "
    "retrieved and scored again in float32, so the float32 vectors must be on disk as well."
)


def costs_section(results: figures.Curves, precisions: Sequence[Mapping[str, Any]]) -> str:
    """Quality against bytes and against speed, and a table of precisions."""
    if not precisions:
        return ""
    by_form: dict[str, list] = {}
    for row in precisions:
        form = row["precision"] + (", re-scored" if row["rescored"] else "")
        by_form.setdefault(form, []).append(row)
    speeds = {
        form: [(r["queries_per_second"], r["ndcg@10"], str(r["width"])) for r in rows]
        for form, rows in by_form.items()
    }
    near = [
        (row["scann_queries_per_second"], row["scann_ndcg@10"], width)
        for width, row in results.get("trained", {}).items()
        if "scann_ndcg@10" in row
    ]
    sizes = {
        form: [(r["bytes"], r["ndcg@10"], str(r["width"])) for r in rows]
        for form, rows in by_form.items()
    }
    drawn = {
        "Quality against size": figures.trade_figure(
            "size", sizes, ("bytes per vector", "nDCG@10"), more_is_better=False
        ),
        "Quality against speed": figures.trade_figure(
            "speed",
            speeds | ({"ScaNN": near} if near else {}),
            ("queries/s", "nDCG@10"),
            more_is_better=True,
        ),
    }
    names = ("ndcg@10", "recall@10", "recall@100", "queries_per_second")
    cells = [
        [form, str(row["width"]), f"{row['bytes']:,}", *(figure_of(n, row[n]) for n in names)]
        for form, rows in by_form.items()
        for row in rows
    ]
    head = ["precision", "width", "bytes", *map(label_of, names)]
    table = html.table(head, cells, texts=2)
    table = f"<details><summary>Every precision and width</summary>{table}</details>"
    return html.section("Size and speed", _COSTS, html.figures(drawn), table)
