"""A version of a local index host in use: its searcher, and what changed since it was made."""

import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.search import Searcher, load_index
from gemb.store.disk import Opened
from gemb.store.hosts.filters import Condition
from gemb.store.hosts.inputs import by_cosine
from gemb.store.hosts.local_files import Changes, change_vector

SET, INDEX, ATTRIBUTES = "items", "index", "attributes.jsonl"
MOST_CHANGES = 10_000
_EXACT_ROWS = 20_000  # documents that match a filter and are scored one by one
_FILTERS = 16  # whose matching documents are remembered


class LocalVersion:
    """A version that is open for searches.

    Args:
        opened: of the store.
        changes: its log.

    Raises:
        UserError: it has no index, or one that cannot be read.
    """

    def __init__(self, opened: Opened, changes: Changes):
        self.version, self.space, self._folder = opened.version, opened.space, opened.folder
        found = opened.sets[SET]
        self._ids, self._vectors = found.ids, found.vectors
        self._searcher: Searcher = load_index(
            opened.folder / INDEX, model=self.space.id, similarity=self.space.similarity
        )
        if self._searcher.documents != len(self._ids):
            raise UserError(f"{opened.folder}: the index holds other documents; make it again")
        self._rows: dict[str, int] | None = None
        self._attributes: list[dict] | None = None
        self._matching: dict[tuple, np.ndarray] = {}
        self._lock = threading.Lock()
        self._log, self._read = changes, 0
        self._changed: dict[str, tuple[np.ndarray, dict] | None] = {}
        self._delta = _Delta(self.space.dim, {}, {}, by_cosine(self.space))

    def search(
        self, queries: np.ndarray, k: int, conditions: tuple[Condition, ...]
    ) -> list[tuple[list[str], list[float]]]:
        """Ids and scores of each query, in any order.

        Args:
            queries: [queries, dim], unit length where the score is a cosine.
            k: documents wanted.
            conditions: of a filter; () for none.
        """
        delta = self._follow()
        allowed = self._allowed(conditions, delta)
        found = []
        for query in queries:
            rows, scores = self._base(query, k, allowed)
            more, values = delta.search(query, k, conditions)
            ids = [str(self._ids[row]) for row in rows]
            found.append((ids + more, [*scores, *values]))
        return found

    def _base(self, query: np.ndarray, k: int, allowed: np.ndarray | None):
        """Rows and scores of the version itself."""
        if allowed is None:
            hits = self._searcher.search(query[None], k)
            return self._found(hits.scores[0], hits.indices[0])
        matching = int(allowed.sum())
        if matching <= _EXACT_ROWS:
            rows = np.flatnonzero(allowed)
            return _best(rows, _scores(self._vectors[rows], query, by_cosine(self.space)), k)
        documents = len(allowed)
        asked = min(documents, -(-(k + 16) * documents // matching))
        while True:
            hits = self._searcher.search(query[None], asked)
            rows, scores = self._found(hits.scores[0], hits.indices[0])
            kept = allowed[rows]
            if kept.sum() >= min(k, matching) or asked == documents:
                return rows[kept], scores[kept]
            asked = min(documents, 4 * asked)

    @staticmethod
    def _found(scores: np.ndarray, rows: np.ndarray):
        there = rows >= 0
        return rows[there], scores[there]

    def _allowed(self, conditions: tuple[Condition, ...], delta: "_Delta") -> np.ndarray | None:
        """[documents] bool; None where all are."""
        if not conditions and not len(delta.hidden):
            return None
        allowed = np.ones(len(self._ids), bool)
        if conditions:
            allowed[:] = False
            allowed[self._match(conditions)] = True
        allowed[delta.hidden] = False
        return allowed

    def _match(self, conditions: tuple[Condition, ...]) -> np.ndarray:
        """Rows whose attributes match, remembered for the last filters."""
        key = tuple((each.name, repr(each.values), each.bounds) for each in conditions)
        found = self._matching.get(key)
        if found is None:
            with self._lock:
                if self._attributes is None:
                    self._attributes = read_attributes(self._folder, len(self))
            rows = enumerate(self._attributes)
            found = np.array(
                [row for row, each in rows if all(one.holds(each) for one in conditions)], np.int64
            )
            with self._lock:
                while len(self._matching) >= _FILTERS:
                    del self._matching[next(iter(self._matching))]
                self._matching[key] = found
        return found

    def __len__(self) -> int:
        return len(self._ids)

    def documents(self, step: int) -> Iterator[tuple[list[str], np.ndarray, list[dict]]]:
        """Every document as it is now, in batches of ids, vectors and attributes."""
        self._follow()
        changed, attributes = dict(self._changed), read_attributes(self._folder, len(self))
        rows = np.array([row for row, e in enumerate(self._ids) if str(e) not in changed], np.int64)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            vectors = np.asarray(self._vectors[part], np.float32)
            yield [str(self._ids[row]) for row in part], vectors, [attributes[row] for row in part]
        added = {each: found for each, found in changed.items() if found is not None}
        if added:
            vectors, attributes = zip(*added.values(), strict=True)
            yield list(added), np.stack(vectors), list(attributes)

    def rows(self) -> Mapping[str, int]:
        """Id -> row."""
        with self._lock:
            if self._rows is None:
                self._rows = {str(each): row for row, each in enumerate(self._ids)}
            return self._rows

    def holds(self, each: str) -> bool:
        """Whether a document is there now."""
        self._follow()
        with self._lock:
            if each in self._changed:
                return self._changed[each] is not None
        return each in self.rows()

    def changed(self) -> set[str]:
        """Ids that were added, changed or removed since the version was made."""
        self._follow()
        return set(self._changed)

    def _follow(self) -> "_Delta":
        """What changed, with what was logged until now."""
        if self._log.size() == self._read:
            return self._delta
        rows = self.rows()
        with self._lock:
            lines, read = self._log.read(self._read)
            changed = dict(self._changed)
            for line in lines:
                if "put" in line:
                    changed[line["put"]] = (change_vector(line, self.space.dim), line["of"])
                else:
                    changed[line["delete"]] = None
            if read > self._read:
                delta = _Delta(self.space.dim, changed, rows, by_cosine(self.space))
                self._changed, self._read, self._delta = changed, read, delta
            return self._delta


class _Delta:
    """Changed documents, searched exactly.

    Attributes:
        hidden: rows of the version that are no longer as they were.
    """

    def __init__(self, dim: int, changed: Mapping, rows: Mapping[str, int], cosine: bool):
        there = [(each, changed[each]) for each in sorted(changed) if changed[each] is not None]
        self.hidden = np.array([rows[each] for each in changed if each in rows], np.int64)
        self._ids = [each for each, _ in there]
        self._vectors = np.array([vector for _, (vector, _) in there]).reshape(-1, dim)
        self._attributes, self._cosine = [found[1] for _, found in there], cosine

    def search(self, query: np.ndarray, k: int, conditions: tuple[Condition, ...]):
        """Ids and scores of the best changed documents that match."""
        if not self._ids:
            return [], []
        rows = [
            row
            for row, attributes in enumerate(self._attributes)
            if all(one.holds(attributes) for one in conditions)
        ]
        found, scores = _best(
            np.array(rows, np.int64), _scores(self._vectors[rows], query, self._cosine), k
        )
        return [self._ids[row] for row in found], scores


def _best(rows: np.ndarray, scores: np.ndarray, k: int):
    """The rows of the k highest scores, the lower row first where they are equal."""
    order = np.argsort(-scores, kind="stable")[:k]
    return rows[order], scores[order]


def _scores(vectors: np.ndarray, query: np.ndarray, cosine: bool) -> np.ndarray:
    vectors = np.asarray(vectors, np.float32)
    scores = np.einsum("nd,d->n", vectors, query)
    return scores / np.linalg.norm(vectors, axis=1) if cosine else scores


def read_attributes(folder: Path, rows: int) -> list[dict]:
    """The attributes of a version's documents; empty where it was made without.

    Raises:
        UserError: of another number of documents, or damaged.
    """
    path = folder / ATTRIBUTES
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return [{}] * rows
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    found = [json.loads(line) for line in text.splitlines()]
    if len(found) != rows:
        raise UserError(f"{path}: of {len(found)} documents, but there are {rows}")
    return found
