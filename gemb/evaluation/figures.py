"""Figures of the report as inline SVG that takes the page's colours, light or dark.

The only file here that draws. matplotlib is imported with the first figure, without pyplot, so that
no window system and no global state is touched.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

Curves = Mapping[str, Mapping[str, Mapping[str, float]]]  # system -> width -> metric -> figure

COLORS = {"trained": "#2f7de1", "pretrained": "#e08a1e", "bm25": "#8a8f98"}
_OTHERS = ("#2ba36b", "#b05bd6", "#d6485b", "#3aa6b9")
_STYLES = (("-", (0, (1, 1.5))), ((0, (4, 2)), (0, (4, 1.5, 1, 1.5))))  # curve, level; by metric
_TEXT, _GRID = "#010203", "#010204"  # stand for the page's own colours until the SVG is written
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.edgecolor": _GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _TEXT,
    "ytick.labelcolor": _TEXT,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "lines.linewidth": 2,
    "lines.markersize": 6,
}


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

    return _svg("loss", draw)


def curves_figure(
    results: Curves, metrics: Sequence[str], label: str, bottom: float | None = None
) -> str:
    """Metrics of every system against width, on a log2 axis; a system without widths is a line.

    Args:
        results: system -> width -> metric -> figure; a width that is no number ("text") gives a
            horizontal line.
        metrics: the metrics to draw, the first solid, the second dashed.
        label: what stands at the upright axis.
        bottom: where the upright axis starts; None for wherever the figures do.

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

    return _svg("-".join(metrics), draw)


def _colors(results: Curves) -> list[str]:
    others = iter(_OTHERS * len(results))
    return [COLORS.get(system) or next(others) for system in results]


def _svg(name: str, draw) -> str:
    """Draws axes and gives the bare SVG: no prolog, no metadata, no ids that clash in one page."""
    import io

    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        lines, labels = axes.get_legend_handles_labels()
        if len(lines) > 1:
            axes.legend(lines[::-1], labels[::-1], fontsize=9.5)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z.0-9]+_\d+"', "", svg)
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg role="img" aria-label="{name}" \1>', svg
    )
    svg = svg.replace("xlink:href", "href").replace(_TEXT, "currentColor")
    return svg.replace(_GRID, "var(--line)")
