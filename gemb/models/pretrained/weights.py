"""safetensors files to and from parameters, each tensor checked and used exactly once.

Nothing is ever unpickled: only safetensors is read.
"""

from pathlib import Path

import numpy as np

from gemb.checks import UserError, suggest
from gemb.models.embedder import ModelSpec
from gemb.models.functional import functional
from gemb.models.pretrained import bert


def read_tensors(file: Path) -> dict[str, np.ndarray]:
    """Reads a .safetensors file.

    Raises:
        UserError: if it is missing, truncated or not a safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not file.exists():
        raise UserError(f"{file}: no such file; fetch the model again with `gemb fetch --force`")
    try:
        return load_file(file)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: not a readable safetensors file ({error}); fetch it again with --force"
        ) from None


def params_from_tensors(tensors: dict, spec: ModelSpec, source) -> tuple[dict, dict]:
    """Renames and transposes published tensors.

    Args:
        tensors: tensor name -> array, as read from the file.
        spec: the model they should fill.
        source: what to call the file in errors.

    Returns:
        (params, unused): flat float32 parameters, and known tensors that no embedding needs.

    Raises:
        UserError: naming a missing, left over, misshapen or not finite tensor.
    """
    tensors = {name.removeprefix(bert.PREFIX): value for name, value in tensors.items()}
    shapes = {path: leaf.shape for path, leaf in functional(spec).shapes.items()}
    params = {}
    for path, (name, transposed) in bert.tensor_names(spec.text).items():
        if name not in tensors:
            raise UserError(f"{source}: tensor {name} is missing.{suggest(name, tensors)}")
        value = np.asarray(tensors.pop(name), np.float32)
        value = value.T if transposed else value
        if value.shape != shapes[path]:
            expected = shapes[path][::-1] if transposed else shapes[path]
            shown = value.T.shape if transposed else value.shape
            raise UserError(f"{source}: tensor {name} has shape {shown}, expected {expected}")
        if not np.isfinite(value).all():
            raise UserError(f"{source}: tensor {name} holds NaN or infinity")
        params[path] = np.ascontiguousarray(value)
    leftover = sorted(set(tensors) - set(bert.UNUSED))
    if leftover:
        raise UserError(f"{source}: {len(leftover)} tensors left over: {', '.join(leftover[:5])}")
    return params, tensors


def tensors_from_params(params: dict, unused: dict, spec: ModelSpec) -> dict[str, np.ndarray]:
    """The inverse of `params_from_tensors`, for saving."""
    tensors = dict(unused)
    for path, (name, transposed) in bert.tensor_names(spec.text).items():
        value = np.asarray(params[path], np.float32)
        tensors[name] = np.ascontiguousarray(value.T if transposed else value)
    return tensors
