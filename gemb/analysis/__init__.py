"""Analyses of models beyond task figures: reduction, retention, adaptive classification.

Functions take models, vectors or the result trees of `gemb.evaluation`; their report pages are
in `gemb.reports`.
"""

from gemb.analysis.adaptive import evaluate_adaptive
from gemb.analysis.reduction import reduced, with_reductions
from gemb.analysis.retention import measure_retention

__all__ = ["evaluate_adaptive", "measure_retention", "reduced", "with_reductions"]
