"""Numbers of versions, and what a store says of each version that it holds."""

import dataclasses
import re
from typing import NamedTuple

from gemb.checks import UserError
from gemb.identity.spaces import Space

# loading: being written, never read.  ready: whole.  live: whole, and the newest to be read.
# bad: marked by a person or a check, or damaged; never read.
STATES = ("loading", "ready", "live", "bad")
READABLE = ("ready", "live")


class Version(NamedTuple):
    """Generation and refresh, written `7.3`; later versions are greater.

    Example:
        >>> str(Version(7, 3)), Version.parse("7.3"), Version(7, 10) > Version(7, 3)
        ('7.3', Version(generation=7, refresh=3), True)
    """

    generation: int
    refresh: int

    def __str__(self) -> str:
        return f"{self.generation}.{self.refresh}"

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Reads `7.3`, also with leading zeros.

        Raises:
            UserError: for anything else.
        """
        found = re.fullmatch(r"([0-9]{1,9})\.([0-9]{1,9})", text)
        version = cls(*map(int, found.groups())) if found else cls(0, 0)
        if min(version) < 1:
            raise UserError(
                f"version: expected generation.refresh such as 7.3, both from 1, got {text!r:.40}"
            )
        return version


@dataclasses.dataclass(frozen=True)
class Listed:
    """A version as a store lists it.

    Attributes:
        version: its number.
        space: of its vectors; None where its manifest cannot be read.
        state: one of `STATES`.
        made: when it was finished, in seconds since 1970; 0 while loading. For people: the order of
            versions is that of their numbers.
        rows: vectors in it.
        bytes: that it takes, about.
        published: whether it was ever live, or replaced an older refresh that was.
        pinned: whether it is kept whatever its age.
        about: further JSON values: digests, precision, what it was made from.
    """

    version: Version
    space: Space | None
    state: str
    made: float = 0.0
    rows: int = 0
    bytes: int = 0
    published: bool = False
    pinned: bool = False
    about: dict = dataclasses.field(default_factory=dict, hash=False)

    @property
    def readable(self) -> bool:
        """Whether it may be read."""
        return self.state in READABLE and self.space is not None
