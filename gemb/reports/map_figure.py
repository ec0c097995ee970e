"""A map as an SVG element: one mark per text; hovering over a mark shows its text."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

_WIDTH, _HEIGHT, _EDGE = 640, 440, 14
_COLORS = ("#2f7de1", "#e08a1e", "#2ba36b", "#b05bd6", "#d6485b", "#3aa6b9", "#8a8f98", "#a3801c")
_LEGEND = 8  # most groups in a legend; more groups share colours
MAPS = {
    "pca": "PCA: the two directions with the largest variance.",
    "tsne": "t-SNE: neighbours stay together; distances between groups have no meaning.",
    "umap": "UMAP: neighbours stay together; distances between groups have little meaning.",
}
HOVER = (
    "Hover over a mark to read its text. Lines connect queries with their answers, or sentences "
    "with their partners."
)


def map_figure(name: str, plane: Mapping[str, Any]) -> str:
    """Draws a map; the texts are shown without scripts.

    Args:
        name: the description for screen readers.
        plane: from `gemb.evaluation.maps.task_map`.

    Returns:
        An SVG element, with a legend below it if the groups are few.
    """
    places = _on_page(np.array(plane["places"], np.float64))
    groups = list(dict.fromkeys(plane["groups"]))
    color = {group: _COLORS[i % len(_COLORS)] for i, group in enumerate(groups)}
    lines = "".join(f'<path d="M{_at(places[a])}L{_at(places[b])}"/>' for a, b in plane["links"])
    # Queries are drawn over documents, because they are fewer.
    order = sorted(range(len(places)), key=lambda i: plane["groups"][i] == "query")
    marks = "".join(
        _mark(places[i], color[plane["groups"][i]], plane["groups"][i], plane["texts"][i])
        for i in order
    )
    svg = (
        f'<svg class="map" role="img" aria-label="{escape(name)}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}"><g stroke="var(--line)" fill="none">{lines}</g>'
        f"{marks}</svg>"
    )
    return svg + _legend(color)


def _mark(place: np.ndarray, color: str, group: str, text: str) -> str:
    title = f"<title>{escape(group)}: {escape(text)}</title>"
    if group == "query":
        shape = f'd="M{_at(place - [0, 5])}l5 9h-10z"'
        return f'<path {shape} fill="{color}">{title}</path>'
    x, y = place
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}">{title}</circle>'


def _legend(color: Mapping[str, str]) -> str:
    if len(color) > _LEGEND:
        return f'<p class="legend">{len(color)} groups; some share a colour.</p>'
    named = (f'<span><i style="color:{c}">\u25cf</i> {escape(g)}</span>' for g, c in color.items())
    return f'<p class="legend">{"".join(named)}</p>'


def _on_page(places: np.ndarray) -> np.ndarray:
    """Scales points into the picture, both coordinates by the same factor."""
    low, high = places.min(axis=0), places.max(axis=0)
    size = np.array([_WIDTH, _HEIGHT], np.float64)
    scale = ((size - 2 * _EDGE) / np.maximum(high - low, 1e-12)).min()
    return size / 2 + (places - (low + high) / 2) * scale * [1, -1]


def _at(place: np.ndarray) -> str:
    return f"{place[0]:.1f} {place[1]:.1f}"
