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

    Raises:
        HostError: from every method but `health`, where a server does not answer.
    """

    kinds: tuple[str, ...]

    def versions(self) -> list[Listed]:
        """What there is, newest first, with the versions that are being loaded.

        Raises:
            UserError: the list cannot be read, or is of another format.
        """
        ...

    def begin(
        self, space: Space, *, settings: Settings | None = None, version: Version | None = None
    ) -> Version:
        """The version to load documents into; an unfinished version of the space is continued.

        Args:
            space: of the documents; another space than before makes a generation, the same a
                refresh.
            settings: how to index it; default exact in a folder, HNSW on a server.
            version: a number that was given elsewhere, such as by another store.

        Raises:
            SpaceError: the number is of another space here.
            UserError: the number is taken, an unknown kind, or another writer.
        """
        ...

    def load(
        self,
        version: Version,
        ids: Sequence[str | int],
        vectors: np.ndarray,
        attributes: Sequence[Attributes] | None = None,
    ) -> None:
        """Adds or replaces documents of an unfinished version; any batch in any order, and again.

        Args:
            version: of `begin`.
            ids: unique; an integer is the same id as its digits.
            vectors: [ids, dim] float32 or float16.
            attributes: one for each, to filter by.

        Raises:
            SpaceError: vectors of another dim.
            UserError: an id, vector or attribute that is not accepted, or a version that is not
                being loaded. Documents of earlier batches are kept.
        """
        ...

    def copy(self, version: Version, parent: Version) -> None:
        """Gives an unfinished version the documents of a finished one of its space.

        What the version has already may be replaced: copy first, then load.

        Raises:
            SpaceError: they are of two spaces.
            UserError: one is not being loaded, or the other is not finished.
        """
        ...

    def clear(self, version: Version) -> None:
        """Removes the documents of an unfinished version, to load them again.

        Raises:
            UserError: it is not being loaded.
        """
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
        """Builds the index of a loaded version and measures it; below `recall` it is not ready.

        Args:
            version: that is loaded; a finished one is only measured.
            queries: [queries, dim] of the kind that will be asked; ScaNN, HNSW and funnels are
                tuned on them.
            expected: their exact answers, see `inputs.exact_answers`.
            recall: mean share of these to find.
            rows: documents that the version has to hold.
            digest: of them in float32, see `gemb.store.rows.rows_digest`; None to count only.

        Returns:
            The share that was found.

        Raises:
            OtherDocuments: it holds other documents.
            UserError: a recall below, another writer, or a full disk. The version stays as it was.
        """
        ...

    def publish(self, version: Version) -> None:
        """Makes a verified version live; a refresh of an older generation is only published.

        Raises:
            UserError: it is not verified, damaged, marked bad, or older than the live one.
        """
        ...

    def warm(self, version: Version) -> None:
        """Opens a version and searches it once, before others do.

        Raises:
            UserError: it cannot be opened, or is not there.
        """
        ...

    def mark_bad(self, version: Version, *, why: str) -> None:
        """Marks a version so that it is never read; the live one has to be rolled back first."""
        ...

    def pin(self, version: Version, *, why: str, pinned: bool = True) -> None:
        """Keeps a version whatever its age, or no longer."""
        ...

    def check(self) -> list[str]:
        """Reads everything; what is wrong, a line each."""
        ...

    def roll_back(self, version: Version | None = None, *, why: str) -> Version:
        """Makes an older version live.

        Args:
            version: None for the newest older one that was live before.
            why: kept with the version.

        Returns:
            The version that is live now.

        Raises:
            UserError: there is none, or it is damaged or marked bad.
        """
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
        """The best documents of each query.

        Args:
            queries: [queries, dim] floats.
            k: hits wanted.
            space: of the queries.
            generation: to search; its newest published refresh answers, the live one first.
            filter: conditions on attributes, see `gemb.store.hosts.filters`.

        Raises:
            SpaceError: of another space than the documents; nothing was searched.
            UserError: the generation is not published here, or something that is not accepted.
        """
        ...

    def put(
        self,
        version: Version,
        ids: Sequence[str | int],
        vectors: np.ndarray,
        attributes: Sequence[Attributes] | None = None,
    ) -> None:
        """Adds or changes single documents of a finished version; searches find them at once.

        Raises:
            SpaceError: vectors of another dim.
            UserError: what `load` refuses, or a version that is not finished or bad.
        """
        ...

    def delete(self, ids: Sequence[str | int], *, version: Version | None = None) -> int:
        """Removes documents from every version, unfinished ones included, or from one.

        Returns:
            How many of them were there.

        Raises:
            UserError: an id that is not accepted, or a file that cannot be written.
        """
        ...

    def retire(self, *, keep: int = 5, dry_run: bool = False) -> list[Version]:
        """Removes old versions; never the live one, the one before it, or a pinned one.

        Unfinished versions that are older than the live one are removed too. After a kill the next
        call continues.

        Args:
            keep: generations to keep.
            dry_run: whether only to say what would be removed.

        Returns:
            What was removed.
        """
        ...

    def health(self) -> Health:
        """Whether it answers; raises nothing."""
        ...

    def close(self) -> None:
        """Gives connections and memory back."""
        ...
