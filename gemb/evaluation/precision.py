"""What a vector of fewer bits and fewer coordinates still finds, and what it costs."""

from collections.abc import Mapping, Sequence

import numpy as np
from tqdm import tqdm

from gemb import checks, metrics, search
from gemb.evaluation.searcher_figures import measure
from gemb.metrics.similarity import prepared
from gemb.search.quantized import PRECISIONS

RESCORED = 10  # candidates for each of the 100 documents ranked, scored again in float32


def evaluate_precisions(
    query_vectors: np.ndarray,
    document_vectors: np.ndarray,
    qrels: Sequence[Mapping[int, int]],
    *,
    widths: Sequence[int],
    similarity: str = "cosine",
    ids: Sequence[str] = (),
) -> list[dict]:
    """Measures retrieval at each width in float32, bfloat16, int8 and binary.

    Args:
        query_vectors: [queries, dim] floats.
        document_vectors: [documents, dim] floats.
        qrels: for each query, document index -> grade.
        widths: coordinates to keep.
        similarity, ids: as for `gemb.evaluation.evaluate_vectors`.

    Returns:
        Rows of "width", "precision", "rescored" (whether the first hits were scored again in
        float32, which then must be stored as well), "bytes" per vector that the search reads, and
        "ndcg@10", "recall@10", "recall@100", "mrr@10", "queries_per_second" as
        `gemb.evaluation.evaluate_vectors` gives them; widest first.

    Raises:
        ValueError: as `gemb.evaluation.evaluate_vectors`.
    """
    rows = []
    if ids:
        order, qrels = metrics.in_trec_order(ids, qrels)
        document_vectors = document_vectors[order]
    widths = checks.check_widths("widths", widths, document_vectors.shape[1])
    for width in tqdm(widths, desc="precisions", unit="width", leave=False):
        queries = prepared(query_vectors, width, similarity, "query_vectors")
        documents = prepared(document_vectors, width, similarity, "document_vectors")
        for precision, rescore in _forms():
            if precision == "float32":
                searcher, size = search.ExactSearcher(documents), 4 * width
            else:
                searcher = search.QuantizedSearcher(documents, precision=precision, rescore=rescore)
                size = searcher.bytes_per_vector
            _, figures = measure(searcher, queries, qrels, passes=1)
            figures.pop("queries")
            about = {"width": width, "precision": precision, "rescored": rescore > 0}
            rows.append(about | {"bytes": size} | figures)
    return rows


def _forms():
    yield "float32", 0
    for precision in PRECISIONS:
        yield precision, 0
    yield "int8", RESCORED
    yield "binary", RESCORED
