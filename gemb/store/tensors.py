"""Writing safetensors files: arrays of any strides, readable to whom the umask lets read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def save_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None
) -> None:
    """Writes named arrays into one file.

    safetensors itself writes an array's memory as it lies, which is wrong for a slice or a
    transpose, and for its owner's eyes alone.

    Args:
        path: the file; its folder must exist.
        tensors: {name: array}.
        metadata: texts to keep in the header.
    """
    from safetensors.numpy import save_file

    path.touch()
    mode = path.stat().st_mode & 0o777
    whole = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    save_file(whole, path, metadata=metadata)
    path.chmod(mode)
