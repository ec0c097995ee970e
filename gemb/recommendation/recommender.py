"""A recommender: a model with its tables of users and items, what users have, and fallbacks.

recommender = gemb.Recommender.load("runs/recommender")
recommender.recommend(["0ad"], k=10)[0].items
recommender.recommend(features={"history": ["libsdl2-2.0-0"], "section": "games"})
searching = recommender.with_texts("all-MiniLM-L6-v2", "description")
searching.recommend(["0ad"], query="play sound files")
"""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from gemb import metrics
from gemb.checks import UserError, suggest
from gemb.data.interactions.reading import SideTable
from gemb.inference.embedder import Embedder
from gemb.metrics.similarity import similarities
from gemb.recommendation import folder
from gemb.recommendation.baselines.baseline import Baseline, interaction_matrix
from gemb.recommendation.vectors import Fused, TwoStages, Vectors, has_users, standardised
from gemb.structs import Interactions

EXCLUDE = ("seen", "nothing")
_CANDIDATES = 500  # of a query, which the user's scores put in another order
# features -> [dim] the user's vector, as a tower computes it
Encode = Callable[[Mapping[str, Any]], np.ndarray]
Filters = Mapping[str, Any] | Callable[[Mapping[str, Any]], bool]


class Recommendation(NamedTuple):
    """What is recommended to one user.

    Attributes:
        user: the id; None for a user who is described by features.
        items: ids, best first; fewer than asked where fewer remain.
        scores: [items] float32, comparable within one list only.
        source: what made the list: "model", "history", "features", "popularity in COLUMN VALUE" or
            "popularity"; with "query and " before it for a query.
        note: why it is not the model's own list, or shorter than asked; "" otherwise.
    """

    user: str | None
    items: list[str]
    scores: np.ndarray
    source: str
    note: str


class _Asked(NamedTuple):
    """What a list is made of: length, whether a user's items are left out, which items may be in it
    ([items] bool; None for all), and the cosines of a query ([items]; None without one) with the
    share that the user's own scores have."""

    k: int
    unseen: bool
    allowed: np.ndarray | None
    cosines: np.ndarray | None
    personal: float


class Recommender:
    """Recommends items to users by id, by their features, or by popularity.

    Args:
        model: the model; its rows of users and items are those of the tables.
        users: the table of users.
        items: the table of items.
        train: the events it was trained on: what users have seen, and what is popular.
        segment: a column of the table of users by which popularity is counted for a user about whom
            nothing else is known; "": none.
        encode: features -> a user's vector, for a model of vectors; None: features other than
            "history" and the segment are refused.
    """

    def __init__(
        self,
        model: Baseline,
        users: SideTable,
        items: SideTable,
        train: Interactions,
        *,
        segment: str = "",
        encode: Encode | None = None,
    ):
        seen = interaction_matrix(train, len(users.ids), len(items.ids))
        self._set(model, users, items, seen, segment, encode)

    def _set(
        self,
        model: Baseline,
        users: SideTable,
        items: SideTable,
        seen: scipy.sparse.csr_array,
        segment: str,
        encode: Encode | None,
    ) -> None:
        if segment and segment not in users.columns:
            known = ", ".join(users.columns) or "none"
            raise UserError(
                f"segment: the table of users has no column {segment!r}; it has {known}"
            )
        self.model, self.users, self.items, self.seen = model, users, items, seen
        self.segment, self.encode = segment, encode
        self.texts: tuple[Embedder, np.ndarray] | None = None
        self._user_row = {name: row for row, name in enumerate(users.ids)}
        self._item_row = {name: row for row, name in enumerate(items.ids)}
        self._popular: dict[str, np.ndarray] = {}

    def recommend(
        self,
        users: Sequence[str] | None = None,
        k: int = 10,
        *,
        features: Mapping[str, Any] | None = None,
        query: str = "",
        personal: float = 0.5,
        exclude: str = "seen",
        filters: Filters | None = None,
    ) -> list[Recommendation]:
        """Recommends items; with a query, those that it finds, in an order for the user.

        Args:
            users: ids. One that the recommender does not know gets the list of its features if
                these are given, else of popularity; the result says so.
            k: items for each user.
            features: of one user: "history" (ids of items), the segment's column, and what `encode`
                reads.
            query: a text. Its 500 nearest items by `with_texts` are ranked by
                (1 - personal) z(cosine) + personal z(the user's score), with z over these items.
            personal: 0 to 1.
            exclude: "seen" leaves out a user's own items, "nothing" does not.
            filters: column of the items -> the value wanted, or a collection of values; or a
                function of an item's columns (with "id") that says whether it may be recommended.

        Returns:
            One list for each of `users`; one list where only features are given.

        Raises:
            UserError: a wrong argument, an item that the recommender does not know in the history,
                or filters that leave no item.
        """
        if isinstance(users, str) or (users is None and features is None):
            raise UserError("recommend: give a list of users, or features")
        if exclude not in EXCLUDE:
            raise UserError(f"exclude: expected one of {', '.join(EXCLUDE)}, got {exclude!r}")
        if k < 1:
            raise UserError(f"k: expected at least 1, got {k}")
        if not 0 <= personal <= 1:
            raise UserError(f"personal: expected 0 to 1, got {personal}")
        cosines = self._cosines(query) if query else None
        asked = _Asked(k, exclude == "seen", self._allowed(filters), cosines, personal)
        wanted: list[str | None] = [None] if users is None else list(users)
        known = [name for name in wanted if name in self._user_row]
        lists = dict(self._known(known, asked))
        other = None
        if len(known) < len(wanted):
            other = self._unknown(features or {}, asked)
        return [lists[name] if name in lists else _named(other, name) for name in wanted]

    def with_texts(self, model: Embedder | str, column: str) -> "Recommender":
        """The recommender with vectors of its items' texts, for queries.

        Args:
            model: of texts: an embedder, a folder or a name.
            column: of the table of items, with the texts.

        Raises:
            UserError: for another column, or a model that cannot be loaded.
        """
        if column not in self.items.columns:
            known = self.items.columns
            raise UserError(
                f"column: the items have no {column!r}; they have {', '.join(known) or 'none'}."
                f"{suggest(column, known)}"
            )
        embedder = Embedder.load(model) if isinstance(model, str) else model
        texts = [str(value) for value in self.items.columns[column]]
        made = copy.copy(self)
        made.texts = embedder, embedder.encode(texts, kind="document")
        return made

    def _cosines(self, query: str) -> np.ndarray:
        """[items] cosines of the query with the items' texts."""
        if self.texts is None:
            raise UserError("query: the recommender has no texts; call with_texts first")
        embedder, items = self.texts
        return similarities(embedder.encode([query], kind="query"), items)[0]

    def popular(self, user: str, k: int = 10) -> Recommendation:
        """What is popular, in the user's segment where that is known, without what it has."""
        row, columns, seen = self._user_row.get(user), {}, self._history(())
        if row is not None:
            columns = {name: values[row] for name, values in self.users.columns.items()}
            seen = self.seen[[row]]
        asked = _Asked(k, True, None, None, 0.0)
        return self._by_popularity(columns, seen, asked)._replace(user=user)

    def seen_by(self, user: str) -> set[str]:
        """The items that a user has; none for a user who is not known."""
        row = self._user_row.get(user)
        if row is None:
            return set()
        start, end = self.seen.indptr[row : row + 2]
        return {self.items.ids[item] for item in self.seen.indices[start:end]}

    def save(self, place: str | Path, *, towers: str | Path = "") -> None:
        """Writes a folder that `load` reads; an existing one is replaced when the new one is whole.

        Args:
            place: the folder.
            towers: a model's folder, which is copied: its query tower is then what `encode` is
                after `load`. Any other `encode` is not saved.

        Raises:
            UserError: the folder cannot be written.
        """
        tables = (self.users, self.items, self.seen)
        folder.write(place, self.model, *tables, self.segment, towers)

    @classmethod
    def load(cls, place: str | Path, *, encode: Encode | None = None) -> "Recommender":
        """Reads a folder that `save` wrote.

        Args:
            place: the folder.
            encode: as for the class; default the towers of the folder, where it has any.

        Raises:
            UserError: for another folder, or a damaged one.
        """
        made, towers = cls.__new__(cls), Path(place).expanduser() / folder.TOWERS
        parts = folder.read(place)
        if encode is None and towers.is_dir():
            encode = _tower(Embedder.load(towers))
        made._set(*parts, encode)
        return made

    def _known(self, names: list[str], asked: _Asked):
        """(name, list) of known users; one without any item gets what is popular."""
        rows = np.array([self._user_row[name] for name in names], np.int64)
        for start in range(0, len(rows), 1024):
            block = rows[start : start + 1024]
            histories = self.seen[block]
            scores = _scored(self.model.scores(histories, block), histories, asked)
            ranked = metrics.top_items(scores, asked.k)
            for place, row in enumerate(block):
                name = self.users.ids[row]
                empty = histories.indptr[place + 1] == histories.indptr[place]
                if empty and not has_users(self.model):
                    columns = {key: values[row] for key, values in self.users.columns.items()}
                    found = self._by_popularity(columns, histories[[place]], asked)
                    note = "the user has no events; " + found.note
                    yield name, found._replace(user=name, note=note.removesuffix("; "))
                else:
                    yield name, self._list(name, ranked[place], scores[place], asked, "model", "")

    def _unknown(self, features: Mapping[str, Any], asked: _Asked) -> Recommendation:
        """The list of a user who is known by features alone, perhaps none."""
        read = {"history", self.segment} - {""}
        extra = sorted(set(features) - read) if self.encode is None else []
        if extra:
            raise UserError(
                f"features: {extra[0]!r} is not read by this recommender; it reads "
                f"{', '.join(sorted(read))}{suggest(extra[0], read)}"
            )
        history = self._history(features.get("history") or ())
        if self.encode is not None and features:
            scores = np.asarray(self.encode(features), np.float32)[None] @ self._item_vectors().T
            source = "features"
        elif history.nnz:
            scores, source = self.model.scores(history, np.array([-1])), "history"
        else:
            return self._by_popularity(features, history, asked)
        scores = _scored(scores, history, asked)
        ranked = metrics.top_items(scores, asked.k)[0]
        return self._list(None, ranked, scores[0], asked, source, "")

    def _item_vectors(self) -> np.ndarray:
        model = self.model.retriever if isinstance(self.model, TwoStages) else self.model
        parts = model.parts if isinstance(model, Fused) else [model]
        found = [part.items for part in parts if isinstance(part, Vectors)]
        if not found:
            raise UserError("encode needs a model of vectors, such as two towers")
        return found[0]

    def _by_popularity(
        self,
        features: Mapping[str, Any],
        history: scipy.sparse.csr_array,
        asked: _Asked,
    ) -> Recommendation:
        value = str(features.get(self.segment) or "") if self.segment else ""
        counts = self._counts(value)
        source = f"popularity in {self.segment} {value}" if value else "popularity"
        note = ""
        if value and not counts.any():
            counts, source = self._counts(""), "popularity"
            note = f"no user has the {self.segment} {value!r}"
        scores = _scored(counts[None].astype(np.float32), history, asked._replace(unseen=True))
        ranked = metrics.top_items(scores, asked.k)[0]
        return self._list(None, ranked, scores[0], asked, source, note)

    def _counts(self, value: str) -> np.ndarray:
        """[items] events of the users of a segment; of all users for ""."""
        if value not in self._popular:
            seen = self.seen
            if value:
                own = [str(other) == value for other in self.users.columns[self.segment]]
                seen = seen[np.flatnonzero(own)]
            self._popular[value] = np.asarray(seen.sum(axis=0)).ravel()
        return self._popular[value]

    def _history(self, names: Collection[str]) -> scipy.sparse.csr_array:
        """[1, items] of ids."""
        if isinstance(names, str):
            raise UserError("history: expected a list of items")
        missing = [name for name in names if name not in self._item_row]
        if missing:
            raise UserError(
                f"history: the item {missing[0]!r} is not known"
                f"{suggest(str(missing[0]), self._item_row)}"
            )
        columns = sorted({self._item_row[name] for name in names})
        ones = np.ones(len(columns), np.float32)
        shape = (1, len(self.items.ids))
        return scipy.sparse.csr_array((ones, (np.zeros(len(columns), int), columns)), shape=shape)

    def _allowed(self, filters: Filters | None) -> np.ndarray | None:
        """[items] bool; None where every item is allowed."""
        if not filters:
            return None
        if callable(filters):
            kept = np.array([bool(filters(self._item(row))) for row in range(len(self.items.ids))])
        else:
            kept = np.ones(len(self.items.ids), bool)
            for column, wanted in filters.items():
                if column not in self.items.columns:
                    known = self.items.columns
                    raise UserError(
                        f"filters: the items have no column {column!r}; they have "
                        f"{', '.join(known) or 'none'}.{suggest(column, known)}"
                    )
                one = isinstance(wanted, str) or not isinstance(wanted, Collection)
                values = {str(value) for value in ([wanted] if one else wanted)}
                kept &= [str(value) in values for value in self.items.columns[column]]
        if not kept.any():
            raise UserError(f"filters: no item is left of {len(kept):,}")
        return kept

    def _item(self, row: int) -> dict[str, Any]:
        columns = {name: values[row] for name, values in self.items.columns.items()}
        return {"id": self.items.ids[row]} | columns

    def _list(
        self,
        user: str | None,
        ranked: np.ndarray,
        scores: np.ndarray,
        asked: _Asked,
        source: str,
        note: str,
    ) -> Recommendation:
        rows = ranked[ranked >= 0]
        if asked.cosines is not None:
            source = f"query and {source}"
        if len(rows) < asked.k:
            short = f"only {len(rows):,} items are left"
            note = f"{note}; {short}" if note else short
        return Recommendation(
            user, [self.items.ids[row] for row in rows], scores[rows], source, note
        )


def _scored(scores: np.ndarray, history: scipy.sparse.csr_array, asked: _Asked) -> np.ndarray:
    """[rows, items] float32: -inf for items that may not be in the list."""
    scores = np.array(scores, np.float32)
    if asked.unseen:
        scores[history.nonzero()] = -np.inf
    if asked.allowed is not None:
        scores[:, ~asked.allowed] = -np.inf
    return scores if asked.cosines is None else _for_query(scores, asked.cosines, asked.personal)


def _for_query(scores: np.ndarray, cosines: np.ndarray, personal: float) -> np.ndarray:
    """The mix of both over the nearest items of the query; -inf for all others."""
    found = np.where(np.isfinite(scores), cosines, -np.inf)
    near = metrics.top_items(found, _CANDIDATES)
    there = near >= 0
    by_text, by_user = (
        standardised(np.take_along_axis(values, near, axis=1), there) for values in (found, scores)
    )
    rows, places = there.nonzero()
    made = np.full(scores.shape, -np.inf, np.float32)
    made[rows, near[rows, places]] = ((1 - personal) * by_text + personal * by_user)[rows, places]
    return made


def _tower(embedder: Embedder) -> Encode:
    """The query tower of a model over features; features that it has no column for are refused."""
    columns = embedder.model.processors.query.query
    known = sorted({column.entry for column in columns})

    def encode(features: Mapping[str, Any]) -> np.ndarray:
        for name in features:
            if name not in known:
                raise UserError(
                    f"features: the towers do not read {name!r}; they read {', '.join(known)}."
                    f"{suggest(name, known)}"
                )
        return embedder.encode([dict(features)], kind="query")[0]

    return encode


def _named(found: Recommendation, name: str | None) -> Recommendation:
    if name is None:
        return found
    note = "the user is not known"
    return found._replace(user=name, note=f"{note}; {found.note}" if found.note else note)
