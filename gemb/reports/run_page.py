"""The report of one run: retrieval by the trained model, its base model, and BM25.

One function per section: it takes its part of the results and returns HTML, or "" if there is
nothing to show.
"""

import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from gemb.reports import figures, html
from gemb.reports.cost_section import costs_section
from gemb.reports.map_figure import HOVER, MAPS, map_figure
from gemb.reports.wording import figure_of, label_of

_EXACT = ("ndcg@10", "recall@10", "recall@100", "mrr@10", "queries_per_second")
_APPROXIMATE = (*(f"scann_{name}" for name in _EXACT), "scann_agreement@10")
_NESTED = "Vectors are cut to their first dimensions and scaled to unit length again."


def write_run_page(
    path: str | os.PathLike,
    *,
    title: str,
    summary: Mapping[str, Any],
    results: figures.Curves,
    loss_curve: Sequence[Mapping[str, float]] = (),
    examples: Sequence[Mapping[str, Any]] = (),
    precisions: Sequence[Mapping[str, Any]] = (),
    plane: Mapping[str, Any] | None = None,
    convergence: Mapping[str, Any] | None = None,
) -> None:
    """Writes a self-contained HTML page; an existing file is replaced in one step.

    Args:
        path: the file to write.
        title: the heading.
        summary: facts about the run: label -> value.
        results: system -> width -> metric -> figure, as `evaluate_vectors` and `evaluate_bm25` give
            them; systems are "bm25", "pretrained", "trained" or others.
        loss_curve: rows with "step" and "loss".
        examples: queries with hits before and after training, from `example_queries`.
        precisions: rows of `gemb.evaluation.precision.evaluate_precisions` of the trained model.
        plane: some queries and documents on a plane, see `gemb.evaluation.maps.task_map`.
        convergence: "state", "reason" and "rule" of `gemb.metrics.convergence`, and "held_out":
            (step, figure) pairs.

    Raises:
        UserError: the file cannot be written.
    """
    counted = {int(m["queries"]) for rows in results.values() for m in rows.values()}
    queries = f"{min(counted):,} queries with a relevant document. " if len(counted) == 1 else ""
    parts = [
        headline(results),
        curves_section(results, loss_curve, queries + _NESTED if results else ""),
        convergence_section(convergence),
        costs_section(results, precisions),
        examples_section(examples),
        map_section(plane),
        table_section(
            "Exact search", f"Every document is scored. {queries}".strip(), results, _EXACT
        ),
        table_section(
            "Approximate search by ScaNN",
            "Agreement is the share of the exact first ten hits that ScaNN finds.",
            results,
            _APPROXIMATE,
        ),
        html.section("This run", "", html.definitions(summary)) if summary else "",
    ]
    html.write_page(path, title, "Retrieval, before and after training", parts)


def headline(results: figures.Curves) -> str:
    """nDCG@10 of each system at its largest width, and the gain by training."""
    shown = []
    for system, rows in reversed(results.items()):
        width = max(rows, key=_order)
        remark = f"width {width}" if width.isdigit() else "on the words of the text"
        base = results.get("pretrained", {}).get(width)
        if base and system != "pretrained":
            remark += f", {_gain(rows[width], base)} over pretrained"
        shown.append((f"{rows[width]['ndcg@10']:.3f}", f"{_name(system)}, nDCG@10", remark))
    return html.tiles(shown)


def curves_section(
    results: figures.Curves, loss_curve: Sequence[Mapping[str, float]], about: str = ""
) -> str:
    """Quality and speed against width, and the training loss against step."""
    drawn = {}
    if results:
        recall = ["recall@10", "recall@100"]
        speed = ["queries_per_second"]
        drawn |= {
            "nDCG@10 by width": figures.curves_figure(results, ["ndcg@10"], "nDCG@10"),
            "Recall by width": figures.curves_figure(results, recall, "recall"),
            "Queries per second by width": figures.curves_figure(
                _speeds(results), speed, "queries/s", bottom=0
            ),
        }
    if loss_curve:
        caption = f"Training loss, {loss_curve[-1]['step']:,} steps"
        drawn[caption] = figures.loss_figure(loss_curve)
    return html.section("Curves", about, html.figures(drawn)) if drawn else ""


def convergence_section(found: Mapping[str, Any] | None) -> str:
    """Whether the run converged, over- or underfits, the held-out figures, and the rule."""
    if not found:
        return ""
    said = f"<p><strong>{escape(found['state'].capitalize())}</strong>: {escape(found['reason'])}."
    rows = [[f"{step:,}", f"{figure:.4f}"] for step, figure in found["held_out"]]
    table = html.table(["step", "held-out figure"], rows, texts=0) if rows else ""
    return html.section("Did training converge?", "", f"{said}</p>", table, _quiet(found["rule"]))


def _quiet(text: str) -> str:
    return f'<p class="quiet">{escape(text)}</p>'


def map_section(plane: Mapping[str, Any] | None) -> str:
    """Queries and documents on a plane."""
    if not plane:
        return ""
    drawn = {"Queries and documents by the trained model": map_figure("map", plane)}
    return html.section("Map", f"{MAPS[plane['method']]} {HOVER}", html.figures(drawn))


def examples_section(examples: Sequence[Mapping[str, Any]]) -> str:
    """Each query with its first hits before and after training, in an element that opens."""
    if not examples:
        return ""
    about = (
        "Queries are evenly spaced in the test set, not selected by result. "
        "\u2713 marks a relevant document, \u2717 any other."
    )
    shown = []
    for i, example in enumerate(examples):
        columns = "".join(
            f"<div><h3>{when} training</h3>{_hits(example[side])}</div>"
            for side, when in {"before": "Before", "after": "After"}.items()
        )
        shown.append(
            f"<details{' open' if i == 0 else ''}><summary>{escape(example['query'])}"
            f'<span class="quiet">{_ranks(example)}</span></summary>'
            f'<p class="quiet">Expected: <code>{escape(example["relevant"])}</code></p>'
            f'<div class="grid">{columns}</div></details>'
        )
    return html.section("Example queries", about, *shown)


def table_section(title: str, about: str, results: figures.Curves, metrics: Sequence[str]) -> str:
    """A table of metrics by system and width, without empty rows and columns."""
    rows = [
        (system, width, values)
        for system, by_width in results.items()
        for width, values in sorted(by_width.items(), key=lambda item: -_order(item[0]))
        if any(metric in values for metric in metrics)
    ]
    present = [metric for metric in metrics if any(metric in row[2] for row in rows)]
    if not present:
        return ""
    cells = [
        [_name(system), width, *(figure_of(metric, values.get(metric)) for metric in present)]
        for system, width, values in rows
    ]
    head = ["system", "width", *map(label_of, present)]
    base = results.get("pretrained", {})
    if any(system != "pretrained" and width in base for system, width, _ in rows):
        about += f" The gain is in {label_of(present[0])}, against the pretrained model."
        head.append("gain")
        for line, (system, width, values) in zip(cells, rows, strict=True):
            other = None if system == "pretrained" else base.get(width)
            line.append(_gain(values, other, present[0]))
    return html.section(title, about, html.table(head, cells, texts=2))


def _speeds(results: figures.Curves) -> dict[str, dict[str, dict[str, float]]]:
    """Queries per second of each search method, from the last system with vectors."""
    speeds = {}
    for system, rows in results.items():
        for name, metric in (
            ("exact", "queries_per_second"),
            ("ScaNN", "scann_queries_per_second"),
        ):
            found = {
                width: {"queries_per_second": row[metric]}
                for width, row in rows.items()
                if metric in row
            }
            if found:
                speeds[name if any(map(str.isdigit, found)) else system] = found
    return speeds


def _hits(hits: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for hit in hits:
        kind, mark = (' class="right"', "\u2713") if hit["relevant"] else ("", "\u2717")
        place = ":".join(str(hit[key]) for key in ("path", "line") if hit.get(key) is not None)
        place = place or hit.get("text", "")
        place = f'<br><span class="quiet">{escape(place)}</span>' if place else ""
        rows.append(
            f'<tr{kind}><td class="mark">{mark}</td><td><code>{escape(hit["name"])}</code>{place}'
            f'</td><td class="number">{hit["score"]:.3f}</td></tr>'
        )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _ranks(example: Mapping[str, Any]) -> str:
    if "before_rank" not in example:
        return ""
    before, after = example["before_rank"], example["after_rank"]
    change = (before or 1e9) - (after or 1e9)
    kind = "better" if change > 0 else "worse" if change < 0 else ""
    before, after = (f"rank {rank}" if rank else "not in the first 100" for rank in (before, after))
    return f'{before} \u2192 <span class="{kind}">{after}</span>'


def _gain(
    values: Mapping[str, float], base: Mapping[str, float] | None, metric: str = "ndcg@10"
) -> str:
    if not base or not base.get(metric) or metric not in values:
        return ""
    return f"{values[metric] / base[metric] - 1:+.1%}".replace("-", "\u2212")


def _name(system: str) -> str:
    return "BM25" if system == "bm25" else system


def _order(width: str) -> int:
    return int(width) if width.isdigit() else 0
