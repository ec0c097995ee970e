"""Measures of rankings and vectors: pure numpy, no devices, no files, no printing."""

from gemb.metrics.ranking import mean_metrics, metric_names, retrieval_metrics, run_metrics

__all__ = ["mean_metrics", "metric_names", "retrieval_metrics", "run_metrics"]
