"""Perceptual hashes: pictures that look alike have hashes with few different bits."""

from collections.abc import Sequence

import numpy as np
from scipy.fft import dctn

from gemb.processors.decoding import decode
from gemb.structs import Image

_SIDE, _KEPT = 32, 8
_LANCZOS = 1  # Pillow's number of the filter


def perceptual_hash(image: Image) -> int:
    """pHash: 64 bits, whether each of the 8 x 8 lowest frequencies is above their median.

    Raises:
        UserError: for a picture that cannot be read.

    Reference: Zauner, Implementation and benchmarking of perceptual image hash functions, 2010.
    """
    grey = decode(image).picture.convert("L").resize((_SIDE, _SIDE), _LANCZOS)
    low = dctn(np.asarray(grey, np.float64))[:_KEPT, :_KEPT]
    bits = (low > np.median(low)).ravel()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def near_hashes(hashes: Sequence[int], below: int, block: int = 512) -> np.ndarray:
    """[pairs, 2] of hashes that differ in fewer than `below` bits, the smaller number first.

    Example:
        >>> near_hashes([0, 7, 3], below=2).tolist()
        [[1, 2]]
    """
    values = np.array(hashes, np.uint64)
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(values), block):
        part = values[start : start + block]
        different = np.bitwise_count(part[:, None] ^ values[None, start:])
        left, right = np.nonzero(different < below)
        pairs = np.stack([left, right], 1)
        found.append(pairs[left < right] + start)
    return np.concatenate(found)
