"""Texts and pictures through one transformer, as in Jasper: visual tokens take the place of words.

    picture -> image encoder -> a vector per part -> pool -> visual tokens
    text    -> table of tokens                                       -> tokens
    either  -> the transformer of texts -> pooler and projection of the tower

A text takes the same path as in the text encoder alone, to the bit.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gemb.checks import check
from gemb.models.attention import MASKED
from gemb.models.encoders.text import TextSpec
from gemb.models.execution import Execution
from gemb.models.initial import normal
from gemb.models.layers import Linear, Norm, parameter, rms_normalised
from gemb.models.spec import EncoderSpec, StackSpec
from gemb.structs import Images, Patches, Tokens, Visual

POOLS = ("attention", "adaptive", "linear")
_HEADS = 8


@dataclasses.dataclass(frozen=True)
class VisionLanguageSpec:
    """The spec of an encoder of texts and pictures.

    Attributes:
        text: the text encoder.
        image: the spec of the image encoder.
        tokens: visual tokens of a picture; with "linear", the most.
        pool: how the image encoder's vectors become visual tokens. "attention": a linear map to the
            width of tokens, then one learned query for each visual token attends to them.
            "adaptive": averages over equal parts of the vectors and of their coordinates, without
            parameters (Jasper's own). "linear": each vector is one visual token, normalised by
            "rms" without a scale and mapped to the width of tokens (EmbeddingGemma 2).
        before, after: ids of the tokens around the visual ones, as around every text.

    Reference: Zhang et al., "Jasper and Stella", 2024, arXiv 2412.19048; Liu et al., "Visual
        Instruction Tuning", 2023, arXiv 2304.08485 (a visual token per vector).
    """

    text: TextSpec
    image: Any
    tokens: int = 16
    pool: str = "attention"
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()

    modality: ClassVar[str] = "vision_language"

    def __post_init__(self):
        for name in ("before", "after"):
            ids = tuple(getattr(self, name))
            known = all(0 <= number < self.text.vocab for number in ids)
            check(known, f"{name}: expected ids below {self.text.vocab}, got {ids}")
            object.__setattr__(self, name, ids)
        check(self.tokens > 0, f"tokens: expected 1 or more, got {self.tokens}")
        check(self.pool in POOLS, f"pool: expected one of {POOLS}, got {self.pool!r}")
        check(
            self.image.modality == "image",
            f"image: expected an encoder of pictures, got one of {self.image.modality!r}",
        )
        if self.pool == "linear" and not getattr(self.image, "flexible", True):
            count = self.image.grid[0] * self.image.grid[1] + int(self.image.first)
            fits = count <= self.tokens
            check(fits, f"tokens: the image encoder gives {count} vectors, more than {self.tokens}")
        length, limit = self.tokens + len(self.before) + len(self.after), self.text.max_length
        fits = not limit or length <= limit
        check(fits, f"tokens: {length} with those around them exceed the {limit} positions")

    @property
    def width(self) -> int:
        """Size of the vectors that it gives."""
        return self.text.width

    @property
    def stack(self) -> StackSpec:
        """The text transformer, through which both go."""
        return self.text.stack

    def build(self, key: jax.Array) -> "VisionLanguageEncoder":
        """Builds the encoder with random weights."""
        return VisionLanguageEncoder(self, key=key)


class VisionLanguageEncoder(nnx.Module):
    """A text encoder, an image encoder and the pool between them."""

    def __init__(self, spec: VisionLanguageSpec, *, key: jax.Array):
        keys = jax.random.split(key, 3)
        self.text = spec.text.build(keys[0])
        self.image = spec.image.build(keys[1])
        size = spec.image.width, spec.stack.width
        if spec.pool == "attention":
            self.pool = ProjectionPool(*size, spec.tokens, key=keys[2])
        elif spec.pool == "linear":
            epsilon = (spec.image.stack or spec.stack).norm_epsilon
            self.pool = LinearPool(*size, epsilon, key=keys[2])
        self.spec = spec

    def __call__(
        self,
        inputs: Tokens | Images | Patches | Visual,
        execution: Execution = Execution(),
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
    ) -> jax.Array:
        """Encodes texts, or pictures, or vectors that the image encoder gave before.

        Args:
            inputs: of `batch` rows, all texts or all pictures.
            execution: execution settings.
            key: PRNG key of dropout; None for none.
            every_layer: return the output of each layer of the text transformer.

        Returns:
            [batch, positions, width] or, for every_layer, [layers, batch, positions, width].
        """
        if isinstance(inputs, Tokens):
            return self.text(inputs, execution, key, every_layer=every_layer)
        keys = (None, None) if key is None else jax.random.split(key)
        parts = self.parts(inputs, execution, keys[0])
        x, mask = self._between(self._visual(parts), parts), self.pooled(inputs)
        ids = jnp.full(mask.shape, self._plain_id, jnp.int32)
        return self.text.run(x, ids, mask, execution, keys[1], every_layer=every_layer)

    def _between(self, x: jax.Array, parts: Visual) -> jax.Array:
        """[batch, positions, width]: visual tokens between those that stand around them.

        Where rows have different numbers of visual tokens, padding goes behind all of a row.
        """
        spec, rows = self.spec, len(x)
        outer = [
            jnp.broadcast_to(jnp.asarray(ids, jnp.int32), (rows, len(ids)))
            for ids in (spec.before, spec.after)
        ]
        around = [self.text.embed(ids) for ids in outer]
        x = jnp.concatenate([around[0], x, around[1]], axis=1)
        if spec.pool != "linear":
            return x
        count = parts.mask.sum(1, keepdims=True)
        place = jnp.arange(x.shape[1])
        missing = jnp.where(place < len(spec.before) + count, 0, parts.mask.shape[1] - count)
        source = jnp.minimum(place + missing, x.shape[1] - 1)
        return jnp.take_along_axis(x, source[..., None], axis=1)

    def parts(
        self,
        inputs: Images | Patches | Visual,
        execution: Execution = Execution(),
        key: jax.Array | None = None,
    ) -> Visual:
        """What the image encoder's pooler would see of pictures: its vectors, and which count."""
        if isinstance(inputs, Visual):
            return inputs
        values = self.image(inputs, execution, key)
        return Visual(values.astype(jnp.float32), self.image.pooled(inputs))

    def pooled(self, inputs: Tokens | Images | Patches | Visual) -> jax.Array:
        """[batch, positions] bool: the positions that the pooler sees."""
        if isinstance(inputs, Tokens):
            return self.text.pooled(inputs)
        spec = self.spec
        real = inputs.real.any(axis=1, keepdims=True)
        outer = len(spec.before) + len(spec.after)
        if spec.pool != "linear":
            return jnp.repeat(real, outer + spec.tokens, axis=1)
        parts = inputs.mask if isinstance(inputs, Visual) else self.image.pooled(inputs)
        count = parts.sum(1, keepdims=True)
        return (jnp.arange(outer + parts.shape[1]) < outer + count) & real

    def _visual(self, parts: Visual) -> jax.Array:
        """[batch, tokens, width]: the visual tokens."""
        spec, count = self.spec, parts.values.shape[1]
        if spec.pool == "adaptive":
            return adaptive_pool(parts.values, parts.mask, spec.tokens, spec.stack.width)
        if spec.pool == "attention":
            return self.pool(parts.values, parts.mask)
        check(count <= spec.tokens, f"tokens: {count} visual tokens are more than {spec.tokens}")
        return self.pool(parts.values)

    @property
    def _plain_id(self) -> int:
        """An id that RoBERTa does not take for padding."""
        return self.spec.text.position_offset


class ProjectionPool(nnx.Module):
    """A linear map, then a learned query for each visual token attends to the vectors.

    The positions of the parts are known to the vectors already, so the queries need no other.
    """

    def __init__(self, inputs: int, width: int, tokens: int, *, key: jax.Array):
        keys, axes = jax.random.split(key, 5), ("width", "heads")
        self.project = Linear(inputs, width, ("width", "heads"), key=keys[0])
        self.norm = Norm(width, "layer", 1e-6)
        self.query = parameter(normal(1.0)(keys[1], (tokens, width)), "positions", "width")
        self.key = Linear(width, width, axes, key=keys[2], bias=False)  # softmax would not see one
        self.value = Linear(width, width, axes, key=keys[3])
        self.output = Linear(width, width, axes[::-1], key=keys[4])
        self.heads = next(n for n in range(_HEADS, 0, -1) if width % n == 0)

    def __call__(self, values: jax.Array, mask: jax.Array) -> jax.Array:
        """[batch, parts, inputs] and [batch, parts] bool -> [batch, tokens, width] float32."""
        x = self.norm(self.project(values.astype(jnp.float32)))

        def split(y):
            return y.reshape(*y.shape[:-1], self.heads, -1)

        query = split(self.query.get_value())
        scores = jnp.einsum("nhd,bphd->bhnp", query, split(self.key(x))) * query.shape[-1] ** -0.5
        scores = scores + jnp.where(mask, 0.0, MASKED)[:, None, None]
        weights = jax.nn.softmax(scores, axis=-1)
        mixed = jnp.einsum("bhnp,bphd->bnhd", weights, split(self.value(x)))
        return self.output(mixed.reshape(*mixed.shape[:2], -1))


class LinearPool(nnx.Module):
    """Each vector, of mean square 1, mapped to the width of tokens without a bias."""

    def __init__(self, inputs: int, width: int, epsilon: float, *, key: jax.Array):
        self.project = Linear(inputs, width, ("width", "heads"), key=key, bias=False)
        self.epsilon = epsilon

    def __call__(self, values: jax.Array) -> jax.Array:
        """[batch, parts, inputs] -> [batch, parts, width] float32."""
        return self.project(rms_normalised(values.astype(jnp.float32), self.epsilon))


def counted_parts(spec: EncoderSpec, inputs: Images | Patches) -> np.ndarray:
    """[batch, positions] bool: which of an image encoder's vectors are parts of a picture."""
    encoder = nnx.eval_shape(lambda: spec.build(jax.random.key(0)))
    return np.asarray(encoder.pooled(inputs))


def adaptive_pool(values: jax.Array, mask: jax.Array, tokens: int, width: int) -> jax.Array:
    """Averages over `tokens` parts of the vectors and `width` parts of their coordinates.

    As torch's AdaptiveAvgPool2d((tokens, width)); vectors that do not count are left out of the
    averages, and a part without any is 0.

    Args:
        values: [batch, parts, inputs].
        mask: [batch, parts] bool.
        tokens, width: sizes of the output; larger ones repeat.

    Returns:
        [batch, tokens, width] float32.
    """
    rows = jnp.asarray(_bins(values.shape[1], tokens)) * mask[:, None, :]
    rows = rows / jnp.maximum(rows.sum(-1, keepdims=True), 1)
    columns = _bins(values.shape[2], width)
    columns = jnp.asarray(columns / columns.sum(-1, keepdims=True))
    return jnp.einsum("btp,bpi,wi->btw", rows, values.astype(jnp.float32), columns)


def _bins(size: int, count: int) -> np.ndarray:
    """[count, size] float32: 1 where an input belongs to a part, from floor to ceiling."""
    number, place = np.arange(count)[:, None], np.arange(size)
    first, last = number * size // count, -(-(number + 1) * size // count)
    return ((place >= first) & (place < last)).astype(np.float32)
