"""Drift of a stream of vectors against a reference.

    Reference   fitted once on vectors of a good period; keeps its own thresholds
    Verdict     what `Reference.judge` says about a window: tests, topics, canaries, advice

`columns` compares feature columns, `concept` outcomes for the same inputs, `alerts` writes what
other programs read.
"""

from gemb.analysis.drift.alerts import json_line, prometheus
from gemb.analysis.drift.columns import judge_columns
from gemb.analysis.drift.concept import judge_outcomes
from gemb.analysis.drift.reference import Reference
from gemb.analysis.drift.verdict import Finding, Topic, Verdict, advice

__all__ = [
    "Finding",
    "Reference",
    "Topic",
    "Verdict",
    "advice",
    "json_line",
    "judge_columns",
    "judge_outcomes",
    "prometheus",
]
