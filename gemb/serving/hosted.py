"""Index hosts that are followed: PostgreSQL, Milvus, or a folder of versions finds the documents.

Versions, publishing and the check of the space are the host's own; here is which of its versions
are asked, by which model, and what answers when the host does not.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from gemb import search
from gemb.checks import UserError
from gemb.data.sources import corpora
from gemb.identity import SpaceError
from gemb.inference.passages import Passage
from gemb.serving.http.errors import bad_request
from gemb.serving.http.web import log_line
from gemb.serving.popular import others
from gemb.serving.releases import describe
from gemb.serving.retrieval import Chain, Corpus, Step, space_of
from gemb.serving.state import State
from gemb.store.chain import make_plan
from gemb.store.hosts.filters import parse_filter
from gemb.store.hosts.opening import open_host
from gemb.store.hosts.protocol import Hits, IndexHost
from gemb.store.keyed import HostError


class _Remote(NamedTuple):
    """What stands where other versions have their searcher."""

    dim: int
    documents: int
    reads: str = "vectors"


class HostedStep(Step):
    """A version whose documents an index host holds."""

    host: IndexHost

    def search(self, vector: np.ndarray, text: str, k: int, dim: int) -> Hits:
        """The k best documents; see `Step.search`."""
        return self.filtered(vector, None, k)

    def filtered(self, vector: np.ndarray, wanted: Mapping | None, k: int) -> Hits:
        """The k best of the documents with given attributes; the host compares the space.

        Raises:
            HostError: the host does not answer, or does not hold the version any more.
            SpaceError: it holds another space.
            UserError: a filter that is not accepted.
        """
        asked = {"space": self.space, "generation": self.version.generation, "filter": wanted}
        parse_filter(wanted, self.host)
        try:
            found = self.host.search(vector, self.depth(k), **asked)
        except (HostError, SpaceError):
            raise
        except UserError as error:  # the generation was retired since the versions were read
            raise HostError(str(error)) from None
        return Hits([found.ids[0][:k]], found.scores[:, :k], found.version)

    def passages(self, hits: Hits) -> list[Passage]:
        """Hits of the first query, with texts where a corpus is known."""
        found = []
        for name, score in zip(hits.ids[0], hits.scores[0].tolist(), strict=False):
            row = self.corpus.places.get(name)
            if row is None:
                found.append(Passage(score, name, "", {}))
            else:
                one = search.Hits(np.array([[score]], np.float32), np.array([[row]]))
                found += self.corpus.passages(one)
        return found

    def answered(self, hits: Hits) -> str:
        """The host may have published a newer refresh since its versions were read."""
        return str(hits.version)

    def row(self, name: str) -> int:
        """The row of an id in the corpus; see `Step.row`."""
        if not self.corpus.texts:
            raise bad_request(
                "item_id: an index host gives no vectors; start the server with --corpus",
                "no_vectors", "item_id",
            )  # fmt: skip
        return super().row(name)


class FollowHost:
    """Keeps one chain at what an index host says.

    Args:
        state: whose chain is replaced.
        address: see `gemb.store.hosts.opening.open_host`.
        name: of the index on its server, and in requests.
        corpus: folder or file with the texts of its documents; "" where only ids are known.

    Attributes:
        name: as given.
        error: why the last look failed; "" if it did not.

    Raises:
        UserError: the host cannot be opened, or the name is taken.
    """

    def __init__(self, state: State, address: str, name: str, corpus: str = ""):
        self._state, self.name, self.error = state, name, ""
        self._corpus = Corpus(*corpora.read_corpus(corpus)) if corpus else Corpus(())
        self.store = open_host(address, name=name, timeout=max(1.0, state.settings.deadline))
        self._seen: object = None
        if name in state.chains:
            raise UserError(f"{address}: another index is named {name}; choose another --name")
        state.chains[name] = Chain(name)

    def look(self) -> bool:
        """Asks which versions there are, and replaces the chain; not in the event loop.

        Returns:
            Whether the chain was replaced.
        """
        try:
            listed = self.store.versions()
            seen = [(e.version, e.state, e.published, e.space) for e in listed]
            if seen == self._seen:
                self.error = ""
                return False
            self._replace(listed)
            self._seen, self.error = seen, ""
            return True
        except UserError as error:  # the chain stays: its steps fail by themselves, and fall back
            if str(error) != self.error:
                log_line({"event": "index host failed", "index": self.name, "error": str(error)})
            self.error = str(error)
            return False

    def _replace(self, listed: list) -> None:
        state = self._state
        old = {step.version: step for step in state.chains[self.name].steps}
        plan = make_plan(listed, listed, chain=state.settings.chain)
        about, steps, reasons = {each.version: each for each in listed}, [], list(plan.reasons)
        for each in plan.steps:
            step = old.get(each.index) or self._step(about[each.index])
            if step.model is None:
                reasons.append(f"{each.index}: no model of its space is served; add --model")
            steps.append(step)
        first = steps[0] if steps else None
        kept = others(first, state.popular)
        for other in kept.values():
            other.warm()
        state.chains[self.name] = Chain(self.name, tuple(steps), kept, tuple(reasons))
        describe(state)

    def _step(self, listed) -> HostedStep:
        remote = _Remote(listed.space.dim, listed.rows or 0)
        models = list(self._state.models.values())
        model = next((m for m in models if space_of(m, listed.space) == listed.space), None)
        step = HostedStep(self._corpus, remote, listed.version, listed.space, model)
        step.host, step.made = self.store, listed.made or 0.0
        step.warm()
        return step
