"""Recommendations from released vectors: users in a key store, items in a store of versions.

A user is answered by the newest version that both sides have of it, an older one where its vector
of the newest is missing, and by popularity where none is left.
"""

from collections.abc import Sequence

import numpy as np

from gemb import metrics
from gemb.identity import Version
from gemb.recommendation.recommender import Recommendation, Recommender
from gemb.store import VersionStore
from gemb.store.chain import Step, make_plan
from gemb.store.keyed.protocol import KeyedVectors

DOCUMENTS = "documents"  # the set of the items' vectors
_OPEN = 2  # versions whose vectors are kept in memory


class LiveRecommender:
    """Recommends from what is live in two stores.

    Args:
        store: versions with the items' vectors.
        users: the users' vectors.
        recommender: what users have seen, the tables, and popularity. An item of the store that it
            does not know is recommended too.
        chain: versions to try.

    Example:
        >>> recommender = gemb.Recommender.load("runs/recommender")  # doctest: +SKIP
        >>> live = LiveRecommender(store, users, recommender)  # doctest: +SKIP
        >>> live.recommend(["0ad"], k=5)[0].source  # doctest: +SKIP
        'version 2.1'
    """

    def __init__(
        self, store: VersionStore, users: KeyedVectors, recommender: Recommender, *, chain: int = 3
    ):
        self.store, self.users, self.recommender, self.chain = store, users, recommender, chain
        self._items: dict[Version, tuple[list, np.ndarray]] = {}

    def recommend(self, users: Sequence[str], k: int = 10) -> list[Recommendation]:
        """The first k items for each user, without those that it has.

        Raises:
            UserError: for a store that cannot be read.
        """
        plan = make_plan(self.users.versions(), self.store.versions(), chain=self.chain)
        found = self.users.get(users, plan.generations)
        made = []
        choices = plan.choices(found.generations, found.spaces)
        for user, vector, choice in zip(users, found.vectors, choices, strict=True):
            if choice.step is None:
                popular = self.recommender.popular(user, k)
                note = f"no common version has the user; {popular.note}".removesuffix("; ")
                made.append(popular._replace(note=note))
            else:
                made.append(self._of_version(user, vector, choice.step, k, choice.fallback))
        return made

    def _of_version(self, user: str, vector: np.ndarray, step: Step, k: int, why: str):
        ids, items = self._vectors(step)
        scores = items @ np.asarray(vector, np.float32)
        seen = self.recommender.seen_by(user)
        if seen:
            scores[[row for row, name in enumerate(ids) if name in seen]] = -np.inf
        rows = metrics.top_items(scores[None], k)[0]
        rows = rows[(rows >= 0) & np.isfinite(scores[rows])]
        note = f"not by the newest version: {why}" if why else ""
        names = [ids[row] for row in rows]
        return Recommendation(user, names, scores[rows], f"version {step.index}", note)

    def _vectors(self, step: Step) -> tuple[list, np.ndarray]:
        if step.index not in self._items:
            opened = self.store.open(step.index)
            part = opened.sets[DOCUMENTS]
            while len(self._items) >= _OPEN:
                self._items.pop(next(iter(self._items)))
            self._items[step.index] = list(part.ids), np.asarray(part.vectors, np.float32)
        return self._items[step.index]
