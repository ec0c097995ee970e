"""Files of vectors that carry the fingerprint of their model and of their texts.

A cosine between vectors of two models is noise that looks like a score, so a file is only read for
the model and the texts it was made with.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb import checks
from gemb.cache import atomic_file
from gemb.checks import UserError
from gemb.store.tensors import save_tensors


def texts_fingerprint(texts: Sequence[str]) -> str:
    """Hashes a list of texts, order included, to 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode(errors="surrogatepass")  # what reads the text tells of those
        digest.update(f"{len(encoded)} ".encode() + encoded)
    return digest.hexdigest()[:32]


def save_vectors(path: Path, vectors: np.ndarray, *, model: str, texts: str) -> None:
    """Writes vectors [rows, dim] float32 with the two fingerprints.

    Raises:
        UserError: when the disk is full or the place cannot be written.
    """
    with atomic_file(path) as temporary:
        save_tensors(temporary, {"vectors": vectors}, {"model": model, "texts": texts})


def load_vectors(path: Path, *, model: str, texts: str) -> np.ndarray:
    """Reads vectors [rows, dim] float32.

    Args:
        path: the file.
        model: the fingerprint of the model that will query them.
        texts: the fingerprint of the texts that they should stand for.

    Raises:
        UserError: if the file is missing, broken, of another model or of other texts.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            found = file.metadata() or {}
            vectors = file.get_tensor("vectors")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    for what, expected in {"model": model, "texts": texts}.items():
        if found.get(what) != expected:
            raise UserError(
                f"{path}: made with another {what} (fingerprint {found.get(what)}, expected "
                f"{expected}); delete it to have it made again"
            )
    return vectors


def truncate(vectors: np.ndarray, width: int, name: str = "vectors") -> np.ndarray:
    """Keeps the first coordinates of each vector and makes it unit length again.

    Args:
        vectors: [rows, dim] floats.
        width: coordinates to keep, 1 to dim.
        name: what the caller calls the vectors.

    Returns:
        [rows, width] float32 of unit length.

    Raises:
        ValueError: a width outside 1 to dim, a value that is not finite, or a row whose first
            `width` coordinates are all zero: it has no direction.

    Example:
        >>> truncate(np.array([[3.0, 4.0, 12.0]]), 2)
        array([[0.6, 0.8]], dtype=float32)
    """
    checks.check_rank(name, vectors, 2)
    (width,) = checks.check_widths("width", [width], vectors.shape[1])
    kept = np.asarray(vectors[:, :width], dtype=np.float32)
    lengths = np.linalg.norm(kept.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        row = int(np.argmin(np.isfinite(lengths)))
        raise checks.ArgumentError(
            f"{name}: expected finite values, got NaN or infinity in row {row}"
        )
    if not lengths.all():
        row = int(np.argmin(lengths))
        raise checks.ArgumentError(
            f"{name}: row {row} is zero in its first {width} coordinates, so its cosine is "
            "undefined; drop the row or encode it again"
        )
    return (kept / lengths).astype(np.float32)
