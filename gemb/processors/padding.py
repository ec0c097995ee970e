"""Texts and ragged ids to arrays of a few fixed shapes."""

import itertools
from collections.abc import Sequence

import numpy as np

from gemb.structs import Tokens

# Lengths that a batch may have. Fine steps where texts are short: padding stays under 10 % and XLA
# compiles a few dozen programs at the most, which the persistent cache keeps.
BUCKETS = (*range(4, 32, 2), *range(32, 128, 8), *range(128, 257, 16), *range(288, 513, 32))


def bucket(length: int, limit: int) -> int:
    """The shortest bucket that holds `length` tokens, and at most `limit`.

    Beyond BUCKETS it is a power of 2.

    Example:
        >>> bucket(33, limit=256), bucket(700, limit=1024), bucket(120, limit=120)
        (40, 1024, 120)
        >>> bucket(58, limit=62)
        62
    """
    longer = 1 << max(length - 1, BUCKETS[-1]).bit_length()
    return min([limit, longer, *(step for step in BUCKETS if step >= length)])


def pad(
    ids: Sequence[Sequence[int]],
    length: int,
    rows: int | None = None,
    unpooled: int | Sequence[int] = 0,
) -> Tokens:
    """Pads lists of ids on the right to [rows, length].

    Args:
        ids: one list a row, none longer than `length`.
        length: columns.
        rows: rows; default len(ids). Rows beyond that are empty (mask all False).
        unpooled: leading tokens that the pooler does not see, of all rows or of each.

    Returns:
        Tokens of numpy int32 ids and bool masks.
    """
    rows = len(ids) if rows is None else rows
    sizes = np.zeros(rows, np.int64)
    sizes[: len(ids)] = [len(values) for values in ids]
    tokens = Tokens(np.zeros((rows, length), np.int32), np.arange(length) < sizes[:, None])
    tokens.ids[tokens.mask] = np.fromiter(itertools.chain.from_iterable(ids), np.int32, sizes.sum())
    if isinstance(unpooled, int) and not unpooled:
        return tokens
    seen = np.arange(length) >= np.reshape(unpooled, (-1, 1))
    return tokens._replace(pooled=tokens.mask & seen)
