"""The hits of each pair's query with its known answers, for mining and filtering."""

from pathlib import Path

import numpy as np

from gemb.curation import nearest
from gemb.curation.candidates import Sorted, sort_hits
from gemb.curation.tables import Documents, PairTable
from gemb.data.sources.records import digest
from gemb.search import Hits, Searcher

_MOST_KNOWN = 1_000  # extra hits for known answers; queries with more of them get fewer other hits


class Retrieval:
    """The documents nearest to the pairs' queries, with known answers marked.

    Args:
        pairs: the pairs.
        documents: what is searched.
        query_vectors: [queries, dim], of `pairs.queries`.
        document_vectors: [documents, dim], of `documents`.
        ranks: how many documents to find in addition to known answers.
        search: "exact", "scann" or "auto", see `nearest.searcher`.
        work: the folder where an index is saved.
        model: the fingerprint of the vectors' model.

    Attributes:
        fingerprint: fingerprint of the model, the documents and the precision of their vectors.

    Raises:
        UserError: unusable vectors.
    """

    def __init__(
        self,
        pairs: PairTable,
        documents: Documents,
        query_vectors: np.ndarray,
        document_vectors: np.ndarray,
        *,
        ranks: int,
        search: str,
        work: Path,
        model: str,
    ):
        self.fingerprint = digest(model, documents.fingerprint, str(document_vectors.dtype))
        self._pairs, self._documents, self._vectors = pairs, documents, query_vectors
        self._known = _KnownAnswers(pairs, documents)
        self._depth = min(ranks + self._known.most, len(documents))
        self._searcher = nearest.searcher(
            document_vectors,
            search,
            work,
            key=self.fingerprint[:16],
            k=self._depth,
            sample=query_vectors,
        )

    def hits(self, start: int, stop: int) -> tuple[Hits, Sorted]:
        """For pairs start to stop: [pairs, depth] hits, and the kind of each hit."""
        queries = self._pairs.query_of[start:stop]
        hits = search_queries(self._searcher, self._vectors, queries, self._depth)
        known = [self._known[query] for query in queries]
        return hits, sort_hits(hits, self._documents.keys, known)


class _KnownAnswers:
    """The texts that cannot be negatives of a query: all its answers, and the query itself.

    Attributes:
        most: the largest number of documents that are known answers of one query.
    """

    def __init__(self, pairs: PairTable, documents: Documents):
        self._pairs = pairs
        self._starts, self._keys = documents.known_answers()
        found, counts = np.unique(documents.keys, return_counts=True)
        place = np.minimum(np.searchsorted(found, self._keys), len(found) - 1)
        copies = np.where(found[place] == self._keys, counts[place], 0)
        of_query = np.diff(np.concatenate([[0], np.cumsum(copies)])[self._starts])
        self.most = int(min(of_query.max() + 1, _MOST_KNOWN))

    def __getitem__(self, query: int) -> np.ndarray:
        own = self._keys[self._starts[query] : self._starts[query + 1]]
        return np.append(own, self._pairs.query_keys[query])


def search_queries(
    searcher: Searcher, vectors: np.ndarray, queries: np.ndarray, depth: int
) -> Hits:
    """Hits of queries by number, [queries, depth]; a repeated query is searched once."""
    distinct, number = np.unique(queries, return_inverse=True)
    hits = searcher.search(np.asarray(vectors[distinct], np.float32), depth)
    return Hits(hits.scores[number], hits.indices[number])
