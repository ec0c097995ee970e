"""What a funnel does, and what it costs: widths, shortlists and floating-point operations."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from gemb import checks


class Policy(NamedTuple):
    """A cascade: a full pass at the first width, then ever shorter lists at ever wider ones.

    Attributes:
        widths: leading coordinates used by each stage, rising; the last is the whole vector.
        shortlists: documents that each stage but the last hands on, falling.

    Example:
        >>> Policy((16, 64, 384), (200, 50)).flops(1000)  # 2 * (1000*16 + 200*64 + 50*384)
        96000

    Reference: Kusupati et al., Matryoshka representation learning, 2022, arXiv 2205.13147, 4.3.1.
    """

    widths: tuple[int, ...]
    shortlists: tuple[int, ...]

    def flops(self, documents: int) -> int:
        """Multiplications and additions of one query: 2 * sum of documents scored * width."""
        scored = (documents, *(min(count, documents) for count in self.shortlists))
        return 2 * sum(n * width for n, width in zip(scored, self.widths, strict=True))


def full_flops(documents: int, dim: int) -> int:
    """What exact search at full width costs a query, see `Policy.flops`."""
    return 2 * documents * dim


def check_policy(widths: Sequence[int], shortlists: Sequence[int], dim: int) -> Policy:
    """Checks a cascade for vectors of `dim`.

    Returns:
        The Policy, of plain ints.

    Raises:
        ValueError: widths that do not rise to `dim`, shortlists that rise, or one too few or many.
    """
    widths, shortlists = tuple(map(int, widths)), tuple(map(int, shortlists))
    rising = all(a < b for a, b in itertools.pairwise(widths))
    checks.check(
        bool(widths) and widths[0] >= 1 and rising and widths[-1] == dim,
        f"widths: expected rising widths that end at dim {dim}, got {widths}",
    )
    checks.check(
        len(shortlists) == len(widths) - 1,
        f"shortlists: expected one for each width but the last, {len(widths) - 1}, "
        f"got {len(shortlists)}",
    )
    falling = all(a >= b for a, b in itertools.pairwise(shortlists))
    checks.check(
        falling and all(count >= 1 for count in shortlists),
        f"shortlists: expected falling counts of 1 or more, got {shortlists}",
    )
    return Policy(widths, shortlists)
