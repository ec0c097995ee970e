"""Where a token stands: positions from masks, rotary angles, T5's relative buckets."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from gemb.models.spec import Rotary


def frequencies(rotary: Rotary, size: int) -> np.ndarray:
    """[size / 2] float64: radians a position, for heads of `size`."""
    frequency = rotary.theta ** (-np.arange(0, size, 2) / size)
    if rotary.scaling == "default":
        return frequency
    if rotary.scaling == "linear":
        return frequency / rotary.factor
    turns = rotary.original_length * frequency / (2 * np.pi)
    smooth = (turns - rotary.low_factor) / (rotary.high_factor - rotary.low_factor)
    smooth = np.clip(smooth, 0, 1)
    return frequency * (smooth + (1 - smooth) / rotary.factor)


def positions(mask: jax.Array) -> jax.Array:
    """The place of each token in its own text, 0 for the first real one.

    Args:
        mask: [batch, length] bool.

    Returns:
        [batch, length] int32; the same under left and right padding; 0 at padding.

    Example:
        >>> positions(jnp.array([[False, True, True], [True, True, False]])).tolist()
        [[0, 0, 1], [0, 1, 0]]
    """
    return jnp.where(mask, jnp.cumsum(mask, axis=-1, dtype=jnp.int32) - 1, 0)


def angles(rotary: Rotary, places: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of each token's angles.

    Args:
        rotary: the layer's.
        places: [batch, length] int32.
        size: of one head.

    Returns:
        Two [batch, 1, length, size / 2] float32.
    """
    # float32 as the published implementations: the same rounding at long positions
    frequency = jnp.asarray(frequencies(rotary, size), jnp.float32)
    angle = places[:, None, :, None].astype(jnp.float32) * frequency
    return jnp.cos(angle), jnp.sin(angle)


def rotate(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Turns each pair (i, i + size / 2) of x [batch, heads, length, size] by its angle."""
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    return jnp.concatenate(turned, axis=-1).astype(x.dtype)


def relative_buckets(length: int, buckets: int, distance: int) -> np.ndarray:
    """T5's bidirectional buckets of key position minus query position.

    Half of the buckets are for keys behind the query. Of each half, half hold one distance each,
    the rest logarithmic ranges up to `distance`, beyond which all share the last.

    Returns:
        [length, length] int32, [query, key].

    Reference: Raffel et al., "T5", 2020, arXiv 1910.10683.
    """
    gap = np.arange(-distance, distance + 1)  # all that is further shares the last bucket
    half, size = buckets // 2, np.abs(gap)
    exact = half // 2
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    far = exact + (ratio / np.float32(math.log(distance / exact)) * (half - exact)).astype(np.int32)
    table = half * (gap > 0) + np.where(size < exact, size, np.minimum(far, half - 1))
    xp = np if isinstance(length, int) else jnp  # exported programs have a symbolic length
    place = xp.arange(length)
    gap = xp.clip(place[None, :] - place[:, None], -distance, distance)
    return xp.asarray(table.astype(np.int32))[gap + distance]
