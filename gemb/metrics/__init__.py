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
from gemb.metrics.reliability import reliability
from gemb.metrics.reranking import reranking_metrics
from gemb.metrics.significance import mean_interval, paired_bootstrap, paired_randomisation

__all__ = [
    "average_precision",
    "best_accuracy",
    "best_f1",
    "in_trec_order",
    "macro_f1",
    "mean_interval",
    "mean_metrics",
    "metric_names",
    "paired_bootstrap",
    "paired_randomisation",
    "pearson",
    "ranks",
    "reliability",
    "reranking_metrics",
    "retrieval_metrics",
    "run_metrics",
    "spearman",
    "v_measure",
]
