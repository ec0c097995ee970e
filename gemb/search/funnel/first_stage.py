"""The first stage of a funnel: a shortlist for each query, handed to a function that finishes it.

XLA scores; on a CPU numpy, in threads, picks the shortlist and re-ranks while XLA scores the next
block of queries. An accelerator picks its shortlist itself.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np

from gemb.search.scan import Scan
from gemb.search.searcher import Hits, Searcher
from gemb.search.selection import best_rows

_BLOCK_BYTES = 16 << 20  # scores in flight: what a CPU's last cache still holds

# (queries, count, finish) -> finish(query, shortlist of about `count` rows, their scores) of each
Stage = Callable[[np.ndarray, int, Callable], Iterator]


def by_full_pass(narrow: np.ndarray) -> Stage:
    """A full pass over narrow vectors [documents, width]."""
    import jax

    return _by_scores(narrow) if jax.default_backend() == "cpu" else _by_device(narrow)


def by_searcher(first: Searcher, width: int) -> Stage:
    """Another searcher, over the narrow vectors."""

    def shortlist(queries: np.ndarray, count: int, finish) -> Iterator:
        found = first.search(np.ascontiguousarray(queries[:, :width]), count)
        return _in_threads(lambda row: _in_order(finish, queries[row], found, row), len(queries))

    return shortlist


def _by_scores(narrow: np.ndarray) -> Stage:
    """The first stage on a CPU: scores by XLA, the shortlist by numpy while XLA continues."""
    import jax

    placed, width = jax.device_put(narrow), narrow.shape[1]
    size = int(np.clip(_BLOCK_BYTES // (4 * len(narrow)), 1, 64))

    def shortlist(queries: np.ndarray, count: int, finish) -> Iterator:
        blocks = [queries[start : start + size] for start in range(0, len(queries), size)]
        full = size if len(blocks) > 1 else None
        ahead = [_scores()(_filled(block[:, :width], full), placed) for block in blocks[:1]]
        for number, block in enumerate(blocks):
            scores = np.asarray(ahead.pop())
            if number + 1 < len(blocks):
                ahead.append(_scores()(_filled(blocks[number + 1][:, :width], full), placed))
            yield from _in_threads(
                lambda row, block=block, scores=scores: _finished(
                    finish, block[row], scores[row], count
                ),
                len(block),
            )

    return shortlist


def _by_device(narrow: np.ndarray) -> Stage:
    """On an accelerator: the shortlist by the device's own top-k."""
    scan, width = Scan(narrow, chunk_rows=1 << 16, device_bytes=8 << 30), narrow.shape[1]

    def shortlist(queries: np.ndarray, count: int, finish) -> Iterator:
        found = Hits(*scan.search(np.ascontiguousarray(queries[:, :width]), count))
        return _in_threads(lambda row: _in_order(finish, queries[row], found, row), len(queries))

    return shortlist


def _in_order(finish, query: np.ndarray, found: Hits, row: int):
    """Hands on one query's shortlist by rising row number, as ties are settled by it."""
    rows = found.indices[row]
    order = np.argsort(rows)[np.count_nonzero(rows < 0) :]
    return finish(query, rows[order], found.scores[row][order])


def _finished(finish, query: np.ndarray, scores: np.ndarray, count: int):
    kept = best_rows(scores, count)
    return finish(query, kept, scores[kept])


def _in_threads(one, count: int) -> Iterator:
    """one(0), one(1), ... by as many threads as there are cores; numpy lets them run at once."""
    if count < 4:
        return map(one, range(count))
    workers = os.cpu_count() or 1
    ranges = np.array_split(np.arange(count), min(count, 2 * workers))
    done = _threads(workers).map(lambda rows: [one(row) for row in rows], ranges)
    return (result for results in done for result in results)


@cache
def _threads(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="funnel")


@cache
def _scores():
    import jax
    import jax.numpy as jnp

    return jax.jit(lambda q, x: jnp.matmul(q, x.T, precision=jax.lax.Precision.HIGHEST))


def _filled(block: np.ndarray, size: int | None) -> np.ndarray:
    """The block with rows of zeros up to `size`, or to the next power of two: few compilations."""
    size = size or 1 << (len(block) - 1).bit_length()
    return np.pad(block, ((0, size - len(block)), (0, 0)))
