"""What an embedding is worth: retrieval at every width, and the report that shows it.

Here belong tasks, their figures and their presentation. The measures themselves are gemb.metrics',
the indexes gemb.search's, and this package never encodes a text: it is handed vectors.
"""

from gemb.evaluation.examples import example_queries, top_hits
from gemb.evaluation.report import write_json, write_report
from gemb.evaluation.retrieval import evaluate_bm25, evaluate_vectors

__all__ = [
    "evaluate_bm25",
    "evaluate_vectors",
    "example_queries",
    "top_hits",
    "write_json",
    "write_report",
]
