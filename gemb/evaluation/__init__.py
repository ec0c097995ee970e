"""What an embedding is worth: tasks at every width, and the reports that show it.

Here belong tasks, their figures and their presentation. The measures themselves are gemb.metrics',
the indexes gemb.search's. The `evaluate_...` functions named here are handed vectors; `suite` has a
model encode the texts of the tasks that `tasks` finds on disk, and `MtebEncoder` hands a model to
mteb.
"""

from gemb.evaluation.bitext import evaluate_bitext
from gemb.evaluation.classify import evaluate_classification
from gemb.evaluation.cluster import evaluate_clustering
from gemb.evaluation.examples import example_queries, top_hits
from gemb.evaluation.mteb import MtebEncoder
from gemb.evaluation.pair_classification import evaluate_pairs
from gemb.evaluation.precision import evaluate_precisions
from gemb.evaluation.report import write_json, write_report
from gemb.evaluation.rerank import evaluate_reranking
from gemb.evaluation.retrieval import evaluate_bm25, evaluate_vectors
from gemb.evaluation.similarity import evaluate_similarity
from gemb.evaluation.suite import evaluate_model, summary
from gemb.evaluation.suite_report import write_suite_report
from gemb.evaluation.tasks import Task, read_tasks

__all__ = [
    "MtebEncoder",
    "Task",
    "evaluate_bitext",
    "evaluate_bm25",
    "evaluate_classification",
    "evaluate_clustering",
    "evaluate_model",
    "evaluate_pairs",
    "evaluate_precisions",
    "evaluate_reranking",
    "evaluate_similarity",
    "evaluate_vectors",
    "example_queries",
    "read_tasks",
    "summary",
    "top_hits",
    "write_json",
    "write_report",
    "write_suite_report",
]
