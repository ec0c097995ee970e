"""What a key store of vectors promises, and what a backend has to do for it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from gemb.checks import UserError
from gemb.identity import Listed, Space, Version


class HostError(UserError):
    """A server or a file of vectors that does not answer, or answers something else."""


class Found(NamedTuple):
    """What a key store has of some ids.

    Attributes:
        vectors: one per id, [dim] float32; None where it has none.
        generations: [ids] int64, the generation of each vector; -1 where there is none.
        spaces: generation -> id of its space, as the key store keeps it next to the vectors.
    """

    vectors: list[np.ndarray | None]
    generations: np.ndarray
    spaces: dict[int, str]


class KeyedVectors(Protocol):
    """Vectors by id, of several generations; the newest that a reader asks for is found at once.

    A new generation is invisible until it is published. A refresh replaces vectors by others of the
    same space, so that each may be read as soon as it is there.
    """

    def versions(self) -> list[Listed]:
        """What there is, newest first."""
        ...

    def begin(self, space: Space, *, of: str, version: Version | None = None) -> Version:
        """The version to put vectors into; an unfinished version of the space is continued."""
        ...

    def put(self, version: Version, ids: Sequence[str | int], vectors: np.ndarray) -> None:
        """Adds or replaces vectors; any batch in any order, and again without harm."""
        ...

    def publish(
        self, version: Version, *, rows: int | None = None, digest: str | None = None
    ) -> None:
        """Makes a version live; refuses one that holds other rows than the caller says."""
        ...

    def roll_back(self, version: Version | None = None, *, why: str) -> Version:
        """Makes an older version live, and returns its number."""
        ...

    def get(self, ids: Sequence[str | int], generations: Sequence[int]) -> Found:
        """The newest vector of each id among some generations, in one round trip."""
        ...

    def remove(self, ids: Sequence[str | int], *, generation: int | None = None) -> int:
        """Forgets ids, in every generation or in one; returns how many of them were there."""
        ...

    def retire(self, *, keep: int = 5, dry_run: bool = False) -> list[Version]:
        """Removes old generations; never the live one, the one before it, or a pinned one."""
        ...

    def close(self) -> None:
        """Gives connections back."""
        ...


class Rows(Protocol):
    """A backend: rows of bytes by id and generation, and one text, the ledger.

    Raises:
        HostError: from every method, where the host does not answer or answers something else.
    """

    def read(self) -> bytes | None:
        """The ledger; None where there is none yet."""
        ...

    def change(self, function: Callable[[bytes | None], str]) -> None:
        """Replaces the ledger in one step that no other change can come between.

        `function` may be called several times, and what it raises changes nothing.
        """
        ...

    def prepare(self, generation: int) -> None:
        """Makes room for the rows of a generation; again without harm."""
        ...

    def write(self, generation: int, ids: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Adds or replaces rows; they are kept when this returns."""
        ...

    def fetch(
        self, ids: Sequence[bytes], generations: Sequence[int]
    ) -> tuple[bytes | None, dict[tuple[bytes, int], bytes]]:
        """The ledger, and the rows that there are by id and generation, in one round trip."""
        ...

    def scan(self, generation: int) -> Iterator[tuple[bytes, bytes]]:
        """Every row of a generation, each once."""
        ...

    def delete(self, ids: Iterable[bytes], generation: int | None) -> int:
        """Removes rows; returns how many ids had any."""
        ...

    def drop(self, generation: int) -> None:
        """Removes all rows of a generation."""
        ...

    def close(self) -> None:
        """Gives connections back."""
        ...
