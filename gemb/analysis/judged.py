"""Judged queries with their vectors by two models."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gemb.analysis.pairs import read_pairs
from gemb.checks import UserError
from gemb.data.sources import beir


class Judged(NamedTuple):
    """Queries of a BEIR folder that both models have encoded.

    Attributes:
        queries: vectors by the old and the new model.
        qrels: for each query {row of a document: grade}.
        texts: of the queries.
    """

    queries: tuple[np.ndarray, np.ndarray]
    qrels: list[dict[int, int]]
    texts: list[str]


def read_judged(corpus: str, old_queries: str, new_queries: str, ids: Sequence) -> Judged:
    """Reads the judgements of a corpus for documents in the order of `ids`.

    Args:
        corpus: a BEIR folder.
        old_queries: vectors of its queries by the old model.
        new_queries: vectors by the new model.
        ids: of the documents' rows; a range stands for the corpus's own order.

    Raises:
        UserError: a missing or broken place, or no judged query among the vectors.
    """
    if not corpus or not new_queries:
        raise UserError("--old_queries needs --new_queries and the BEIR folder --corpus")
    data = beir.read_retrieval(corpus)
    found = read_pairs(old_queries, new_queries, all_ids=False)
    names = data.query_ids if isinstance(found.ids, range) else found.ids
    rows = {each: row for row, each in enumerate(names)}
    order = data.corpus_ids if isinstance(ids, range) else ids
    places = {each: row for row, each in enumerate(order)}
    kept = [number for number, each in enumerate(data.query_ids) if each in rows]
    qrels = [
        {
            places[data.corpus_ids[document]]: grade
            for document, grade in data.qrels[number].items()
            if data.corpus_ids[document] in places
        }
        for number in kept
    ]
    judged = [number for number, each in zip(kept, qrels, strict=True) if each]
    if not judged:
        raise UserError(f"{old_queries}: no query is judged in {corpus} for these documents")
    chosen = [rows[data.query_ids[number]] for number in judged]
    texts = [data.query_texts[number] for number in judged]
    vectors = found.old[chosen], found.new[chosen]
    return Judged(vectors, [each for each in qrels if each], texts)
