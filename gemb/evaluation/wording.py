"""Metrics and their figures as people read them in a report."""

_LABELS = {"ndcg": "nDCG", "mrr": "MRR", "queries_per_second": "queries/s"}


def figure_of(metric: str, value: float | None) -> str:
    """A figure as tables show it."""
    if value is None:
        return "\u2013"
    return f"{value:,.0f}" if metric.endswith("per_second") else f"{value:.3f}"


def label_of(metric: str) -> str:
    """A metric's name as people read it."""
    metric = metric.removeprefix("scann_")
    kind, _, cut = metric.partition("@")
    return _LABELS.get(kind, kind) + (f"@{cut}" if cut else "")
