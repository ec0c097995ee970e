"""Drawings for a page: matplotlib's axes as SVG in the page's colours, light or dark.

matplotlib is imported with the first drawing, without pyplot, so it needs no window system and
changes no global state.
"""

import functools
import html
import re
import sys

from gemb.checks import MissingExtra, needs

TEXT, GRID = (
    "#010203",
    "#010204",
)  # placeholders that the written SVG replaces by the page's colours
_STYLE = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "legend.frameon": False,
    "legend.handlelength": 2.8,
    "lines.linewidth": 2,
    "lines.markersize": 6,
}


def svg(name: str, draw) -> str:
    """Draws axes and returns the SVG without prolog, metadata and conflicting ids.

    Args:
        name: the description for screen readers.
        draw: called with matplotlib's axes; TEXT and GRID stand for the page's colours.

    Returns:
        The SVG; if matplotlib is missing, a paragraph that says what to install, so that the page
        still has its tables.
    """
    import io

    try:
        with needs("drawing", extra="eval"):
            import matplotlib
            from matplotlib.figure import Figure
    except MissingExtra as error:
        _say_once(f"the report has no plots: {error}")
        return f'<p class="quiet">{html.escape(str(error))}</p>'
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        lines, labels = axes.get_legend_handles_labels()
        if len(lines) > 1:  # a fixed place: matplotlib's search for a free one takes seconds
            figure.legend(lines, labels, fontsize=9.5, loc="outside lower center", ncols=3)
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z.0-9]+_\d+"', "", text)
    label = html.escape(name)
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>',
        lambda found: f'<svg role="img" aria-label="{label}" {found[1]}>',
        text,
    )
    text = text.replace("xlink:href", "href").replace(TEXT, "currentColor")
    return text.replace(GRID, "var(--line)")


@functools.cache
def _say_once(message: str) -> None:
    print(message, file=sys.stderr)
