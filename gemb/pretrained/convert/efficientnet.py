"""EfficientNet-Lite in torch's names (efficientnet-lite-pytorch) -> gemb's parameters."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.models.encoders.convolution import ConvolutionSpec
from gemb.pretrained.convert.torch_file import read_state_dict

_EPSILON = 1e-3  # of batch normalisation
_COUNTERS = ".num_batches_tracked"


class Converted(NamedTuple):
    """An image classifier.

    Attributes:
        spec: the spec of its encoder.
        params: {path: float32 array} of the encoder.
        classifier: "kernel" [width, classes] and "bias" [classes] over its mean vector.
    """

    spec: ConvolutionSpec
    params: dict[str, np.ndarray]
    classifier: dict[str, np.ndarray]


def read(source: Path) -> Converted:
    """Reads the .pth file of EfficientNet-Lite0, with batch normalisation folded into the kernels.

    Raises:
        UserError: for a file that is broken or holds another network.
    """
    tensors = read_state_dict(source)
    taken, params, spec = _Taken(tensors, source), {}, ConvolutionSpec()
    params |= taken.folded("image/stem", "_conv_stem", "_bn0", (spec.stem, 3, 3, 3))
    channels, number = spec.stem, 0
    for part in spec.blocks:
        for _ in range(part.count):
            ours, theirs = f"image/blocks/{number}", f"_blocks.{number}"
            inner = channels * part.expansion
            if part.expansion != 1:
                shape = (inner, channels, 1, 1)
                names = f"{theirs}._expand_conv", f"{theirs}._bn0"
                params |= taken.folded(f"{ours}/expand", *names, shape)
            shape = (inner, 1, part.kernel, part.kernel)
            names = f"{theirs}._depthwise_conv", f"{theirs}._bn1"
            params |= taken.folded(f"{ours}/depthwise", *names, shape)
            names = f"{theirs}._project_conv", f"{theirs}._bn2"
            params |= taken.folded(f"{ours}/project", *names, (part.channels, inner, 1, 1))
            channels, number = part.channels, number + 1
    params |= taken.folded("image/head", "_conv_head", "_bn1", (spec.width, channels, 1, 1))
    classes = taken.tensor("_fc.bias", (None,))
    kernel = taken.tensor("_fc.weight", (len(classes), spec.width))
    taken.check_all()
    return Converted(spec, params, {"kernel": kernel.T.copy(), "bias": classes})


class _Taken:
    """Tensors that are taken by name, with their shapes."""

    def __init__(self, tensors: Mapping[str, np.ndarray], source: Path):
        self._tensors, self._source, self._names = tensors, source, set()

    def tensor(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        found = self._tensors.get(name)
        fits = found is not None and len(found.shape) == len(shape) and found.dtype.kind == "f"
        if not fits or any(n not in (None, m) for n, m in zip(shape, found.shape, strict=True)):
            got = "none" if found is None else f"{found.dtype} {found.shape}"
            raise UserError(f"{self._source}: tensor {name}: expected shape {shape}, got {got}")
        self._names.add(name)
        value = np.asarray(found, np.float32)
        if not np.isfinite(value).all():
            raise UserError(f"{self._source}: tensor {name} holds NaN or infinity")
        return value

    def folded(self, path: str, kernel: str, norm: str, shape: tuple) -> dict[str, np.ndarray]:
        """{path/kernel, path/bias}: w' = w g / sqrt(v + e), b' = b - m g / sqrt(v + e)."""
        parts = ("weight", "bias", "running_mean", "running_var")
        gain, bias, mean, variance = (
            self.tensor(f"{norm}.{part}", shape[:1]).astype(np.float64) for part in parts
        )
        factor = gain / np.sqrt(variance + _EPSILON)
        whole = self.tensor(f"{kernel}.weight", shape) * factor[:, None, None, None]
        return {
            f"{path}/kernel": whole.transpose(2, 3, 1, 0).astype(np.float32),
            f"{path}/bias": (bias - mean * factor).astype(np.float32),
        }

    def check_all(self) -> None:
        left = {name for name in self._tensors if not name.endswith(_COUNTERS)} - self._names
        if left:
            raise UserError(f"{self._source}: tensors left over: {', '.join(sorted(left)[:5])}")
