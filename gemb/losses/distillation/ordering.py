"""The mean hinge over pairs of numbers that another list of numbers puts in order.

    mean over unordered {a, b} of [aim_a > aim_b] max(0, score_b - score_a + margin)

This module computes it for a few million numbers in three ways: by sorting and counting, block by
block, and by sampling. The numbers are similarities of texts in `jasper`, but may be any.
`real` says which numbers take part.
"""

import jax
import jax.numpy as jnp


def hinge_sorted(scores, aims, real, margin: float) -> jax.Array:
    """The exact value and gradient, by sorting and counting.

    The sum is linear in the scores, each times the number of hinges that it is in with a plus less
    those with a minus; so the counts are all that is needed, value and gradient.

    Args:
        scores: [n] floats, the student's.
        aims: [n] floats, the teacher's.
        real: [n] bool.
        margin: in units of the scores.

    Returns:
        [] float.
    """
    order = jnp.argsort(jnp.where(real, aims, -jnp.inf))
    scores, aims, real = scores[order], aims[order], real[order]
    aims = jnp.where(real, aims, -jnp.inf)
    held = jax.lax.stop_gradient(jnp.where(real, scores, -jnp.inf))
    size = len(scores)
    # with a plus: partners of higher aim whose score is below ours + margin
    above = jnp.searchsorted(aims, aims, side="right")
    ascending = jnp.sort(held)
    low = jnp.searchsorted(ascending, held + margin)
    # with a minus: partners of lower aim whose score is above ours - margin
    below = jnp.searchsorted(aims, aims, side="left")
    high = jnp.searchsorted(ascending, held - margin, side="right")
    count = count_below(held, jnp.concatenate([above, below]), jnp.concatenate([low, high]))
    plus = low - count[:size]  # those below, less those below that stand before `above`
    minus = below - count[size:]
    number = jnp.sum(real, dtype=scores.dtype)
    pairs = jnp.maximum(number * (number - 1) / 2, 1)
    share = jnp.where(real, (plus - minus) / pairs, 0)
    slack = margin * jnp.sum(jnp.where(real, plus / pairs, 0))
    middle = jnp.sum(jnp.where(real, held, 0)) / jnp.maximum(number, 1)
    return jnp.sum(share * jnp.where(real, scores - middle, 0)) + slack


def count_below(values, stop, limit) -> jax.Array:
    """For each query, how many of the first `stop` values are among the `limit` smallest.

    A wavelet matrix: the values' ranks are parted by their bits, highest first, and each query
    follows its limit through the parts, in log2(n) rounds of a running sum and a few look-ups.

    Args:
        values: [n] floats.
        stop: [queries] integers in [0, n].
        limit: [queries] integers in [0, n]; a limit never falls between equal values.

    Returns:
        [queries] int32.
    """
    size = len(values)
    order = jnp.argsort(values)
    ranks = jnp.zeros(size, jnp.int32).at[order].set(jnp.arange(size, dtype=jnp.int32))
    bits = max(size.bit_length(), 1)
    limit = limit.astype(jnp.int32)

    def part(k, state):
        ranks, first, stop, count = state
        bit = bits - 1 - k
        one = (ranks >> bit) & 1
        zeros = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(1 - one, dtype=jnp.int32)])
        begin, end = zeros[first], zeros[stop]
        goes = ((limit >> bit) & 1) == 1
        count = count + jnp.where(goes, end - begin, 0)
        first = jnp.where(goes, zeros[-1] + first - begin, begin)
        stop = jnp.where(goes, zeros[-1] + stop - end, end)
        place = jnp.where(one == 1, zeros[-1] + jnp.arange(size) - zeros[:-1], zeros[:-1])
        return jnp.zeros_like(ranks).at[place].set(ranks), first, stop, count

    first = jnp.zeros_like(limit)
    state = (ranks, first, stop.astype(jnp.int32), first)
    return jax.lax.fori_loop(0, bits, part, state)[3]


def hinge_blockwise(scores, aims, real, margin: float, block: int) -> jax.Array:
    """The exact value, hinge by hinge, with memory for n * block of them; see `hinge_sorted`."""

    @jax.checkpoint
    def row(one):
        score, aim, mine = one
        hinge = jax.nn.relu(scores - score + margin)
        return jnp.sum(jnp.where(mine & real & (aim > aims), hinge, 0))

    number = jnp.sum(real, dtype=scores.dtype)
    pairs = jnp.maximum(number * (number - 1) / 2, 1)
    return jnp.sum(jax.lax.map(row, (scores, aims, real), batch_size=block) / pairs)


def hinge_sampled(scores, aims, real, margin: float, samples: int, key) -> jax.Array:
    """An unbiased estimate from `samples` pairs drawn evenly, with replacement."""
    number = jnp.sum(real)
    drawn = jax.random.uniform(key, (2, samples), scores.dtype)
    first = jnp.minimum((drawn[0] * number).astype(jnp.int32), number - 1)
    other = jnp.minimum((drawn[1] * (number - 1)).astype(jnp.int32), number - 2)
    other = other + (other >= first)  # any but the first
    places = jnp.argsort(~real, stable=True)
    a, b = places[first], places[other]
    order = jnp.sign(aims[a] - aims[b])
    hinge = jax.nn.relu(order * (scores[b] - scores[a]) + margin)
    return jnp.where(number > 1, jnp.mean(jnp.where(order != 0, hinge, 0)), 0)
