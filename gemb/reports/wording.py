"""Formats metrics, figures and texts for reports."""

_SHOWN = 240  # characters of a text
_LABELS = {"ndcg": "nDCG", "mrr": "MRR", "queries_per_second": "queries/s"}


def figure_of(metric: str, value: float | None) -> str:
    """A figure as text for tables."""
    if value is None:
        return "\u2013"
    return f"{value:,.0f}" if metric.endswith("per_second") else f"{value:.3f}"


def label_of(metric: str) -> str:
    """A metric's name for people."""
    metric = metric.removeprefix("scann_")
    kind, _, cut = metric.partition("@")
    return _LABELS.get(kind, kind) + (f"@{cut}" if cut else "")


def shortened(text: str) -> str:
    """A text on one line, cut to 240 characters."""
    text = " ".join(str(text).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "\u2026"
