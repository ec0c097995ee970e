"""Texts and ragged ids to arrays of a few fixed shapes."""

import itertools
import zlib
from collections.abc import Sequence

import numpy as np

from gemb.structs import Tokens

# Lengths that a batch may have. Fine steps where texts are short: padding stays under 10 % and XLA
# compiles a few dozen programs at the most, which the persistent cache keeps.
BUCKETS = (*range(4, 32, 2), *range(32, 128, 8), *range(128, 257, 16), *range(288, 513, 32))


def bucket(length: int, limit: int) -> int:
    """The shortest bucket that holds `length` tokens, and at most `limit`.

    Example:
        >>> bucket(33, limit=256), bucket(700, limit=1024), bucket(120, limit=120)
        (40, 1024, 120)
        >>> bucket(58, limit=62)
        62
    """
    return min([limit, *(step for step in BUCKETS if step >= length)])


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


def pack(ids: Sequence[Sequence[int]], length: int) -> tuple[Tokens, np.ndarray]:
    """Packs lists of ids into rows of several texts, longest first, each where it first fits.

    Args:
        ids: one list a text, none longer than `length`.
        length: columns.

    Returns:
        (Tokens with ids [rows, length] and mask [rows, texts, length], places [len(ids), 2]): text
        i is text places[i, 1] of row places[i, 0]. `texts` is the most that a row holds.

    Example:
        >>> tokens, places = pack([[5, 6, 7], [8], [9, 9]], length=4)
        >>> tokens.ids.tolist(), places.tolist()
        ([[5, 6, 7, 8], [9, 9, 0, 0]], [[0, 0], [0, 1], [1, 0]])
        >>> tokens.mask[0].astype(int).tolist()
        [[1, 1, 1, 0], [0, 0, 0, 1]]
    """
    places, free, held = np.zeros((len(ids), 2), np.int32), [], []
    for text in sorted(range(len(ids)), key=lambda text: -len(ids[text])):
        size = len(ids[text])
        row = next((row for row, space in enumerate(free) if space >= size), len(free))
        if row == len(free):
            free.append(length)
            held.append([])
        places[text] = row, len(held[row])
        held[row].append((length - free[row], ids[text]))
        free[row] -= size
    most = max(map(len, held), default=0)
    tokens = Tokens(
        np.zeros((len(held), length), np.int32), np.zeros((len(held), most, length), bool)
    )
    for row, texts in enumerate(held):
        for number, (start, values) in enumerate(texts):
            tokens.ids[row, start : start + len(values)] = values
            tokens.mask[row, number, start : start + len(values)] = True
    return tokens, places


def text_ids(texts: Sequence[str]) -> np.ndarray:
    """A 31-bit hash of each text, by which losses recognise equal texts.

    Example:
        >>> a, b, c = text_ids(["x", "x", "y"])
        >>> bool(a == b), bool(a == c)
        (True, False)
    """
    return np.array([zlib.crc32(text.encode()) & 0x7FFFFFFF for text in texts], np.int32)
