"""Nearest neighbours of sampled rows, by cosine, in blocks of a corpus of any size."""

import numpy as np

_BLOCK = 16_384  # rows scored at a time


def unit(vectors: np.ndarray) -> np.ndarray:
    """[rows, dim] float32 of unit length; a zero row stays zero."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    return rows / np.where(lengths > 0, lengths, 1)[:, None]


def nearest(
    corpus: np.ndarray, queries: np.ndarray, k: int, skip: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The k rows of the highest cosine with each query.

    Args:
        corpus: [rows, dim] floats, possibly mapped from disk.
        queries: [queries, dim] floats.
        k: at most rows - 1.
        skip: [queries] a row of the corpus to leave out for each query: itself.

    Returns:
        [queries, k] rows, best first (equal ones in the order of the corpus), and their cosines.
    """
    asked, count = unit(queries), len(queries)
    scores = np.zeros((count, 0), np.float32)
    rows = np.zeros((count, 0), np.int64)
    for start in range(0, len(corpus), _BLOCK):
        block = asked @ unit(corpus[start : start + _BLOCK]).T
        if skip is not None:
            inside = (skip >= start) & (skip < start + block.shape[1])
            block[inside, skip[inside] - start] = -np.inf
        numbers = np.broadcast_to(np.arange(start, start + block.shape[1]), block.shape)
        kept = min(k, block.shape[1])
        best = np.argpartition(-block, kept - 1, axis=1)[:, :kept]
        scores = np.concatenate([scores, np.take_along_axis(block, best, 1)], 1)
        rows = np.concatenate([rows, np.take_along_axis(numbers, best, 1)], 1)
        order = np.lexsort((rows, -scores))[:, :k]
        scores = np.take_along_axis(scores, order, 1)
        rows = np.take_along_axis(rows, order, 1)
    return rows, scores


def overlaps(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[queries] the share of neighbours that two lists of k have in common."""
    return np.array([len(set(a) & set(b)) / len(a) for a, b in zip(left, right, strict=True)])


def rank_biased_overlap(left: np.ndarray, right: np.ndarray, p: float = 0.9) -> np.ndarray:
    """Agreement of rankings that weighs the first places most.

    RBO = sum_d p^(d-1) |left_1..d & right_1..d| / d, over sum_d p^(d-1), d = 1..k

    Args:
        left: [queries, k] rows, best first.
        right: [queries, k] rows.
        p: weight of each further place.

    Returns:
        [queries] in [0, 1].

    Reference: Webber, Moffat and Zobel, A similarity measure for indefinite rankings, 2010; here
        the sum ends at k and is divided by its largest value.
    """
    depth = left.shape[1]
    weights = p ** np.arange(depth)
    shares = np.stack([overlaps(left[:, :d], right[:, :d]) for d in range(1, depth + 1)], axis=1)
    return shares @ weights / weights.sum()
