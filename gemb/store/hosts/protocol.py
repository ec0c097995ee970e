"""What an index host promises: documents by id, in versions, searched within one space."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from gemb.checks import UserError
from gemb.identity import Listed, Space, Version

# Texts, numbers and truth values by name, of one document.
Attributes = Mapping[str, str | int | float | bool]


class OtherDocuments(UserError):
    """A version of an index host holds other documents than it has to."""


class Hits(NamedTuple):
    """What an index host found: best first, equal scores by the smaller id.

    Attributes:
        ids: for each query at most k texts.
        scores: [queries, k] float32, cosine or inner product; -inf where fewer were found.
        version: that answered all queries.
    """

    ids: list[list[str]]
    scores: np.ndarray
    version: Version


class Health(NamedTuple):
    """How an index host is.

    Attributes:
        ok: whether it answers.
        reason: why not; "" if it does.
        seconds: that the answer took.
        live: the live version; None for none.
    """

    ok: bool
    reason: str
    seconds: float
    live: Version | None


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a version is indexed.

    Attributes:
        kind: a kind of `gemb.search.KINDS` that takes vectors; a server has "exact" and "hnsw".
        target: agreement@10 with exact search that ScaNN, HNSW and funnels are tuned to, on the
            queries of `IndexHost.verify`.
        m: links of a document in HNSW, on a server.
        ef_construction: candidates for these links.
        ef: candidates of a search by HNSW; 0 for the fewest that reach `verify`'s recall.

    Raises:
        UserError: a number out of range.
    """

    kind: str = "exact"
    target: float = 0.99
    m: int = 16
    ef_construction: int = 128
    ef: int = 0

    def __post_init__(self):
        for name, low, high in (("m", 2, 100), ("ef_construction", 4, 1000), ("ef", 0, 1000)):
            value = getattr(self, name)
            if type(value) is not int or not low <= value <= high:
                raise UserError(f"{name}: expected a number from {low} to {high}, got {value!r}")
        if not 0 < self.target < 1:
            raise UserError(f"target: expected above 0 and below 1, got {self.target!r}")


class IndexHost(Protocol):
    """An index of documents in several versions, of which one is live.

    A version is begun, loaded in batches, verified, published: until then it answers no search. A
    search names the space of its queries; what is stored with the vectors is compared with it.

    Attributes:
        kinds: of indexes that it makes, see `Settings`.
    """

    kinds: tuple[str, ...]

    def versions(self) -> list[Listed]:
        """What there is, newest first."""
        ...

    def begin(
        self, space: Space, *, settings: Settings | None = None, version: Version | None = None
    ) -> Version:
        """The version to load documents into; an unfinished version of the space is continued."""
        ...

    def load(
        self,
        version: Version,
        ids: Sequence[str | int],
        vectors: np.ndarray,
        attributes: Sequence[Attributes] | None = None,
    ) -> None:
        """Adds documents to an unfinished version; any batch in any order, and again."""
        ...

    def copy(self, version: Version, parent: Version) -> None:
        """Gives an unfinished version the documents of a finished one of its space."""
        ...

    def clear(self, version: Version) -> None:
        """Removes the documents of an unfinished version, to load them again."""
        ...

    def verify(
        self,
        version: Version,
        queries: np.ndarray,
        expected: Sequence[Sequence[str | int]],
        recall: float,
        *,
        rows: int,
        digest: str | None = None,
    ) -> float:
        """Builds the index of a loaded version and measures it; below `recall` it is not ready."""
        ...

    def publish(self, version: Version) -> None:
        """Makes a verified version live."""
        ...

    def warm(self, version: Version) -> None:
        """Opens a version and searches it once, before others do."""
        ...

    def mark_bad(self, version: Version, *, why: str) -> None:
        """Marks a version so that it is never read."""
        ...

    def pin(self, version: Version, *, why: str, pinned: bool = True) -> None:
        """Keeps a version whatever its age, or no longer."""
        ...

    def check(self) -> list[str]:
        """Reads everything; what is wrong, a line each."""
        ...

    def roll_back(self, version: Version | None = None, *, why: str) -> Version:
        """Makes an older version live, and returns its number."""
        ...

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        space: Space | str,
        generation: int,
        filter: Mapping | None = None,
    ) -> Hits:
        """The best documents of each query, in the newest published refresh of a generation."""
        ...

    def put(
        self,
        version: Version,
        ids: Sequence[str | int],
        vectors: np.ndarray,
        attributes: Sequence[Attributes] | None = None,
    ) -> None:
        """Adds or changes single documents of a finished version; searches find them at once."""
        ...

    def delete(self, ids: Sequence[str | int], *, version: Version | None = None) -> int:
        """Removes documents from every version, or from one; how many of them were there."""
        ...

    def retire(self, *, keep: int = 5, dry_run: bool = False) -> list[Version]:
        """Removes old versions; never the live one, the one before it, or a pinned one."""
        ...

    def health(self) -> Health:
        """Whether it answers; raises nothing."""
        ...

    def close(self) -> None:
        """Gives connections and memory back."""
        ...
