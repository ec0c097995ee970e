"""Pairs and documents by number, and which of them have the same text.

Texts stay on disk; in memory are 64-bit keys of the normalised texts (`duplicates/texts.py`).
"""

from array import array
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from gemb.checks import UserError
from gemb.curation.duplicates.texts import text_key
from gemb.data.preprocess.texts import texts_of, titled_text
from gemb.data.sources.records import Records, digest

_LONG = 20_000  # records from which reading shows a progress bar


class Texts:
    """Texts by number, read from disk.

    Args:
        count: how many.
        read: number -> text.
    """

    def __init__(self, count: int, read):
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> str:
        return self._read(row)


class PairTable:
    """Pairs by number, and which texts they are of.

    Args:
        records: pairs; a document may be a list of texts, all of them positives.
        query: the column of the query.
        document: the column of the document.

    Attributes:
        query_of: [pairs] the number of each pair's query among the distinct ones.
        starts: [pairs + 1] where each pair's documents start in `document_keys`.
        document_keys: uint64, of all pairs' documents end to end.
        query_keys: [queries] uint64, of the distinct queries, in order of first occurrence.
    """

    def __init__(self, records: Records, query: str = "query", document: str = "document"):
        self.records, self.query, self.document = records, query, document
        asked, counts, keys = array("Q"), array("q", [0]), array("Q")
        for row in tqdm(range(len(records)), "read pairs", disable=len(records) < _LONG):
            record = records[row]
            asked.append(text_key(record[query]))
            texts = texts_of(record, document)
            keys.extend(map(text_key, texts))
            counts.append(len(texts))
        self.starts = np.cumsum(np.frombuffer(counts, np.int64))
        self.document_keys = np.frombuffer(keys, np.uint64)
        self.query_keys, self._first, self.query_of = distinct(np.frombuffer(asked, np.uint64))
        self.fingerprint = digest(records.fingerprint, query, document)

    def __len__(self) -> int:
        return len(self.records)

    def documents(self, pair: int) -> list[str]:
        """The texts of a pair's documents."""
        return texts_of(self.records[pair], self.document)

    def pairs_of(self, places: np.ndarray) -> np.ndarray:
        """The pairs that places in `document_keys` belong to."""
        return np.searchsorted(self.starts, places, side="right") - 1

    @property
    def queries(self) -> Sequence[str]:
        """The distinct queries' texts."""
        first, name = self._first, self.query
        return Texts(len(first), lambda row: self.records[int(first[row])][name])


class Documents:
    """The documents to search: a corpus, if given, and the pairs' documents that it lacks.

    Args:
        pairs: whose documents belong to it; one text once.
        corpus: more documents, see `inputs.read_corpus`; each of its records stays one document.

    Attributes:
        keys: [documents] uint64 of their texts.
        row_of: [pairs' documents] the first document with each text.
        bad: records of the corpus that were left out.
        fingerprint: of the content.
    """

    def __init__(self, pairs: PairTable, corpus: Records | None = None):
        self._pairs, self._corpus = pairs, corpus
        self.bad = corpus.counts["bad"] if corpus else 0
        known = np.frombuffer(self._read_corpus(), np.uint64)
        found, first, _ = distinct(pairs.document_keys)
        lacking = ~np.isin(found, known)
        self._added = first[lacking]
        self.keys = np.concatenate([known, found[lacking]])
        order = np.argsort(self.keys, kind="stable")
        place = np.searchsorted(self.keys[order], pairs.document_keys)
        self.row_of = order[place]
        self.fingerprint = digest(pairs.fingerprint, corpus.fingerprint if corpus else "")

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, row: int) -> str:
        """The text of a document."""
        inside = row - (len(self.keys) - len(self._added))
        if inside < 0:
            return titled_text(self._corpus[row])
        place = int(self._added[inside])
        pair = int(self._pairs.pairs_of(np.array([place]))[0])
        return self._pairs.documents(pair)[place - int(self._pairs.starts[pair])]

    def id(self, row: int) -> str | None:
        """The _id of a document; None where it has none."""
        return self._ids[row] if row < len(self._ids) else None

    def known_answers(self) -> tuple[np.ndarray, np.ndarray]:
        """The texts that answer each query in some pair, or that a pair names by `document_id`.

        Returns:
            starts [queries + 1], and keys uint64; those of query i stand from starts[i] on.

        Raises:
            UserError: a document_id that the corpus does not have.
        """
        pairs = self._pairs
        owner = np.repeat(pairs.query_of, np.diff(pairs.starts))
        named = self._named() if self._rows_by_id else []
        owners = np.concatenate([owner, np.array([q for q, _ in named], np.int64)])
        keys = np.concatenate([pairs.document_keys, np.array([k for _, k in named], np.uint64)])
        order = np.argsort(owners, kind="stable")
        starts = np.searchsorted(owners[order], np.arange(len(pairs.query_keys) + 1))
        return starts, keys[order]

    def _named(self) -> list[tuple[int, int]]:
        """(query, key of a document) for every document_id."""
        rows, found = self._rows_by_id, []
        for pair in range(len(self._pairs)):
            names = self._pairs.records[pair].get("document_id")
            names = [] if names is None else names
            for name in names if isinstance(names, list | tuple) else [names]:
                if str(name) not in rows:
                    where = self._pairs.records.where(pair)
                    raise UserError(f"{where}: no document has the _id {str(name)!r}")
                found.append((int(self._pairs.query_of[pair]), self.keys[rows[str(name)]]))
        return found

    def _read_corpus(self) -> array:
        """The keys of the corpus's texts; its ids on the way."""
        size, seen, keys = len(self._corpus) if self._corpus else 0, {}, array("Q")
        for row in tqdm(range(size), "read documents", disable=size < _LONG):
            record = self._corpus[row]
            keys.append(text_key(titled_text(record)))
            if "_id" not in record:
                continue
            name = str(record["_id"])
            if name in seen:
                first = self._corpus.where(seen[name])
                where = self._corpus.where(row)
                raise UserError(f"{where}: the _id {name!r} occurs twice, first in {first}")
            seen[name] = row
        self._rows_by_id = seen
        self._ids = list(seen) if len(seen) == size else []
        return keys


def distinct(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct keys in order of first occurrence, where that is, and each key's number."""
    found, first, number = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    new = np.empty(len(order), np.int64)
    new[order] = np.arange(len(order))
    return found[order], first[order], new[number]
