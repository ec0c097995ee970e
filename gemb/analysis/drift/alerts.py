"""What other programs read of a verdict: a JSON line, and Prometheus' text format."""

import json

from gemb.analysis.drift.verdict import Verdict, advice


def json_line(verdict: Verdict, **more) -> str:
    """One line of JSON with the whole verdict.

    Args:
        verdict: to write.
        **more: further values, such as the window's name and time.
    """
    return json.dumps(more | verdict.tree(), default=lambda value: value.tolist())


def one_line(verdict: Verdict) -> str:
    """One line for a terminal: the state, the tests that alarm, and the advice."""
    state = "canaries broken" if verdict.broken else "drift" if verdict.drifted else "no drift"
    found = [name for name, finding in verdict.tests.items() if finding.drifted]
    why = f" ({', '.join(found)})" if found else ""
    return f"{state}{why}, p {verdict.p:.4f}, {verdict.rows} rows; {advice(verdict)}"


def prometheus(verdict: Verdict) -> str:
    """Prometheus' text format, for a node exporter's textfile collector.

    Labels name tests only, never rows or texts.
    """
    lines = [
        "# HELP gemb_drift Whether the last window drifted.",
        "# TYPE gemb_drift gauge",
        f"gemb_drift {int(verdict.drifted)}",
        "# HELP gemb_drift_window_rows Rows of the last window.",
        "# TYPE gemb_drift_window_rows gauge",
        f"gemb_drift_window_rows {verdict.rows}",
        "# HELP gemb_drift_foreign_share Share of rows by other models than the reference's.",
        "# TYPE gemb_drift_foreign_share gauge",
        f"gemb_drift_foreign_share {verdict.foreign!r}",
    ]
    if verdict.canaries is not None:
        lines += [
            "# HELP gemb_canary_cosine Least cosine of the canaries.",
            "# TYPE gemb_canary_cosine gauge",
            f"gemb_canary_cosine {verdict.canaries.cosine!r}",
        ]
    for field, about in (
        ("p", "Adjusted p of each test."),
        ("value", "Statistic of each test."),
        ("threshold", "Its threshold for windows of this size."),
    ):
        lines += [f"# HELP gemb_drift_{field} {about}", f"# TYPE gemb_drift_{field} gauge"]
        for name, finding in verdict.tests.items():
            lines.append(f'gemb_drift_{field}{{test="{name}"}} {getattr(finding, field)!r}')
    return "\n".join(lines) + "\n"
