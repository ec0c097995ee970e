"""Scores of given (query, document) pairs: by vectors, or by a cross-encoder."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import scipy.special

from gemb.inference.cross_encoder import CrossEncoder

_ROWS = 1 << 14  # pairs whose vectors are gathered at a time


class Rescorer(Protocol):
    """Scores given pairs; its scores replace those of the search.

    Attributes:
        fingerprint: changes whenever the scores would change.
    """

    fingerprint: str

    def scores(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """[pairs] float32 scores of queries and documents by number, both [pairs]."""


class VectorScores:
    """Inner products.

    Args:
        query_vectors: [queries, dim] floats.
        document_vectors: [documents, dim] floats.
        fingerprint: of the model.
    """

    def __init__(self, query_vectors, document_vectors, fingerprint: str = ""):
        self._queries, self._documents = query_vectors, document_vectors
        self.fingerprint = fingerprint

    def scores(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        made = np.empty(len(queries), np.float32)
        for start in range(0, len(queries), _ROWS):
            part = slice(start, start + _ROWS)
            left = np.asarray(self._queries[queries[part]], np.float32)
            right = np.asarray(self._documents[documents[part]], np.float32)
            made[part] = np.einsum("nd,nd->n", left, right)
        return made


class CrossScores:
    """A cross-encoder's probabilities that a document answers a query.

    Args:
        encoder: the model.
        queries: texts by number.
        documents: texts by number.
    """

    def __init__(self, encoder: CrossEncoder, queries: Sequence[str], documents: Sequence[str]):
        self._encoder, self._queries, self._documents = encoder, queries, documents
        self.fingerprint = encoder.fingerprint

    def scores(self, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
        pairs = zip(queries, documents, strict=True)
        texts = [(self._queries[int(q)], self._documents[int(d)]) for q, d in pairs]
        return scipy.special.expit(self._encoder.scores(texts))
