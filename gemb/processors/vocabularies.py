"""Vocabularies: texts of ids, categories and words to rows of a table.

Row 0 of every table is padding: it adds nothing to a vector.
"""

import dataclasses
import functools
import hashlib
from collections import Counter
from collections.abc import Iterable

from gemb.checks import check

PADDING = 0


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Known values, each with a row of its own, after the rows of all others.

    Rows: padding, `unknown` rows for values that are not in the vocabulary (chosen by a hash), then
    the values, the most frequent first.

    Attributes:
        values: the known values.
        unknown: rows for others; 0 leaves others out.
    """

    values: tuple[str, ...]
    unknown: int = 1

    def __post_init__(self):
        check(self.unknown >= 0, f"unknown: expected 0 or more rows, got {self.unknown}")

    @property
    def rows(self) -> int:
        """Rows of its table."""
        return 1 + self.unknown + len(self.values)

    @property
    def each(self) -> int:
        """Rows of one value."""
        return 1

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        first = 1 + self.unknown
        return {value: first + place for place, value in enumerate(self.values)}

    def knows(self, value: str) -> bool:
        """Whether a value has a row of its own."""
        return value in self._places

    def of(self, value: str) -> tuple[int, ...]:
        """The row of a value; PADDING for one that is left out."""
        found = self._places.get(value)
        if found is None:
            found = 1 + _hash(value, 0) % self.unknown if self.unknown else PADDING
        return (found,)


@dataclasses.dataclass(frozen=True)
class Hashed:
    """An open vocabulary: every value has `hashes` rows of a fixed number, which are summed.

    Two values that share one row seldom share the others.

    Attributes:
        buckets: rows besides padding.
        hashes: rows of each value, from independent hash functions.

    Reference: Weinberger et al., Feature Hashing for Large Scale Multitask Learning, ICML 2009;
        several hashes: Svenstrup et al., Hash Embeddings for Efficient Word Representations, 2017.
    """

    buckets: int
    hashes: int = 2

    def __post_init__(self):
        check(self.buckets >= 1, f"buckets: expected at least 1 row, got {self.buckets}")
        check(self.hashes >= 1, f"hashes: expected at least 1, got {self.hashes}")

    @property
    def rows(self) -> int:
        """Rows of its table."""
        return 1 + self.buckets

    @property
    def each(self) -> int:
        """Rows of one value."""
        return self.hashes

    def knows(self, value: str) -> bool:
        """True: no value is unknown."""
        del value
        return True

    def of(self, value: str) -> tuple[int, ...]:
        """The rows of a value."""
        return tuple(1 + _hash(value, salt) % self.buckets for salt in range(self.hashes))


def learned(values: Iterable[str], *, least: int = 2, unknown: int = 1) -> Vocabulary:
    """The vocabulary of values that occur often enough, the most frequent first.

    Args:
        values: all occurrences.
        least: a value with fewer occurrences shares the rows of unknown values.
        unknown: rows for those.

    Raises:
        ValueError: for a `least` below 1.

    Example:
        >>> learned(["b", "a", "b", "c", "a", "b"]).values
        ('b', 'a')
    """
    check(least >= 1, f"least: expected at least 1, got {least}")
    counted = Counter(values)
    kept = (value for value, count in counted.items() if count >= least)
    return Vocabulary(tuple(sorted(kept, key=lambda value: (-counted[value], value))), unknown)


def _hash(value: str, salt: int) -> int:
    digest = hashlib.blake2b(value.encode(errors="surrogatepass"), digest_size=8, key=bytes([salt]))
    return int.from_bytes(digest.digest(), "little")
