"""The vision transformer: pixels or patches to a vector per patch."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gemb.checks import check
from gemb.models.block import stack_norm
from gemb.models.execution import Execution
from gemb.models.initial import normal
from gemb.models.layers import Embed, Linear, dropout, parameter
from gemb.models.spec import StackSpec, shown
from gemb.models.stack import Stack
from gemb.structs import Images, Patches

POSITIONS = ("learned", "sincos", "rotary", "axes", "none")


@dataclasses.dataclass(frozen=True)
class VisionSpec:
    """The spec of a vision transformer.

    Attributes:
        size: height and width of a picture; with `flexible` of the picture that the table of
            positions was made for, or with "axes" of the largest one.
        patch: height and width of a patch.
        stack: the transformer over the patches.
        positions: "learned": a table; "sincos": fixed sines and cosines of row and column;
            "rotary": queries and keys are turned by row and column; "axes": a table of rows and one
            of columns, and queries and keys are turned by both, unscaled; or "none".
        first: whether a learned vector ([CLS]) precedes the patches.
        registers: learned vectors behind it, which no pooler sees.
        first_position: whether the table has a row for the first vector.
        pools_first: whether poolers see the first vector.
        patch_bias: whether the patch embedding has a bias.
        embedding_norm: whether a norm follows the embeddings (CLIP).
        flexible: whether it reads `Patches` of pictures of any size (NaFlex), not `Images`.
        theta: base of the wavelengths of "rotary" and "axes".
        merge: the vectors of merge x merge neighbouring patches are averaged and multiplied by
            the root of the width; they are consecutive in `Patches`.

    Reference: Dosovitskiy et al., "An Image is Worth 16x16 Words", 2020, arXiv 2010.11929;
        Darcet et al., "Vision Transformers Need Registers", 2023, arXiv 2309.16588; Tschannen et
        al., "SigLIP 2", 2025, arXiv 2502.14786 (NaFlex); Simeoni et al., "DINOv3", 2025, arXiv
        2508.10104 (rotary). "axes" and `merge` are those of Gemma 4.
    """

    size: tuple[int, int]
    patch: int
    stack: StackSpec
    positions: str = "learned"
    first: bool = True
    registers: int = 0
    first_position: bool = True
    pools_first: bool = True
    patch_bias: bool = True
    embedding_norm: bool = False
    flexible: bool = False
    theta: float = 100.0
    merge: int = 1

    modality: ClassVar[str] = "image"

    def __repr__(self) -> str:
        """Without what is as usual and was not there once: fingerprints are made of it."""
        return shown(self, hidden=("merge",))

    def __post_init__(self):
        object.__setattr__(self, "size", tuple(self.size))
        whole = self.patch > 0 and all(side > 0 and side % self.patch == 0 for side in self.size)
        check(whole, f"patch: {self.patch} does not divide the size {self.size}")
        known = self.positions in POSITIONS
        check(known, f"positions: expected one of {POSITIONS}, got {self.positions!r}")
        fits = self.positions != "sincos" or self.stack.width % 4 == 0
        check(fits, f"positions: sincos needs a width that 4 divides, got {self.stack.width}")
        fits = self.positions not in ("rotary", "axes") or self.stack.head_size % 4 == 0
        what = f"{self.positions} needs heads that 4 divides, got {self.stack.head_size}"
        check(fits, f"positions: {what}")
        fits = not self.flexible or self.positions in ("learned", "axes")
        check(fits, f"flexible: positions must be learned or axes, got {self.positions!r}")
        check(self.flexible or self.positions != "axes", "positions: axes needs flexible")
        check(self.merge > 0, f"merge: expected 1 or more, got {self.merge}")
        fits = self.merge == 1 or (self.flexible and not self.leading)
        check(fits, "merge: only of flexible encoders without vectors before the patches")

    @property
    def width(self) -> int:
        """Hidden size."""
        return self.stack.width

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def leading(self) -> int:
        """Vectors before the patches: the first one and the registers."""
        return int(self.first) + self.registers

    def build(self, key: jax.Array) -> "VisionEncoder":
        """Builds the encoder with random weights."""
        return VisionEncoder(self, key=key)


class VisionEncoder(nnx.Module):
    """Patch embedding, positions, first vector and registers, then the transformer stack."""

    def __init__(self, spec: VisionSpec, *, key: jax.Array):
        keys, width = jax.random.split(key, 5), spec.width
        inputs = spec.patch * spec.patch * 3
        axes = ("positions", "width")
        self.patch = Linear(inputs, width, axes, key=keys[0], bias=spec.patch_bias)
        if spec.first:
            self.first = parameter(normal()(keys[1], (width,)), "norm")
        if spec.registers:
            self.registers = parameter(normal()(keys[2], (spec.registers, width)), *axes)
        if spec.positions == "learned":
            rows = spec.grid[0] * spec.grid[1] + int(spec.first and spec.first_position)
            draw = normal(width**-0.5)
            self.position = Embed(rows, width, axes, key=keys[3], initial=draw)
        if spec.positions == "axes":
            self.position = Embed(sum(spec.grid), width, axes, key=keys[3])
        if spec.embedding_norm:
            self.norm = stack_norm(spec.stack)
        self.stack = Stack(spec.stack, key=keys[4])
        self.spec = spec

    def __call__(
        self,
        inputs: Images | Patches,
        execution: Execution = Execution(),
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
    ) -> jax.Array:
        """Encodes pictures.

        Args:
            inputs: of `batch` rows; Patches if the spec is flexible.
            execution: execution settings.
            key: PRNG key of dropout; None for none.
            every_layer: return the output of each layer of the stack.

        Returns:
            [batch, leading + patches / merge**2, width] or, for every_layer, [layers, batch, ...],
            in the compute dtype; patches row by row.

        Raises:
            ValueError: for pixels of another size.
        """
        spec = self.spec
        keys = (None, None) if key is None else jax.random.split(key)
        values = inputs.values if spec.flexible else self._patches(inputs.pixels)
        x = self.patch(values.astype(jnp.float32))
        first = self.first.get_value() if spec.first else None
        if spec.positions == "sincos":
            x = x + jnp.asarray(sincos(*spec.grid, spec.width))
        elif spec.positions == "learned":
            table = self.position.table.get_value()
            if spec.first and spec.first_position:
                first, table = first + table[0], table[1:]
            x = x + (self._resized(table, inputs) if spec.flexible else table)
        elif spec.positions == "axes":
            x = x + self.position(inputs.column) + self.position(inputs.row + spec.grid[1])
        x = self._with_leading(x, first)
        if spec.embedding_norm:
            x = self.norm(x)
        x = dropout(x, execution.dropout, keys[0]).astype(execution.dtype)
        mask, turn = self._mask(inputs), self._turn(inputs)
        x = self.stack(x, mask, execution, keys[1], every_layer=every_layer, turn=turn)
        return self._merged(x) if spec.merge > 1 else x

    def pooled(self, inputs: Images | Patches) -> jax.Array:
        """[batch, leading + patches / merge**2] bool: the positions that the pooler sees."""
        spec, mask = self.spec, self._mask(inputs)
        if spec.merge > 1:
            return mask[:, :: spec.merge**2]
        place = jnp.arange(mask.shape[1])
        seen = place >= spec.leading
        if spec.first and spec.pools_first:
            seen = seen | (place == 0)
        return mask & seen

    def _mask(self, inputs: Images | Patches) -> jax.Array:
        spec = self.spec
        if not spec.flexible:
            patches = spec.grid[0] * spec.grid[1]
            return jnp.broadcast_to(
                inputs.mask[:, None], (inputs.mask.shape[0], spec.leading + patches)
            )
        leading = jnp.repeat(inputs.mask.any(1, keepdims=True), spec.leading, axis=1)
        return jnp.concatenate([leading, inputs.mask], axis=1)

    def _patches(self, pixels: jax.Array) -> jax.Array:
        """[batch, height, width, 3] -> [batch, patches, patch * patch * 3]."""
        spec, (rows, columns) = self.spec, self.spec.grid
        fits = pixels.shape[1:] == (*spec.size, 3)
        check(fits, f"pixels: expected [batch, {spec.size}, 3], got shape {pixels.shape}")
        x = pixels.reshape(pixels.shape[0], rows, spec.patch, columns, spec.patch, 3)
        return x.transpose(0, 1, 3, 2, 4, 5).reshape(pixels.shape[0], rows * columns, -1)

    def _with_leading(self, x: jax.Array, first: jax.Array | None) -> jax.Array:
        parts = [] if first is None else [first[None]]
        if self.spec.registers:
            parts.append(self.registers.get_value())
        if not parts:
            return x
        leading = jnp.concatenate(parts)
        leading = jnp.broadcast_to(leading, (x.shape[0], *leading.shape))
        return jnp.concatenate([leading, x], axis=1)

    def _resized(self, table: jax.Array, inputs: Patches) -> jax.Array:
        """[batch, patches, width]: the table as if resized to the grid of each picture."""
        weights = []
        for places, size in ((inputs.row, self.spec.grid[0]), (inputs.column, self.spec.grid[1])):
            count = jnp.where(inputs.mask, places, 0).max(1, keepdims=True) + 1
            weights.append(bilinear(places, count, size))
        both = weights[0][..., :, None] * weights[1][..., None, :]
        return both.reshape(*both.shape[:2], -1) @ table

    def _merged(self, x: jax.Array) -> jax.Array:
        """[..., patches, width] -> [..., patches / merge**2, width], computed in float32."""
        cells = x.reshape(*x.shape[:-2], -1, self.spec.merge**2, x.shape[-1]).astype(jnp.float32)
        return (cells.mean(-2) * self.spec.width**0.5).astype(x.dtype)

    def _turn(self, inputs: Images | Patches) -> tuple[jax.Array, jax.Array] | None:
        """Cosine and sine of the angles of rotary positions, see `gemb.models.positions.rotate`.

        rotary: a patch's row and column are scaled to -1 ... 1; each takes half of the pairs.
        Leading vectors are not turned. axes: half of each head is turned by the column, the other
        half by the row.
        """
        spec = self.spec
        size = spec.stack.head_size
        if spec.positions == "axes":
            frequency = spec.theta ** -(np.arange(0, 1, 4 / size))
            places = jnp.stack([inputs.column, inputs.row], axis=-1)[:, None, :, :, None]
            angle = places.astype(jnp.float32) * jnp.asarray(frequency, jnp.float32)
            return jnp.cos(angle), jnp.sin(angle)
        if spec.positions != "rotary":
            return None
        frequency = 2 * np.pi * spec.theta ** -(np.arange(0, 1, 4 / size))
        row, column = np.divmod(np.arange(spec.grid[0] * spec.grid[1]), spec.grid[1])
        places = [(2 * (row + 0.5) / spec.grid[0] - 1), (2 * (column + 0.5) / spec.grid[1] - 1)]
        angle = np.concatenate([place[:, None] * frequency for place in places], axis=1)
        angle = np.concatenate([np.zeros((spec.leading, size // 2)), angle])
        angle = jnp.asarray(angle, jnp.float32)[None, None]
        return jnp.cos(angle), jnp.sin(angle)


def bilinear(places: jax.Array, count: jax.Array, size: int) -> jax.Array:
    """The weights of `size` old places in each new one, of an antialiased bilinear resize.

    Args:
        places: [batch, n] int32, of `count` new places.
        count: [batch, 1] int32; any number, more or fewer than `size`.
        size: old places.

    Returns:
        [batch, n, size] float32, each row sums to 1; as torch's interpolate with antialias and
        without align_corners.
    """
    scale = size / count.astype(jnp.float32)
    centre = ((places + 0.5) * scale)[..., None]
    reach = jnp.maximum(scale, 1.0)[..., None]
    weights = jnp.maximum(0.0, 1 - jnp.abs(jnp.arange(size) + 0.5 - centre) / reach)
    return weights / jnp.maximum(weights.sum(-1, keepdims=True), 1e-9)


def sincos(rows: int, columns: int, width: int) -> np.ndarray:
    """[rows * columns, width] float32: sin x, cos x, sin y, cos y, a quarter each.

    Reference: Beyer et al., "Better plain ViT baselines for ImageNet-1k", 2022, arXiv 2205.01580.
    """
    y, x = np.divmod(np.arange(rows * columns), columns)
    omega = 1 / 10_000 ** (np.arange(width // 4) / max(width // 4 - 1, 1))
    parts = [f(place[:, None] * omega) for place in (x, y) for f in (np.sin, np.cos)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def resized_positions(
    table: np.ndarray, old: tuple[int, int], new: tuple[int, int], leading: int = 0
) -> np.ndarray:
    """A table of learned positions for another grid, as transformers resizes it.

    Args:
        table: [leading + rows * columns, width].
        old, new: rows and columns of the grids.
        leading: rows before those of patches, which stay.

    Returns:
        [leading + new rows * new columns, width] float32, by bicubic interpolation (a = -0.75, no
        antialias, no align_corners) in each direction.
    """
    body = np.asarray(table[leading:], np.float64).reshape(*old, -1)
    for axis in (0, 1):
        if old[axis] != new[axis]:
            body = np.moveaxis(
                np.tensordot(_bicubic(old[axis], new[axis]), body, (1, axis)), 0, axis
            )
    body = body.reshape(new[0] * new[1], -1).astype(np.float32)
    return np.concatenate([np.asarray(table[:leading], np.float32), body])


def _bicubic(old: int, new: int, a: float = -0.75) -> np.ndarray:
    """[new, old]: the weights of old places; those outside count as the last inside."""
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    start = np.floor(centre).astype(int)
    weights = np.zeros((new, old))
    for offset in range(-1, 3):
        x = np.abs(centre - (start + offset))
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * (x**3 - 5 * x**2 + 8 * x - 4)
        place = np.clip(start + offset, 0, old - 1)
        np.add.at(weights, (np.arange(new), place), np.where(x <= 1, near, far))
    return weights
