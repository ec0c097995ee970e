"""A model for tests: a text is the sum of its words' vectors; it counts what it encodes."""

import zlib

import numpy as np

from gemb.identity import Space

LIMIT = 8  # words that are read of a text


class WordEncoding:
    """`gemb.release.encoding.Encoding`, without weights.

    Args:
        seed: of the words' vectors; another seed is another space.
        dim: size of a vector.
        drift: how far vectors are from those of the fingerprint, as if by other hardware.
    """

    def __init__(self, seed: int = 0, dim: int = 16, drift: float = 0.0):
        self.fingerprint, self.dim = f"words {seed}", dim
        self.space = Space(self.fingerprint, self.fingerprint, dim, True)
        self.alignment, self.folder, self.widths = None, None, (dim,)
        self.encoded, self._seed, self._drift = [], seed, drift

    def encode(self, texts, *, kind):
        self.encoded += texts
        return np.stack([self.vector(text, kind) for text in texts])

    def full(self, texts, *, kind):
        return np.stack([self.vector(text, kind) for text in texts])

    def vector(self, text: str, kind: str = "document") -> np.ndarray:
        words = [kind, *text.split()[:LIMIT]]
        made = sum(self._drawn(word) for word in words) + self._drift * self._drawn("drift")
        return (made / np.linalg.norm(made)).astype(np.float32)

    def _drawn(self, word: str) -> np.ndarray:
        seed = [zlib.crc32(word.encode()), self._seed]
        return np.random.default_rng(seed).normal(size=self.dim)

    def contents(self, texts, kind):
        return [" ".join(text.split()[:LIMIT]).encode() for text in texts]
