"""What curation did, to be read: results.json and a report.html that needs nothing else.

Counts and samples come from the notes of chunks (`chunks.py`), so that a run that was killed
reports as one that was not.
"""

import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gemb.cache import atomic_file

RESULTS, REPORT = "results.json", "report.html"
EXAMPLES = 20
_SAMPLE = 200  # figures that a chunk leaves for the histograms
_TEXT = 400  # characters of a text that are shown
_HIGH = 0.9
_COLORS = ("#e08a1e", "#2f7de1", "#8a8f98")
_CSS = """
:root { color-scheme: light dark; } body { margin: 0 auto; max-width: 980px; padding: 32px 24px;
  font: 16px/1.5 system-ui, sans-serif; } h1 { font-size: 28px; } h2 { font-size: 19px; }
svg { width: 100%; max-width: 720px; height: auto; display: block; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 24px; }
dt, .label { opacity: .65; } dd { margin: 0; overflow-wrap: anywhere; }
.warning { border-left: 4px solid #b3324a; padding: 4px 12px; }
.example { border-top: 1px solid #8886; padding: 10px 0; overflow-wrap: anywhere; }
.example p { margin: 2px 0; white-space: pre-wrap; } .label { font-size: 13px; }
"""


def results(
    verb: str,
    settings: Mapping,
    counts: Mapping[str, int],
    rates: Mapping[str, float],
    *,
    advice: str = "look at the examples before you use the result",
    warnings: Sequence[str] = (),
) -> dict:
    """The content of results.json; a rate above 90 % is warned of.

    Args:
        verb: what was done.
        settings: with what.
        counts: how many of what.
        rates: shares that should not be near 1.
        advice: what to do about one that is.
        warnings: others.
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
    with atomic_file(output / REPORT) as temporary:
        temporary.write_text(_page(results, histograms, examples), encoding="utf-8")


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
    """Some of many figures, evenly spaced, as JSON holds them."""
    figures = np.asarray(figures, np.float64).ravel()
    return [round(float(figure), 5) for figure in figures[_places(len(figures), _SAMPLE)]]


def joined(notes: Sequence[Mapping], name: str) -> list:
    """One list of all chunks' lists."""
    return [item for part in notes for item in part[name]]


def spread(items: Sequence) -> list:
    """Twenty of the items, evenly spaced."""
    return [items[place] for place in _places(len(items), EXAMPLES)]


def evenly(notes: Sequence[Mapping], name: str) -> list:
    """Twenty of all chunks' items, evenly spaced."""
    return spread(joined(notes, name))


def example(title: str, lines: Sequence[tuple[str, str]]) -> dict:
    """A text and labelled texts below it, each cut to be read."""
    return {"title": _cut(title), "lines": [[label, _cut(text)] for label, text in lines]}


def _places(count: int, wanted: int) -> list[int]:
    return [place * count // min(count, wanted) for place in range(min(count, wanted))]


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else text[:_TEXT] + " \u2026"


def _page(results: Mapping, histograms: Mapping, examples: Sequence[Mapping]) -> str:
    title = f"gemb {results['verb']}"
    parts = [f'<p class="warning">{_escape(text)}</p>' for text in results["warnings"]]
    parts.append(_definitions("Counts", {k: f"{v:,}" for k, v in results["counts"].items()}))
    parts.append(_definitions("Rates", {k: f"{v:.2%}" for k, v in results["rates"].items()}))
    for caption, series in histograms.items():
        if any(len(figures) for figures in series.values()):
            parts.append(f"<h2>{_escape(caption)}</h2>{_histogram(caption, series)}")
    parts.append(_definitions("Settings", results["settings"]))
    if examples:
        parts.append(f"<h2>Examples</h2><p>{len(examples)}, evenly spaced, not picked.</p>")
        parts += [_example(shown) for shown in examples]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{_CSS}</style></head>\n'
        f"<body><h1>{title}</h1>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _definitions(title: str, values: Mapping) -> str:
    rows = (
        f"<dt>{_escape(str(k).replace('_', ' '))}</dt><dd>{_escape(v)}</dd>"
        for k, v in values.items()
    )
    return f"<h2>{title}</h2><dl>{''.join(rows)}</dl>" if values else ""


def _example(shown: Mapping) -> str:
    lines = "".join(
        f'<p><span class="label">{_escape(label)}</span> {_escape(text)}</p>'
        for label, text in shown["lines"]
    )
    return f'<div class="example"><p><b>{_escape(shown["title"])}</b></p>{lines}</div>'


def _histogram(caption: str, series: Mapping[str, Sequence[float]]) -> str:
    """An SVG of histograms over common bins, each of area 1 or, alone, of counts."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": caption}):
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        axes = figure.add_subplot()
        filled = {name: np.asarray(f, float) for name, f in series.items() if len(f)}
        bins = np.histogram_bin_edges(np.concatenate(list(filled.values())), bins=40)
        for color, (name, figures) in zip(_COLORS, filled.items(), strict=False):
            style = {"color": color, "alpha": 0.55, "label": f"{name} ({len(figures):,} drawn)"}
            axes.hist(figures, bins=bins, density=len(filled) > 1, **style)
        axes.legend(frameon=False, fontsize=9)
        axes.set(xlabel=caption.lower(), ylabel="density" if len(filled) > 1 else "count")
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    svg = written.getvalue()
    return re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)


def _escape(value) -> str:
    return html.escape(str(value))
