"""Measures of rankings, scores, classes and vectors: pure numpy, no devices, files or printing."""

from gemb.metrics.classification import average_precision, best_accuracy, best_f1, macro_f1
from gemb.metrics.clustering import v_measure
from gemb.metrics.correlation import pearson, ranks, spearman
from gemb.metrics.ranking import (
    in_trec_order,
    mean_metrics,
    metric_names,
    retrieval_metrics,
    run_metrics,
)
from gemb.metrics.recommendation import (
    catalogue_metrics,
    part_recall,
    recommendation_metrics,
    top_items,
)
from gemb.metrics.reliability import reliability
from gemb.metrics.reranking import reranking_metrics
from gemb.metrics.significance import mean_interval, paired_bootstrap, paired_randomisation

__all__ = [
    "average_precision",
    "best_accuracy",
    "best_f1",
    "catalogue_metrics",
    "in_trec_order",
    "macro_f1",
    "mean_interval",
    "mean_metrics",
    "metric_names",
    "paired_bootstrap",
    "paired_randomisation",
    "part_recall",
    "pearson",
    "ranks",
    "recommendation_metrics",
    "reliability",
    "reranking_metrics",
    "retrieval_metrics",
    "run_metrics",
    "spearman",
    "top_items",
    "v_measure",
]
