"""Files of vectors that carry the fingerprint of their model and of their texts.

A cosine between vectors of two models is noise that looks like a score, so a file is only read for
the model and the texts it was made with.
"""

from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_file, save_tensors


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
