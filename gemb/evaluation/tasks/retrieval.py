"""Retrieval as one task among others: a BEIR folder, exact search, figures of quality alone.

Equal scores are ranked as trec_eval ranks them, by the higher document id.
`gemb.evaluation.searcher_figures` measures the speed of search, and ScaNN.
"""

from collections.abc import Mapping

import numpy as np

from gemb import metrics, search
from gemb.checks import UserError
from gemb.data.sources import beir
from gemb.evaluation.searcher_figures import DEPTH
from gemb.evaluation.tasks.task_type import Data, Measured, Source, TaskType, every_row


def _read(source: Source) -> Data:
    folder = source.files["folder"]
    found = beir.read_retrieval(folder, source.split)
    # A query for which nothing is relevant has no figure, whatever is found.
    rows = [i for i, grades in enumerate(found.qrels) if any(g > 0 for g in grades.values())]
    if not rows:
        raise UserError(f"{folder}: no query of the split {source.split!r} has a relevant document")
    place = {name: number for number, name in enumerate(found.corpus_ids)}
    own = [place.get(name, -1) for name in found.query_ids]
    return {
        "documents": found.corpus_texts,
        "ids": found.corpus_ids,
        "queries": [found.query_texts[row] for row in rows],
        "qrels": [found.qrels[row] for row in rows],
        "own": [-1 if own[row] in found.qrels[row] else own[row] for row in rows],
    }


def _measure(vectors: Mapping[str, np.ndarray], data: Data) -> Measured:
    order, _ = metrics.in_trec_order(data["ids"], ())
    hits = search.ExactSearcher(vectors["documents"][order]).search(vectors["queries"], DEPTH + 1)
    found = np.where(hits.indices >= 0, order[hits.indices], -1)
    # A query that is itself a document does not find itself (BEIR's ignore_identical_ids).
    itself = found == np.array(data["own"])[:, None]
    last = np.argsort(itself, axis=1, kind="stable")[:, :DEPTH]
    values = metrics.retrieval_metrics(np.take_along_axis(found, last, 1), data["qrels"])
    means = metrics.mean_metrics(values, data["qrels"])
    return Measured({name: means[name] for name in values}, values)


TASK_TYPE = TaskType(
    mains=("ndcg@10", "recall@10", "recall@100", "mrr@10"),
    files=("folder",),
    columns={},
    read=_read,
    texts=lambda data: {
        "queries": (data["queries"], "query"),
        "documents": (data["documents"], "document"),
    },
    measure=_measure,
    sample=lambda data, limit: every_row(data, limit, ("queries", "qrels", "own")),
)
