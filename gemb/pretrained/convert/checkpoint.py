"""What a converter hands over, how it is checked, and how it becomes a folder."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import save_tensors
from gemb.pretrained.modules import WEIGHTS


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model read from a foreign format.

    Attributes:
        config: the content of config.json; the dtype is added on writing.
        tensors: (Hugging Face name, float array) pairs. An iterator will do, so that a large model
            need not lie in memory in float32.
        files: {file name: text} that the source itself provides, such as its tokenizer.json.
    """

    config: dict
    tensors: Iterable[tuple[str, np.ndarray]]
    files: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Written:
    """What a folder got: tensors, the parameters in them, and the bytes of model.safetensors."""

    tensors: int
    parameters: int
    bytes: int


def write(checkpoint: Checkpoint, folder: Path, dtype: str, source: Path) -> Written:
    """Writes config.json, model.safetensors and the checkpoint's own files.

    Args:
        checkpoint: what to write.
        folder: an existing folder.
        dtype: one of DTYPES.
        source: the file that was read, for errors.

    Raises:
        UserError: naming a tensor that is not finite, in itself or in `dtype`.
    """
    tensors = {name: _cast(name, value, dtype, source) for name, value in checkpoint.tensors}
    save_tensors(folder / WEIGHTS, dict(sorted(tensors.items())), {"format": "pt"})
    config = {**checkpoint.config, "torch_dtype": dtype}
    files = {**checkpoint.files, "config.json": json.dumps(config, indent=2) + "\n"}
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    parameters = sum(value.size for value in tensors.values())
    return Written(len(tensors), parameters, (folder / WEIGHTS).stat().st_size)


def check_tensors(found: dict, required: dict, optional: dict, source: Path) -> None:
    """Checks that every tensor is there, known, and of the right shape.

    Args:
        found: {name: shape} of the source.
        required: {name: shape} that must be there.
        optional: {name: shape} that may be there.
        source: the file, for errors.

    Raises:
        UserError: naming the missing, left over or misshapen tensors.
    """
    missing = [name for name in required if name not in found]
    if missing:
        raise UserError(f"{source}: {len(missing)} tensors are missing: {_some(missing)}")
    known = required | optional
    leftover = sorted(set(found) - set(known))
    if leftover:
        raise UserError(f"{source}: {len(leftover)} tensors left over: {_some(leftover)}")
    for name, shape in found.items():
        if tuple(shape) != tuple(known[name]):
            raise UserError(
                f"{source}: tensor {name} has shape {tuple(shape)}, expected {tuple(known[name])}"
            )


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _cast(name: str, value: np.ndarray, dtype: str, source: Path) -> np.ndarray:
    if not np.isfinite(value).all():
        raise UserError(f"{source}: tensor {name} holds NaN or infinity")
    if dtype == "bfloat16":
        import ml_dtypes

        return np.ascontiguousarray(value, ml_dtypes.bfloat16)
    with np.errstate(over="ignore"):
        result = np.ascontiguousarray(value, dtype)
    if not np.isfinite(result).all():
        raise UserError(f"{source}: tensor {name} is too large for {dtype}; take bfloat16")
    return result
