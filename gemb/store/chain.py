"""Which version answers: the newest that the query side and the index side have in common.

A plan is made when versions or health change, and swapped whole. A request follows one plan: each
id is answered by one generation, in the index of the same space. Nothing here reads a store.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gemb.identity import Listed, Version

NO_COMMON, ID_ABSENT, HOST_DOWN = "no_common_version", "id_absent", "host_down"


class Step(NamedTuple):
    """A version that both sides have.

    Attributes:
        space: id of the space; what a search hands to the index, which compares it.
        query: version on the query side.
        index: version on the index side; its refresh may differ, and so may its generation where
            the sides count for themselves.
    """

    space: str
    query: Version
    index: Version


class Choice(NamedTuple):
    """What answers one query.

    Attributes:
        step: None where another retriever answers, or none.
        retriever: name of the other retriever; "" for none.
        fallback: why it is not the newest common version; "" if it is.
    """

    step: Step | None
    retriever: str
    fallback: str


class Plan(NamedTuple):
    """What to try, in order.

    Attributes:
        steps: newest first.
        others: names of other retrievers, for what no step answers.
        reasons: why versions were left out, one line each.
    """

    steps: tuple[Step, ...]
    others: tuple[str, ...]
    reasons: tuple[str, ...]

    @property
    def generations(self) -> tuple[int, ...]:
        """What to ask a key store for."""
        return tuple(step.query.generation for step in self.steps)

    def choose(self, generation: int, space: str | None) -> Choice:
        """What answers an id.

        Args:
            generation: of the vector that the key store found for it; -1 for none.
            space: id of its space, as the key store has it; None for none.
        """
        for number, step in enumerate(self.steps):
            if generation == step.query.generation and space == step.space:
                return Choice(step, "", ID_ABSENT if number else "")
        return self._other(ID_ABSENT if self.steps else NO_COMMON)

    def choices(self, generations: Sequence[int], spaces: Mapping[int, str]) -> list[Choice]:
        """What answers each of several ids: the fields of a `gemb.store.keyed.Found`."""
        return [self.choose(int(each), spaces.get(int(each))) for each in generations]

    def first(self) -> Choice:
        """What answers a query that is encoded now."""
        return Choice(self.steps[0], "", "") if self.steps else self._other(NO_COMMON)

    def _other(self, why: str) -> Choice:
        return Choice(None, self.others[0] if self.others else "", why)

    def without(self, step: Step, reason: str) -> "Plan":
        """The plan after a step failed: what comes next is tried, nothing twice."""
        left = tuple(each for each in self.steps if each != step)
        return self._replace(steps=left, reasons=(*self.reasons, f"{step.index}: {reason}"))


def make_plan(
    query_side: Sequence[Listed],
    index_side: Sequence[Listed],
    *,
    chain: int = 3,
    others: Sequence[str] = (),
    unhealthy: Mapping[Version, str] | None = None,
) -> Plan:
    """The plan for the versions of two sides.

    A version counts where it is live, or older than the live one, was published and is not bad:
    what is newer was rolled back.

    Args:
        query_side: versions of a key store; or of the towers that are loaded, for live text.
        index_side: versions of an index host.
        chain: steps at most.
        others: names of other retrievers, in order.
        unhealthy: versions of the index side that do not answer now, and why.

    Example:
        >>> from gemb.identity import Space
        >>> old, new = Space("a", "a", 8, True), Space("b", "b", 8, True)
        >>> live = Listed(Version(7, 1), new, "live", published=True)
        >>> was = Listed(Version(6, 2), old, "ready", published=True)
        >>> index = [Listed(Version(6, 4), old, "live", published=True)]  # not rolled out yet
        >>> make_plan([live, was], index, others=["popular"]).steps[0].index
        Version(generation=6, refresh=4)
    """
    reasons = []
    queries, indexes = (
        _newest_by_space(side, name, reasons)
        for side, name in ((query_side, "query"), (index_side, "index"))
    )
    steps = []
    for space, index in sorted(indexes.items(), key=lambda item: item[1], reverse=True):
        if space not in queries:
            reasons.append(f"{index}: only the index side has its space")
        elif index in (unhealthy or {}):
            reasons.append(f"{index}: {unhealthy[index]}")
        else:
            steps.append(Step(space, queries[space], index))
    only = (queries[space] for space in queries if space not in indexes)
    reasons += [f"{version}: only the query side has its space" for version in only]
    return Plan(tuple(steps[: max(chain, 0)]), tuple(others), tuple(reasons))


def _newest_by_space(side: Sequence[Listed], name: str, reasons: list[str]) -> dict[str, Version]:
    """The newest version of each space that may be read on one side."""
    live = next((each.version for each in side if each.state == "live"), None)
    found: dict[str, Version] = {}
    for each in sorted(side, key=lambda each: each.version, reverse=True):
        if not each.readable or not each.published:
            state = each.state if not each.readable else "not published"
            reasons.append(f"{each.version}: {state} on the {name} side")
        elif live is None or each.version > live:
            reasons.append(f"{each.version}: newer than the live version on the {name} side")
        else:
            found.setdefault(each.space.id, each.version)
    return found
