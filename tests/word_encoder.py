"""An encoder for tests: a text is the sum of its words' random vectors, of unit length."""

import functools
import zlib

import numpy as np


class WordEncoder:
    """Looks to curation like a `gemb.Embedder`; remembers what it encoded.

    Args:
        seed: of the words' vectors.
        dim: size of a vector.
        fail_after: calls before one raises KeyboardInterrupt, as a kill would end them.
    """

    def __init__(self, seed=0, dim=24, fail_after=None):
        self.dim, self.seed, self.fail_after = dim, seed, fail_after
        self.fingerprint = f"words-{seed}-{dim}"
        self.encoded = []

    def encode(self, texts, *, kind):
        if self.fail_after is not None and len(self.encoded) >= self.fail_after:
            raise KeyboardInterrupt
        self.encoded.append(list(texts))
        made = np.array([self._vector(text) for text in texts])
        return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)

    def _vector(self, text):
        words = text.lower().split()
        return sum((self._drawn(word) for word in words), np.full(self.dim, 1e-3))

    def _drawn(self, word):
        return _drawn(zlib.crc32(word.encode()) + self.seed, self.dim)


@functools.cache
def _drawn(seed, dim):
    return np.random.default_rng(seed).normal(size=dim)
