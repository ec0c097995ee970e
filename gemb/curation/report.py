"""Reports of curation: results.json and a self-contained report.html.

Counts and samples come from the notes of chunks (`chunks.py`), so that a resumed run
reports the same as an uninterrupted one.
"""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

from gemb.files import atomic_file
from gemb.reports import html
from gemb.reports.svg import svg

RESULTS, REPORT = "results.json", "report.html"
EXAMPLES = 20
_SAMPLE = 200  # figures that a chunk leaves for the histograms
_TEXT = 400  # characters of a text that are shown
_HIGH = 0.9
_COLORS = ("#e08a1e", "#2f7de1", "#8a8f98")


def results(
    verb: str,
    settings: Mapping,
    counts: Mapping[str, int],
    rates: Mapping[str, float],
    *,
    advice: str = "look at the examples before you use the result",
    warnings: Sequence[str] = (),
) -> dict:
    """The content of results.json, with a warning for each rate above 90 %.

    Args:
        verb: the verb.
        settings: its settings.
        counts: name -> count.
        rates: shares that should not be near 1.
        advice: what to do if one is.
        warnings: further warnings.
    """
    high = [f"{name}: {rate:.1%}; {advice}" for name, rate in rates.items() if rate > _HIGH]
    return {
        "verb": verb,
        "settings": dict(settings),
        "counts": dict(counts),
        "rates": {name: round(rate, 6) for name, rate in rates.items()},
        "warnings": [*high, *warnings],
    }


def write(
    output: Path,
    results: Mapping,
    histograms: Mapping[str, Mapping[str, Sequence[float]]],
    examples: Sequence[Mapping],
) -> None:
    """Writes results.json and report.html into a folder.

    Args:
        output: the folder.
        results: as `results` gives them.
        histograms: caption -> series -> figures.
        examples: as `example` gives them.
    """
    with atomic_file(output / RESULTS) as temporary:
        text = json.dumps(results, indent=2, ensure_ascii=False, default=str)
        temporary.write_text(text + "\n", encoding="utf-8")
    parts = _sections(results, histograms, examples)
    html.write_page(output / REPORT, f"gemb {results['verb']}", "", parts)


def summary(results: Mapping) -> str:
    """Counts and warnings as lines for the terminal."""
    lines = [f"{count:>12,}  {name.replace('_', ' ')}" for name, count in results["counts"].items()]
    return "\n".join([*lines, *(f"warning: {text}" for text in results["warnings"])])


def total(notes: Sequence[Mapping]) -> dict[str, int]:
    """The sums of all chunks' "counts"."""
    return {name: sum(n["counts"][name] for n in notes) for name in notes[0]["counts"]}


def share(counts: Mapping[str, int], part: str, whole: str) -> float:
    """counts[part] / counts[whole]; 0 where there is nothing."""
    return counts[part] / counts[whole] if counts[whole] else 0.0


def sample(figures) -> list[float]:
    """An evenly spaced sample of figures, for JSON."""
    figures = np.asarray(figures, np.float64).ravel()
    return [round(float(figure), 5) for figure in figures[_places(len(figures), _SAMPLE)]]


def joined(notes: Sequence[Mapping], name: str) -> list:
    """Joins the lists of all chunks."""
    return [item for part in notes for item in part[name]]


def spread(items: Sequence) -> list:
    """Twenty of the items, evenly spaced."""
    return [items[place] for place in _places(len(items), EXAMPLES)]


def evenly(notes: Sequence[Mapping], name: str) -> list:
    """Twenty of all chunks' items, evenly spaced."""
    return spread(joined(notes, name))


def example(title: str, lines: Sequence[tuple[str, str]]) -> dict:
    """A text and labelled texts below it, each shortened."""
    return {"title": _cut(title), "lines": [[label, _cut(text)] for label, text in lines]}


def _places(count: int, wanted: int) -> list[int]:
    return [place * count // min(count, wanted) for place in range(min(count, wanted))]


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[:_TEXT] + " \u2026"


def _sections(results: Mapping, histograms: Mapping, examples: Sequence[Mapping]) -> list[str]:
    counts = {_words(name): f"{count:,}" for name, count in results["counts"].items()}
    rates = {_words(name): f"{rate:.2%}" for name, rate in results["rates"].items()}
    settings = {_words(name): value for name, value in results["settings"].items()}
    drawn = {
        caption: _histogram(caption, series)
        for caption, series in histograms.items()
        if any(len(figures) for figures in series.values())
    }
    warned = [html.section("Warning", text) for text in results["warnings"]]
    about = f"{len(examples)} examples, evenly spaced, not selected."
    return [
        *warned,
        html.section("Counts", "", html.definitions(counts)),
        html.section("Rates", "", html.definitions(rates)) if rates else "",
        html.section("Figures", "", html.figures(drawn)) if drawn else "",
        html.section("Settings", "", html.definitions(settings)),
        html.section("Examples", about, *map(_example, examples)) if examples else "",
    ]


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _example(shown: Mapping) -> str:
    lines = "".join(
        f'<p><span class="quiet">{escape(label)}</span> {escape(text)}</p>'
        for label, text in shown["lines"]
    )
    return f'<div class="example"><p><b>{escape(shown["title"])}</b></p>{lines}</div>'


def _histogram(caption: str, series: Mapping[str, Sequence[float]]) -> str:
    """Histograms over common bins, each of area 1 or, alone, of counts."""
    filled = {name: np.asarray(f, float) for name, f in series.items() if len(f)}
    bins = np.histogram_bin_edges(np.concatenate(list(filled.values())), bins=40)

    def draw(axes):
        for color, (name, figures) in zip(_COLORS, filled.items(), strict=False):
            style = {"color": color, "alpha": 0.55, "label": f"{name} ({len(figures):,} drawn)"}
            axes.hist(figures, bins=bins, density=len(filled) > 1, **style)
        axes.set(xlabel=caption.lower(), ylabel="density" if len(filled) > 1 else "count")

    return svg(caption, draw)
