"""What an embedding is worth: models over tasks at every width, and runs over their test sets.

The `evaluate_...` functions of one task type take vectors; `evaluate_model` and `evaluate_tasks`
take a model, which encodes the texts of the tasks that `read_tasks` found on disk; `MtebEncoder`
passes a model to mteb. The measures themselves are in `gemb.metrics`, the indexes in `gemb.search`,
the pages in `gemb.reports`.
"""

from gemb.evaluation.examples import example_queries, top_hits
from gemb.evaluation.models import evaluate_tasks
from gemb.evaluation.mteb import MtebEncoder
from gemb.evaluation.precision import evaluate_precisions
from gemb.evaluation.searcher_figures import evaluate_bm25, evaluate_vectors
from gemb.evaluation.suite import evaluate_model, summary
from gemb.evaluation.tasks import EvaluationTask, TaskType, read_tasks
from gemb.evaluation.tasks.bitext import evaluate_bitext
from gemb.evaluation.tasks.classification import evaluate_classification
from gemb.evaluation.tasks.clustering import evaluate_clustering
from gemb.evaluation.tasks.pair_classification import evaluate_pairs
from gemb.evaluation.tasks.reranking import evaluate_reranking
from gemb.evaluation.tasks.sts import evaluate_similarity

__all__ = [
    "EvaluationTask",
    "MtebEncoder",
    "TaskType",
    "evaluate_bitext",
    "evaluate_bm25",
    "evaluate_classification",
    "evaluate_clustering",
    "evaluate_model",
    "evaluate_pairs",
    "evaluate_precisions",
    "evaluate_reranking",
    "evaluate_similarity",
    "evaluate_tasks",
    "evaluate_vectors",
    "example_queries",
    "read_tasks",
    "summary",
    "top_hits",
]
