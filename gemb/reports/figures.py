"""Plots for a report, as inline SVG in the page's colours, light or dark."""

from collections.abc import Mapping, Sequence

import numpy as np

from gemb.reports.svg import TEXT, svg

Curves = Mapping[str, Mapping[str, Mapping[str, float]]]  # system -> width -> metric -> figure

COLORS = {"trained": "#2f7de1", "pretrained": "#e08a1e", "bm25": "#8a8f98"}
_OTHERS = ("#2ba36b", "#b05bd6", "#d6485b", "#3aa6b9")
_STYLES = (("-", (0, (1, 1.5))), ((0, (4, 2)), (0, (4, 1.5, 1, 1.5))))  # curve, level; by metric


def loss_figure(loss_curve: Sequence[Mapping[str, float]]) -> str:
    """Training loss against step, with a running mean over a twentieth of the steps.

    Args:
        loss_curve: rows with "step" and "loss".

    Returns:
        An SVG element.
    """
    steps = np.array([row["step"] for row in loss_curve], np.float64)
    losses = np.array([row["loss"] for row in loss_curve], np.float64)
    window = max(len(steps) // 20, 1)

    def draw(axes):
        alone = window == 1
        label = "each logged step"
        axes.plot(
            steps, losses, color=COLORS["trained"], lw=1, alpha=1 if alone else 0.35, label=label
        )
        if not alone:
            mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
            label = f"running mean of {window}"
            axes.plot(steps[window - 1 :], mean, color=COLORS["trained"], label=label)
        axes.set(xlabel="step", ylabel="loss (nats)")

    return svg("loss", draw)


def curves_figure(
    results: Curves, metrics: Sequence[str], label: str, bottom: float | None = None
) -> str:
    """Metrics of each system against width; a horizontal line for a system without widths.

    Args:
        results: system -> width -> metric -> figure; a width that is not a number ("text") gives a
            horizontal line.
        metrics: the metrics to draw, the first solid, the second dashed.
        label: the label of the y-axis.
        bottom: the start of the y-axis; None to fit the figures.

    Returns:
        An SVG element.
    """

    def draw(axes):
        widths = set()
        for color, (system, rows) in zip(_colors(results), results.items(), strict=True):
            points = sorted((int(w), row) for w, row in rows.items() if w.isdigit())
            widths.update(width for width, _ in points)
            system = "BM25" if system == "bm25" else system
            for (style, flat), metric in zip(_STYLES, metrics, strict=False):
                name = f"{system} {metric}" if len(metrics) > 1 else system
                drawn = [(width, row[metric]) for width, row in points if metric in row]
                if drawn:
                    axes.plot(
                        *zip(*drawn, strict=True), color=color, ls=style, marker="o", label=name
                    )
                for row in (row for w, row in rows.items() if not w.isdigit() and metric in row):
                    level = f"{row[metric]:,.0f}" if row[metric] > 10 else f"{row[metric]:.3f}"
                    axes.axhline(row[metric], color=color, ls=flat, label=f"{name} ({level})")
        if widths:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(widths), [str(width) for width in sorted(widths)])
            axes.minorticks_off()
        axes.set(xlabel="width (dimensions kept)", ylabel=label)
        axes.set_ylim(bottom=bottom)

    return svg("-".join(metrics), draw)


def steps_figure(
    name: str, curves: Mapping[str, Mapping[str, Sequence[float]]], order: Sequence[str]
) -> str:
    """A metric of several runs against the step: running means thick, logged values thin.

    Args:
        name: the name of the metric.
        curves: run -> {"step", "raw", "smooth"}.
        order: all runs of the page, so that a run has the same colour in all figures.

    Returns:
        An SVG element.
    """
    palette = (COLORS["trained"], COLORS["pretrained"], *_OTHERS, COLORS["bm25"])

    def draw(axes):
        for run, curve in curves.items():
            turn, color = divmod(order.index(run), len(palette))
            look = {"color": palette[color], "ls": _STYLES[turn % len(_STYLES)][0]}
            alone = len(curve["step"]) == 1
            axes.plot(curve["step"], curve["raw"], lw=0.8, alpha=0.35, **look)
            axes.plot(
                curve["step"], curve["smooth"], marker="o" if alone else "", label=run, **look
            )
        axes.set(xlabel="step", ylabel=name)

    return svg(name, draw)


def trade_figure(
    name: str,
    points: Mapping[str, Sequence[tuple[float, float, str]]],
    labels: tuple[str, str],
    *,
    more_is_better: bool,
) -> str:
    """Quality against cost on a log axis, with a line through the points that no other point beats.

    Args:
        name: the name of the figure.
        points: series -> (cost or speed, quality, the point's label).
        labels: the labels of the two axes.
        more_is_better: True for a speed, False for a cost.

    Returns:
        An SVG element.
    """
    palette = (*_OTHERS, COLORS["trained"], COLORS["pretrained"], COLORS["bm25"])
    best = front([p[:2] for found in points.values() for p in found], more_is_better)

    def draw(axes):
        unnamed = set(best)
        for i, (series, found) in enumerate(points.items()):
            across, up, texts = zip(*found, strict=True)
            color = palette[i % len(palette)]
            axes.plot(across, up, lw=1, marker="o", ms=5, color=color, label=series)
            for x, y, text in zip(across, up, texts, strict=True):
                if (x, y) in unnamed:  # otherwise labels would overlap
                    unnamed.remove((x, y))
                    axes.annotate(text, (x, y), (-4, 6), textcoords="offset points", fontsize=8)
        axes.plot(*zip(*best, strict=True), color=TEXT, lw=5, alpha=0.15, zorder=1)
        axes.set_xscale("log")
        ticks = sorted({p[0] for found in points.values() for p in found})
        if len(ticks) > 6:
            ticks = [n * 10**power for power in range(8) for n in (1, 2, 5)]
            low, high = axes.get_xlim()
            ticks = [tick for tick in ticks if low <= tick <= high]
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.minorticks_off()
        axes.set(xlabel=labels[0], ylabel=labels[1])

    return svg(name, draw)


def scatter_figure(
    name: str, points: tuple[Sequence[float], Sequence[float]], labels: tuple[str, str]
) -> str:
    """Two scores of the same items against each other, with the line of equal scores.

    Args:
        name: the name of the figure.
        points: the scores on the x-axis and the y-axis.
        labels: the labels of the two axes.

    Returns:
        An SVG element.
    """

    def draw(axes):
        axes.plot(*points, ls="", marker="o", ms=3, alpha=0.4, color=COLORS["trained"])
        ends = [min(map(min, points)), max(map(max, points))]
        axes.plot(ends, ends, color=TEXT, lw=1, alpha=0.5, zorder=1)
        axes.set(xlabel=labels[0], ylabel=labels[1])

    return svg(name, draw)


def reliability_figure(name: str, curves: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Accuracy against confidence, one line per model; a calibrated model is on the diagonal.

    Args:
        name: the name of the figure.
        curves: model -> {"confidence", "accuracy", "counts"}, see `gemb.metrics.reliability`.

    Returns:
        An SVG element.
    """

    def draw(axes):
        axes.plot([0, 1], [0, 1], color=TEXT, lw=1, alpha=0.5, zorder=1)
        for color, (model, curve) in zip(_colors(curves), curves.items(), strict=True):
            sizes = 12 + 120 * np.sqrt(np.array(curve["counts"]) / sum(curve["counts"]))
            axes.plot(curve["confidence"], curve["accuracy"], lw=1.5, color=color, label=model)
            axes.scatter(curve["confidence"], curve["accuracy"], s=sizes, color=color, alpha=0.8)
        axes.set(xlabel="mean confidence", ylabel="share right", xlim=(0, 1.02), ylim=(0, 1.02))

    return svg(name, draw)


def front(points: Sequence[tuple[float, float]], more_is_better: bool) -> list[tuple[float, float]]:
    """The points that no other point beats in both coordinates (Pareto front), left to right.

    Args:
        points: (cost or speed, quality).
        more_is_better: True for a speed, False for a cost.

    Example:
        >>> front([(1, 0.5), (2, 0.4), (3, 0.9)], more_is_better=False)
        [(1, 0.5), (3, 0.9)]
    """
    cheapest_first = sorted(points, key=lambda p: (-p[0] if more_is_better else p[0], -p[1]))
    kept: list[tuple[float, float]] = []
    for point in cheapest_first:
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return sorted(kept)


def _colors(results: Curves) -> list[str]:
    others = iter(_OTHERS * len(results))
    return [COLORS.get(system) or next(others) for system in results]
