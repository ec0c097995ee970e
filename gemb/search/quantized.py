"""Search over fewer bits: bfloat16, int8 and binary codes, re-scored in float32 or not."""

from pathlib import Path

import numpy as np

from gemb import checks
from gemb.search import searcher
from gemb.search.directions import Directions
from gemb.search.repeats import Repeats
from gemb.search.scan import Scan
from gemb.search.selection import best_rows

PRECISIONS = ("bfloat16", "int8", "binary")
_ROWS = 1 << 15


class QuantizedSearcher:
    """Finds documents by the inner product of their codes.

    bfloat16: rounded. int8: round(127 * x / scale), scale being the largest magnitude of each
    dimension over the corpus; queries stay float32. binary: the sign of each dimension, packed;
    queries too, and the score is (dim - 2 * Hamming distance) / dim.

    Args:
        vectors: [documents, dim] floats.
        precision: "bfloat16", "int8" or "binary".
        rescore: candidates for each document wanted that are scored again in float32, from the
            vectors, which then have to stay at hand (a mapped file will do); 0 for none.

    Raises:
        ValueError: no vectors, values that are not finite, or an unknown precision.

    Example:
        >>> index = QuantizedSearcher(np.eye(8, dtype=np.float32), precision="int8")
        >>> index.bytes_per_vector, index.search(np.eye(8, dtype=np.float32)[2:3], k=1).indices
        (8, array([[2]]))

    Reference: Shakir et al., Binary and scalar embedding quantization for significantly faster and
        cheaper retrieval, 2024 (Hugging Face blog). There int8 has two bounds a dimension; here one
        scale, so that an inner product needs no correction.
    """

    reads = "vectors"

    def __init__(self, vectors: np.ndarray, *, precision: str = "int8", rescore: int = 0):
        checks.check(
            precision in PRECISIONS, f"precision: expected one of {PRECISIONS}, got {precision!r}"
        )
        checks.check(rescore >= 0, f"rescore: expected 0 or more, got {rescore}")
        vectors = searcher.check_corpus("vectors", vectors)
        self._directions = Directions(vectors)
        self._start(precision, rescore, *_encode(vectors, precision))
        self.dim, self._vectors = vectors.shape[1], vectors if rescore else None

    def _start(self, precision: str, rescore: int, codes: np.ndarray, scale: np.ndarray) -> None:
        self.documents, self.precision, self.rescore = len(codes), precision, rescore
        self._codes, self._scale = codes, scale
        if precision != "binary":
            self._scan = Scan(codes, chunk_rows=1 << 16, device_bytes=2 << 30)
            self._repeats = Repeats(codes)

    @property
    def bytes_per_vector(self) -> int:
        """Bytes of a document's codes; re-scoring needs 4 * dim more, which may be on disk."""
        return self._codes.itemsize * self._codes.shape[1]

    def search(self, queries: np.ndarray, k: int) -> searcher.Hits:
        """Finds about the k best documents of each query; see `Searcher.search`."""
        queries = searcher.check_vectors("queries", queries, self.dim)
        searcher.check_k(k)
        count = self._directions.candidates(k * max(1, self.rescore))
        if self.precision == "binary":
            scores, indices = _by_hamming(self._codes, queries, count)
        else:
            found = self._scan.search(queries * self._scale, count)
            scores, indices = self._repeats.settle(*found, count)
        if self.rescore:
            scores = np.empty(indices.shape, np.float32)
            for row, (query, found) in enumerate(zip(queries, indices, strict=True)):
                rows = np.asarray(self._vectors[found], np.float32)
                scores[row] = np.einsum("nd,d->n", rows, query)
        return self._directions.last(scores + np.float32(0), indices, k)

    def save(self, folder: Path) -> dict:
        """Writes codes, scales and, for re-scoring, the vectors; returns the settings."""
        codes = self._codes.view(np.uint16) if self.precision == "bfloat16" else self._codes
        np.save(folder / "codes.npy", codes)
        np.save(folder / "scale.npy", self._scale)
        if self.rescore:
            np.save(folder / "vectors.npy", self._vectors)
        empty = self._directions.empty.tolist()  # binary codes do not tell a zero vector
        settings = {"precision": self.precision, "rescore": self.rescore, "dim": self.dim}
        return settings | {"empty": empty}

    @classmethod
    def load(cls, folder: Path, settings: dict) -> "QuantizedSearcher":
        """Reads what `save` wrote. The vectors to re-score by stay in their file."""
        made = cls.__new__(cls)
        codes = np.load(folder / "codes.npy", allow_pickle=False)
        if settings["precision"] == "bfloat16":
            codes = codes.view(_bfloat16())
        scale = np.load(folder / "scale.npy", allow_pickle=False)
        made._start(settings["precision"], settings["rescore"], codes, scale)
        made._directions = Directions.of(settings["empty"], len(codes))
        made.dim, made._vectors = settings["dim"], None
        columns = -(-made.dim // 8) if made.precision == "binary" else made.dim
        checks.check_shape("codes.npy", codes, (None, columns))
        checks.check_shape("scale.npy", scale, (made.dim,))
        checks.check(bool(np.isfinite(scale).all()), "scale.npy: holds NaN or infinity")
        if made.rescore:
            path = folder / "vectors.npy"
            made._vectors = np.load(path, mmap_mode="r", allow_pickle=False)
            checks.check_shape("vectors.npy", made._vectors, (made.documents, made.dim))
        return made


def _encode(vectors: np.ndarray, precision: str) -> tuple[np.ndarray, np.ndarray]:
    """The codes of a corpus, and what queries are multiplied by, [dim] float32."""
    scale = np.ones(vectors.shape[1], np.float32)
    if precision == "int8":
        largest = np.max([np.abs(c).max(axis=0) for c in _chunks(vectors)], axis=0)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    encoders = {
        "bfloat16": lambda chunk: chunk.astype(_bfloat16()),
        "int8": lambda chunk: np.rint(chunk / scale).astype(np.int8),
        "binary": _pack,
    }
    return np.concatenate([encoders[precision](chunk) for chunk in _chunks(vectors)]), scale


def _chunks(vectors: np.ndarray):
    for start in range(0, len(vectors), _ROWS):
        yield np.asarray(vectors[start : start + _ROWS], np.float32)


def _bfloat16():
    import ml_dtypes

    return ml_dtypes.bfloat16


def _pack(vectors: np.ndarray) -> np.ndarray:
    """Sign bits, [rows, ceil(dim / 8)] uint8; bits past dim are 0."""
    return np.packbits(vectors > 0, axis=1)


def _by_hamming(codes: np.ndarray, queries: np.ndarray, count: int):
    """Scores and row numbers [queries, count] of the codes with the fewest other bits."""
    words = _words(codes)
    dim = queries.shape[1]
    scores = np.empty((len(queries), count), np.float32)
    indices = np.empty((len(queries), count), np.int64)
    for row, query in enumerate(_words(_pack(queries))):
        other = np.zeros(len(codes), np.float32)
        for column, word in zip(words.T, query, strict=True):
            other += np.bitwise_count(column ^ word)
        found = best_rows(-other, count)
        indices[row], scores[row] = found, (dim - 2 * other[found]) / dim
    return scores, indices


def _words(codes: np.ndarray) -> np.ndarray:
    """Codes in words of 8 bytes, each word's column contiguous, filled up with zeros."""
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % 8)))
    return np.asfortranarray(np.ascontiguousarray(padded).view(np.uint64))
