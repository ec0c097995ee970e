"""The page of a stream of windows: each test over time, topics that grew, canaries, advice.

Its input is the history that `gemb.analysis.drift.windows` keeps.
"""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gemb.reports import html
from gemb.reports.svg import TEXT, svg

_COLORS = ("#2f7de1", "#e08a1e", "#2ba36b", "#b05bd6", "#d6485b", "#3aa6b9")
_FINDS = {
    "mmd": "any change of the distribution",
    "mean shift": "a move of all texts, as by a lost prompt",
    "directions": "the growth of one or a few small topics",
    "topics": "other shares of the large topics",
    "far share": "texts unlike all that the reference knows",
    "frechet": "another spread of the texts",
}
_STATES = {0: "no drift", 3: "drift", 4: "canaries broken"}


def write_drift_page(path: str | Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Writes a self-contained HTML page; an existing file is replaced in one step.

    Args:
        path: the file to write.
        history: verdicts as JSON values, each with "window" and "time" (seconds since 1970).

    Raises:
        UserError: the file cannot be written.
    """
    rows = sorted(history, key=lambda row: row["time"])
    last = rows[-1]
    shown = [
        (_STATES[last["status"]], "last window", Path(last["window"]).name),
        (f"{last['p']:.4f}", "smallest adjusted p", f"alarm below {last['alpha']}"),
        (f"{last['rows']:,}", "rows", _when(last["time"])),
    ]
    if last["canaries"]:
        cosine, _, below, count = last["canaries"]
        shown.append((f"{cosine:.5f}", "least cosine of canaries", f"{below} of {count} changed"))
    parts = [html.tiles(shown), _over_time(rows), _last(last), _topics(rows), _windows(rows)]
    html.write_page(path, "gemb: drift", last["advice"], parts)


def _over_time(rows: Sequence[Mapping[str, Any]]) -> str:
    def draw(axes):
        times = [datetime.datetime.fromtimestamp(row["time"], datetime.UTC) for row in rows]
        for color, name in zip(_COLORS, rows[0]["tests"], strict=False):
            values = [row["tests"][name] for row in rows]
            ratios = [v["value"] / v["threshold"] if v["threshold"] > 0 else 0 for v in values]
            axes.plot(times, ratios, marker="o", ms=4, color=color, label=name)
        axes.axhline(1, color=TEXT, lw=1, alpha=0.5)
        axes.set(xlabel="time of the window (UTC)", ylabel="statistic / its threshold")
        axes.figure.autofmt_xdate()

    about = (
        "Above 1 a test alone is beyond its threshold for windows of that size. A verdict also "
        "needs the adjusted p below alpha and an effect above that of 2 % of a topic."
    )
    drawn = html.figures({"Tests over time": svg("drift", draw)})
    return html.section("Over time", about, drawn)


def _last(row: Mapping[str, Any]) -> str:
    head = ["test", "finds", "verdict", "value", "threshold", "adjusted p", "effect", "gate"]
    cells = [
        [
            name,
            _FINDS.get(name, ""),
            "drift" if found["drifted"] else "\u2013",
            *(f"{found[key]:.3g}" for key in ("value", "threshold")),
            f"{found['p']:.4f}",
            *(f"{found[key]:.3g}" for key in ("effect", "gate")),
        ]
        for name, found in row["tests"].items()
    ]
    return html.section("Tests of the last window", "", html.table(head, cells, texts=3))


def _topics(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            Path(row["window"]).name,
            f"{topic['cluster']}: {', '.join(topic['words'])}",
            " | ".join(topic["texts"][:3]),
            f"{topic['share_before']:.1%}",
            f"{topic['share_now']:.1%}",
        ]
        for row in rows[-10:]
        for topic in row["topics"]
    ]
    head = ["window", "topic", "texts, farthest from the reference first", "before", "now"]
    about = "Clusters of the reference whose share grew by more than three standard errors."
    table = html.table(head, cells, texts=3) if cells else "<p>None grew.</p>"
    return html.section("Topics that grew", about, table)


def _windows(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        [
            _when(row["time"]),
            Path(row["window"]).name,
            _STATES[row["status"]],
            row["advice"],
            f"{row['rows']:,}",
            f"{row['p']:.4f}",
            f"{row['foreign']:.1%}",
        ]
        for row in reversed(rows)
    ]
    head = ["time (UTC)", "window", "state", "advice", "rows", "p", "other models"]
    return html.section("Windows", "", html.table(head, cells, texts=4))


def _when(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M")
