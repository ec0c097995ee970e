"""Span corruption of token ids, all rows at once.

Rows of different lengths are kept end to end in one flat array with their lengths: no padding,
no loop over rows.

Reference: Raffel et al., Exploring the Limits of Transfer Learning (T5), 2020, arXiv 1910.10683.
"""

from collections.abc import Callable, Sequence

import numpy as np

from gemb.checks import check

Draw = Callable[[int, int], np.ndarray]  # (stream, columns) -> [rows, columns] uniform in [0, 1)


def noise_mask(
    lengths: np.ndarray,
    draw: Draw,
    *,
    density: float = 0.15,
    mean_length: float = 3.0,
    t5: bool = False,
) -> np.ndarray:
    """Chooses spans to mask: of L tokens about density * L, in spans of `mean_length` on average.

    The lengths of spans and of the gaps between them are uniform over all ways to cut their sums.
    Fractions are rounded up or down at random, so that means are right for short rows too; at least
    one token is masked and one is kept, where a row has two.

    Args:
        lengths: [rows] tokens of each row.
        draw: (stream, columns) -> [rows, columns] uniform numbers; uses streams 0 to 3.
        density: masked tokens over all tokens, in (0, 1).
        mean_length: tokens of a span on average, at least 1.
        t5: T5's own form: fractions go to the nearest, rows start unmasked and end masked. Two
            draws of it are not independent at the ends.

    Returns:
        [sum of lengths] bool, True where masked.

    Raises:
        ValueError: for a density or mean_length out of range.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> mask = noise_mask(np.array([10, 20]), lambda _, n: rng.random((2, n)), density=0.5)
        >>> mask.shape, int(mask[:10].sum()), int(mask[10:].sum())
        ((30,), 5, 10)
    """
    check(0 < density < 1, f"density: expected a number in (0, 1), got {density}")
    check(mean_length >= 1, f"mean_length: expected at least 1, got {mean_length}")
    lengths = np.asarray(lengths, np.int64)
    if not lengths.sum():
        return np.zeros(0, bool)
    some = lengths >= 2
    rounded = (lambda value, _: np.round(value)) if t5 else _rounded
    noise = rounded(lengths * density, draw(0, 1)[:, 0]).astype(np.int64)
    noise = np.where(some, np.clip(noise, 1, np.maximum(lengths - 1, 1)), 0)
    kept = lengths - noise
    spans = rounded(noise / mean_length, draw(1, 1)[:, 0]).astype(np.int64)
    most = np.minimum(noise, kept if t5 else kept + 1)
    spans = np.where(some, np.clip(spans, 1, np.maximum(most, 1)), 0)
    width = int(spans.max())
    masked = _parts(noise, spans, width, draw, 2)
    if t5:
        gaps = np.zeros((len(lengths), width + 1), np.int64)
        gaps[:, :width] = _parts(kept, spans, width, draw, 3)
        gaps[~some, 0] = lengths[~some]
    else:  # the first and the last gap may be empty
        gaps = _parts(kept + 2, spans + 1, width + 1, draw, 3)
        gaps[:, 0] -= 1
        gaps[np.arange(len(gaps)), spans] -= 1
    runs = np.zeros((len(lengths), 2 * width + 1), np.int64)
    runs[:, 0::2], runs[:, 1::2] = gaps, masked
    return np.repeat(np.arange(runs.size) % runs.shape[1] % 2 == 1, runs.ravel())


def replace_spans(
    ids: np.ndarray, lengths: np.ndarray, mask: np.ndarray, sentinels: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Puts one sentinel in the place of each masked span, or nothing.

    Args:
        ids: [sum of lengths] the rows' ids, end to end.
        lengths: [rows].
        mask: [sum of lengths] bool, as for `noise_mask`.
        sentinels: ids: the n-th span of a row becomes the n-th of them, further ones the last;
            none drops spans.

    Returns:
        (ids, lengths) of what is left.

    Example:
        >>> ids, mask = np.array([5, 6, 7, 8]), np.array([False, True, True, False])
        >>> replace_spans(ids, np.array([4]), mask, [99])
        (array([ 5, 99,  8]), array([3]))
    """
    rows = np.repeat(np.arange(len(lengths)), lengths)
    if not len(sentinels):
        keep = ~mask
        return ids[keep], np.bincount(rows[keep], minlength=len(lengths))
    starts = np.cumsum(lengths) - lengths
    before = np.empty_like(mask)
    before[:1], before[1:] = False, mask[:-1]
    before[starts[lengths > 0]] = False
    first = mask & ~before
    count = np.cumsum(first)
    number = count - np.concatenate([[0], count])[np.repeat(starts, lengths)] - 1
    table = np.asarray(sentinels, ids.dtype)
    ids = np.where(first, table[np.clip(number, 0, len(table) - 1)], ids)
    keep = ~mask | first
    return ids[keep], np.bincount(rows[keep], minlength=len(lengths))


def inputs_and_targets(
    ids: np.ndarray, draw: Draw, sentinels: Sequence[int], end: int, **noise
) -> tuple[np.ndarray, np.ndarray]:
    """T5's denoising form of rows of one length: what is left, and what was taken out.

    Args:
        ids: [rows, length] token ids.
        draw: as in `noise_mask`.
        sentinels: ids of the sentinels, the first span's first, as many as spans may come.
        end: id put at the end of both.
        **noise: density and mean_length of `noise_mask`.

    Returns:
        inputs [rows, n] and targets [rows, m]; n and m depend on `length` alone.

    Raises:
        ValueError: if there are fewer sentinels than spans.

    Example:
        >>> draw = lambda stream, n: np.full((1, n), 0.5)
        >>> inputs, targets = inputs_and_targets(np.arange(10, 20)[None], draw, [99, 98, 97], 1)
        >>> inputs.shape, targets.shape  # two of ten tokens masked, in one span
        ((1, 10), (1, 4))
    """
    rows, length = ids.shape
    lengths = np.full(rows, length)
    mask = noise_mask(lengths, draw, t5=True, **noise)
    flat = ids.ravel()
    sides = []
    for masked in (mask, ~mask):
        kept, sizes = replace_spans(flat, lengths, masked, sentinels)
        sides.append(np.concatenate([kept.reshape(rows, -1), np.full((rows, 1), end)], axis=1))
        spans = int(sizes[0] - (~masked[:length]).sum()) if rows else 0
        check(
            spans <= len(sentinels),
            f"sentinels: expected at least {spans}, one per span, got {len(sentinels)}",
        )
    return sides[0].astype(ids.dtype), sides[1].astype(ids.dtype)


def windows(lengths: np.ndarray, most: int, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cuts one stretch of at most `most` tokens out of each row.

    Args:
        lengths: [rows].
        most: tokens of a stretch.
        places: [rows] uniform numbers that say where.

    Returns:
        [sum of lengths] bool, True inside; and the new lengths [rows].
    """
    kept = np.minimum(lengths, most)
    begin = np.floor(places * (lengths - kept + 1)).astype(np.int64)
    runs = np.stack([begin, kept, lengths - begin - kept], axis=1)
    return np.repeat(np.arange(runs.size) % 3 == 1, runs.ravel()), kept


def _rounded(value: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Up or down at random, so that the mean is the value."""
    return np.floor(value + draws)


def _parts(total: np.ndarray, parts: np.ndarray, width: int, draw: Draw, stream: int) -> np.ndarray:
    """Cuts each total into that many parts of at least 1, uniformly; [rows, width], zeros after."""
    columns = max(int(total.max()), 1)
    slots = np.arange(columns)
    draws = draw(stream, columns)
    draws = np.where(slots < (total - 1)[:, None], draws, 2.0)  # a cut after item j, but the last
    cuts = int(max(parts.max() - 1, 0))
    runs = np.zeros((len(total), width), np.int64)
    if cuts:
        chosen = np.argpartition(draws, min(cuts, columns - 1), axis=1)[:, :cuts]
        order = np.take_along_axis(draws, chosen, 1).argsort(1)
        chosen = np.take_along_axis(chosen, order, 1) + 1  # smallest draws first
        unused = np.arange(cuts) >= (parts - 1)[:, None]
        chosen = np.sort(np.where(unused, total[:, None], chosen), axis=1)
        ends = np.concatenate([chosen, total[:, None]], axis=1)
    else:
        ends = total[:, None]
    sizes = np.diff(ends, axis=1, prepend=0)
    runs[:, : sizes.shape[1]] = sizes[:, :width]
    return np.where(parts[:, None] > 0, runs, 0)
