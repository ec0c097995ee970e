"""A small convolutional image encoder: EfficientNet-Lite.

Depthwise convolutions are shifted multiply-adds: on CPUs XLA takes five times as long for its own.
Batch normalisation is folded into the kernels, so there is none here.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.execution import Execution
from gemb.models.initial import normal
from gemb.models.layers import parameter
from gemb.structs import Images


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Inverted residual blocks of one width.

    Attributes:
        expansion: inner channels over input channels; 1 for no expansion.
        channels: output channels.
        kernel: side of the depthwise kernel.
        stride: of the first block; the others have 1.
        count: number of blocks.
    """

    expansion: int
    channels: int
    kernel: int
    stride: int
    count: int


# EfficientNet-B0's; the Lite form has no squeeze-and-excitation and clips at 6
_B0 = (
    Blocks(1, 16, 3, 1, 1), Blocks(6, 24, 3, 2, 2), Blocks(6, 40, 5, 2, 2), Blocks(6, 80, 3, 2, 3),
    Blocks(6, 112, 5, 1, 3), Blocks(6, 192, 5, 2, 4), Blocks(6, 320, 3, 1, 1),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class ConvolutionSpec:
    """The spec of a convolutional image encoder; the defaults are EfficientNet-Lite0.

    Attributes:
        stem: channels of the first convolution, 3 x 3 with stride 2.
        blocks: the blocks after it.
        width: channels of the last convolution, 1 x 1: the size of the vectors.
        size: height and width of a picture.

    Reference: Tan and Le, EfficientNet, 2019, arXiv 1905.11946; Liu, Higher accuracy on vision
        models with EfficientNet-Lite, 2020.
    """

    stem: int = 32
    blocks: tuple[Blocks, ...] = _B0
    width: int = 1280
    size: tuple[int, int] = (224, 224)

    modality: ClassVar[str] = "image"
    stack: ClassVar[None] = None

    def __post_init__(self):
        sizes = (self.stem, self.width, *self.size)
        for part in self.blocks:
            sizes += dataclasses.astuple(part)
        whole = all(type(size) is int and size > 0 for size in sizes) and len(self.size) == 2
        check(whole, f"sizes: expected whole numbers above 0, got {sizes}")

    def build(self, key: jax.Array) -> "ConvolutionEncoder":
        """Builds the encoder with random weights."""
        return ConvolutionEncoder(self, key=key)


class ConvolutionEncoder(nnx.Module):
    """Stem, inverted residual blocks, last convolution."""

    def __init__(self, spec: ConvolutionSpec, *, key: jax.Array):
        keys = iter(jax.random.split(key, 2 + sum(part.count for part in spec.blocks)))
        self.stem = Convolution(3, 3, spec.stem, stride=2, key=next(keys))
        made, channels = [], spec.stem
        for part in spec.blocks:
            for number in range(part.count):
                stride = part.stride if number == 0 else 1
                made.append(InvertedResidual(part, channels, stride, key=next(keys)))
                channels = part.channels
        self.blocks = nnx.List(made)
        self.head = Convolution(1, channels, spec.width, key=next(keys))
        self.spec = spec

    def __call__(
        self,
        inputs: Images,
        execution: Execution = Execution(),
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
    ) -> jax.Array:
        """Encodes pictures.

        Args:
            inputs: of `batch` rows.
            execution: execution settings; only `dtype` counts.
            key: not used: there is no dropout.
            every_layer: refused.

        Returns:
            [batch, positions, width], row by row: of Lite0 one for each 32 x 32 pixels.

        Raises:
            ValueError: for every_layer, or pixels of another size.
        """
        check(not every_layer, "every_layer: a convolutional encoder has no layers of one width")
        shape = tuple(inputs.pixels.shape[1:3])
        check(shape == self.spec.size, f"pixels: expected {self.spec.size}, got {shape}")
        x = relu6(self.stem(inputs.pixels.astype(execution.dtype)))
        for block in self.blocks:
            x = block(x)
        x = relu6(self.head(x))
        return x.reshape(x.shape[0], -1, x.shape[-1])

    def pooled(self, inputs: Images) -> jax.Array:
        """[batch, positions] bool: all positions of real pictures."""
        rows, columns = inputs.pixels.shape[1:3]
        for stride in (2, *(part.stride for part in self.spec.blocks)):
            rows, columns = -(-rows // stride), -(-columns // stride)
        return jnp.repeat(inputs.mask[:, None], rows * columns, axis=1)


class InvertedResidual(nnx.Module):
    """Expansion, depthwise convolution, linear projection; added to the input where shapes allow.

    Reference: Sandler et al., MobileNetV2, 2018, arXiv 1801.04381.
    """

    def __init__(self, part: Blocks, channels: int, stride: int, *, key: jax.Array):
        keys = jax.random.split(key, 3)
        inner = channels * part.expansion
        if part.expansion != 1:
            self.expand = Convolution(1, channels, inner, key=keys[0])
        self.depthwise = Depthwise(part.kernel, inner, stride, key=keys[1])
        self.project = Convolution(1, inner, part.channels, key=keys[2])
        self.expands = part.expansion != 1
        self.residual = stride == 1 and channels == part.channels

    def __call__(self, x: jax.Array) -> jax.Array:
        inner = relu6(self.expand(x)) if self.expands else x
        made = self.project(relu6(self.depthwise(inner)))
        return made + x if self.residual else made


class Convolution(nnx.Module):
    """A convolution with a bias, padded as TensorFlow's "SAME": [batch, height, width, channels].

    A kernel of side 1 is a matrix product.
    """

    def __init__(self, side: int, inputs: int, outputs: int, *, stride: int = 1, key: jax.Array):
        deviation = (2 / (side * side * inputs)) ** 0.5
        shape = (side, side, inputs, outputs)
        self.kernel = parameter(normal(deviation)(key, shape), None, None, None, None)
        self.bias = parameter(jnp.zeros(outputs), None)
        self.stride = stride

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel.get_value().astype(x.dtype)
        bias = self.bias.get_value().astype(x.dtype)
        if kernel.shape[:2] == (1, 1):
            return x @ kernel[0, 0] + bias
        made = jax.lax.conv_general_dilated(
            x, kernel, (self.stride, self.stride), "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )  # fmt: skip
        return made + bias


class Depthwise(nnx.Module):
    """A convolution of each channel with its own kernel, by shifted multiply-adds."""

    def __init__(self, side: int, channels: int, stride: int, *, key: jax.Array):
        draw = normal((2 / (side * side)) ** 0.5)
        self.kernel = parameter(draw(key, (side, side, 1, channels)), None, None, None, None)
        self.bias = parameter(jnp.zeros(channels), None)
        self.side, self.stride = side, stride

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.kernel.get_value().astype(x.dtype)
        side, stride = self.side, self.stride
        sizes = [-(-length // stride) for length in x.shape[1:3]]
        missing = [
            max((made - 1) * stride + side - length, 0)
            for made, length in zip(sizes, x.shape[1:3], strict=True)
        ]
        edges = [(0, 0), *((n // 2, n - n // 2) for n in missing), (0, 0)]
        padded = jnp.pad(x, edges)
        total = self.bias.get_value().astype(x.dtype)
        for row in range(side):
            for column in range(side):
                ends = [
                    start + (length - 1) * stride + 1
                    for start, length in zip((row, column), sizes, strict=True)
                ]
                part = padded[:, row : ends[0] : stride, column : ends[1] : stride]
                total = total + part * kernel[row, column, 0]
        return total


def relu6(x: jax.Array) -> jax.Array:
    """max(0, min(x, 6))."""
    return jnp.clip(x, 0, 6)
