"""The video encoder: frames to a vector per frame, which may look at each other."""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.execution import Execution
from gemb.models.layers import Embed
from gemb.models.poolers import LEARNED_POOLERS, POOLERS
from gemb.models.spec import POOLINGS, StackSpec
from gemb.models.stack import Stack
from gemb.structs import Clips, Images


@dataclasses.dataclass(frozen=True)
class VideoSpec:
    """The spec of a video encoder; the tower's pooler makes one vector of the frames' vectors.

    Attributes:
        frame: the spec of the image encoder of each frame.
        pooling: how the vectors of a frame become one, one of POOLINGS.
        frames: frames of the longest video.
        time: a transformer over the frames, of the same width; None for none: then their order
            does not count, unless the pooler looks at it.
    """

    frame: Any
    pooling: str = "cls"
    frames: int = 8
    time: StackSpec | None = None

    modality: ClassVar[str] = "video"

    def __post_init__(self):
        known = self.pooling in POOLINGS
        check(known, f"pooling: expected one of {POOLINGS}, got {self.pooling!r}")
        fits = self.time is None or self.time.width == self.frame.width
        check(fits, f"time: expected a width of {self.frame.width}, as the frames have")
        check(self.frames > 0, f"frames: expected 1 or more, got {self.frames}")

    @property
    def width(self) -> int:
        """Size of the vectors."""
        return self.frame.width

    @property
    def stack(self) -> StackSpec | None:
        """The transformer over the frames, else that of the image encoder."""
        return self.time or self.frame.stack

    def build(self, key: jax.Array) -> "VideoEncoder":
        """Builds the encoder with random weights."""
        return VideoEncoder(self, key=key)


class VideoEncoder(nnx.Module):
    """An image encoder for each frame, its pooler, then positions and a transformer over frames."""

    def __init__(self, spec: VideoSpec, *, key: jax.Array):
        keys = jax.random.split(key, 4)
        self.frame = spec.frame.build(keys[0])
        if spec.pooling in LEARNED_POOLERS:
            self.pooler = LEARNED_POOLERS[spec.pooling](spec.frame, key=keys[1])
        if spec.time is not None:
            self.position = Embed(spec.frames, spec.width, ("positions", "width"), key=keys[2])
            self.time = Stack(spec.time, key=keys[3])
        self.spec = spec

    def __call__(
        self,
        inputs: Clips,
        execution: Execution = Execution(),
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
    ) -> jax.Array:
        """Encodes videos.

        Args:
            inputs: of `batch` rows; or, in place of pixels, what `frames` gives for them.
            execution: execution settings.
            key: PRNG key of dropout; None for none.
            every_layer: return the output of each layer over the frames.

        Returns:
            [batch, frames, width] or, for every_layer, [layers, batch, frames, width].

        Raises:
            ValueError: for every_layer without a transformer over frames.
        """
        keys = (None, None) if key is None else jax.random.split(key)
        known = inputs.pixels.ndim == 3
        x = inputs.pixels if known else self.frames(inputs, execution, keys[0])
        if self.spec.time is None:
            check(not every_layer, "every_layer: no transformer over frames")
            return x
        x = (x + self.position(jnp.arange(x.shape[1]))).astype(execution.dtype)
        return self.time(x, inputs.mask, execution, keys[1], every_layer=every_layer)

    def frames(
        self, inputs: Clips, execution: Execution = Execution(), key: jax.Array | None = None
    ) -> jax.Array:
        """[batch, frames, width]: each frame alone, before the frames look at each other."""
        pooling, (batch, frames) = self.spec.pooling, inputs.mask.shape
        pixels = inputs.pixels.reshape(batch * frames, *inputs.pixels.shape[2:])
        pictures = Images(pixels, inputs.mask.reshape(-1))
        hidden = self.frame(pictures, execution, key)
        pooler = self.pooler if pooling in LEARNED_POOLERS else POOLERS[pooling]
        return pooler(hidden, self.frame.pooled(pictures)).reshape(batch, frames, -1)

    def pooled(self, inputs: Clips) -> jax.Array:
        """[batch, frames] bool: the frames that there are."""
        return inputs.mask
