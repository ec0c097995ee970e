"""Random numbers and orders as functions of (seed, place): nothing to store, nothing to replay.

The k-th record of a task draws the same numbers on whichever host and after whichever restart.
"""

import numpy as np

_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio
_ROUNDS = 6


def bits(seed: int, *keys) -> np.ndarray:
    """Hashes (seed, keys) to uniform 64-bit integers.

    Args:
        seed: any integer.
        *keys: integers or integer arrays, broadcast against each other.

    Returns:
        uint64 of the keys' common shape.

    Reference: Steele et al., Fast Splittable Pseudorandom Number Generators, 2014 (SplitMix64's
        finaliser, here chained over the keys).
    """
    value = _mix(np.array([seed % 2**64], np.uint64))
    for key in keys:
        value = _mix(value ^ (np.atleast_1d(key).astype(np.uint64) * _STEP))
    return value


def uniform(seed: int, *keys) -> np.ndarray:
    """As `bits`, float64 in [0, 1).

    Example:
        >>> draws = uniform(0, np.arange(10_000))
        >>> bool(abs(draws.mean() - 0.5) < 0.01), draws.shape
        (True, (10000,))
    """
    return (bits(seed, *keys) >> np.uint64(11)) * 2.0**-53


def spread(seed: int, places: np.ndarray) -> np.ndarray:
    """A sequence in [0, 1) that fills every interval almost evenly: frac(offset + place * golden).

    Of any n consecutive places the share that falls in an interval is right to O(log n / n); drawn
    at random it would be to O(1 / sqrt n).

    Args:
        seed: shifts the sequence.
        places: [n] integers.

    Returns:
        [n] float64.
    """
    turns = np.asarray(places).astype(np.uint64) * _STEP + bits(seed)
    return (turns >> np.uint64(11)) * 2.0**-53


def permuted(positions: np.ndarray, size: int, seed: int, epochs: np.ndarray) -> np.ndarray:
    """Entries of random orders of range(size), one order an epoch, without making the orders.

    Args:
        positions: [n] integers in [0, size).
        size: how many are put in order.
        seed: of the orders.
        epochs: [n] integers: which order each position is looked up in.

    Returns:
        [n] int64; over all positions of one epoch every number below `size` comes once.

    Example:
        >>> sorted(permuted(np.arange(7), 7, seed=3, epochs=np.zeros(7, int)).tolist())
        [0, 1, 2, 3, 4, 5, 6]

    Reference: Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002: a Feistel network,
        walked until it falls inside the range.
    """
    half = np.uint64(max((int(size - 1).bit_length() + 1) // 2, 1))
    low = np.uint64(2 ** int(half) - 1)
    keys = [bits(seed, turn, epochs) for turn in range(_ROUNDS)]
    values = np.array(positions, np.uint64)
    outside = np.ones(len(values), bool)
    while outside.any():
        left, right = values[outside] >> half, values[outside] & low
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key[outside]) & low)
        values[outside] = (left << half) | right
        outside &= values >= np.uint64(size)
    return values.astype(np.int64)


def _mix(value: np.ndarray) -> np.ndarray:
    value = value + _STEP
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
