"""Texts and ragged ids to arrays of a few fixed shapes."""

import zlib
from collections.abc import Sequence

import numpy as np

from gemb.structs import Tokens

# Lengths that a batch may have. Fine steps where texts are short: padding stays under 10 % and XLA
# compiles a few dozen programs at the most, which the persistent cache keeps.
BUCKETS = (*range(4, 32, 4), *range(32, 128, 8), *range(128, 257, 16), *range(288, 513, 32))


def bucket(length: int, limit: int) -> int:
    """The shortest bucket that holds `length` tokens, and at most `limit`.

    Example:
        >>> bucket(33, limit=256), bucket(700, limit=1024), bucket(120, limit=120)
        (40, 1024, 120)
    """
    return (
        min((step for step in BUCKETS if step >= length), default=limit)
        if (length < limit)
        else limit
    )


def pad(ids: Sequence[Sequence[int]], length: int, rows: int | None = None) -> Tokens:
    """Pads lists of ids on the right to [rows, length].

    Args:
        ids: one list a row, none longer than `length`.
        length: columns.
        rows: rows; default len(ids). Rows beyond that are empty (mask all False).

    Returns:
        Tokens of numpy int32 ids and bool mask.
    """
    rows = len(ids) if rows is None else rows
    tokens = Tokens(np.zeros((rows, length), np.int32), np.zeros((rows, length), bool))
    for row, values in enumerate(ids):
        tokens.ids[row, : len(values)] = values
        tokens.mask[row, : len(values)] = True
    return tokens


def text_ids(texts: Sequence[str]) -> np.ndarray:
    """A 31-bit hash of each text, by which losses recognise equal texts.

    Example:
        >>> a, b, c = text_ids(["x", "x", "y"])
        >>> bool(a == b), bool(a == c)
        (True, False)
    """
    return np.array([zlib.crc32(text.encode()) & 0x7FFFFFFF for text in texts], np.int32)
