"""Where a token stands: positions from masks, rotary angles, T5's relative buckets."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from gemb.models.spec import Rotary


def frequencies(rotary: Rotary, size: int, *, long: bool = False) -> np.ndarray:
    """[size / 2] float64: radians a position, for heads of `size`.

    Args:
        rotary: the layer's.
        size: of one head.
        long: whether for texts of more than rotary.original_length tokens, of longrope.
    """
    frequency = rotary.theta ** (-np.arange(0, size, 2) / size)
    if rotary.scaling == "linear":
        return frequency / rotary.factor
    if rotary.scaling == "longrope":
        return frequency / np.array(rotary.long_factors if long else rotary.short_factors)
    if rotary.scaling == "llama3":
        turns = rotary.original_length * frequency / (2 * np.pi)
        smooth = (turns - rotary.low_factor) / (rotary.high_factor - rotary.low_factor)
    elif rotary.scaling == "yarn":
        smooth = 1 - _ramp(rotary, size)
    else:
        return frequency
    smooth = np.clip(smooth, 0, 1)
    return frequency * (smooth + (1 - smooth) / rotary.factor)


def _ramp(rotary: Rotary, size: int) -> np.ndarray:
    """[size / 2]: 0 up to the place of the last frequency that yarn keeps, 1 from the first that it
    divides."""

    def place(turns: float) -> float:
        waves = rotary.original_length / (turns * 2 * math.pi)
        return size * math.log(waves) / (2 * math.log(rotary.theta))

    low, high = place(rotary.high_factor), place(rotary.low_factor)
    if rotary.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, size - 1)
    high += 0.001 if low == high else 0
    return (np.arange(size // 2) - low) / (high - low)


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
    if rotary.scaling in ("dynamic", "longrope"):
        frequency = _by_length(rotary, places, size, frequency)[:, None, None, :]
    angle = places[:, None, :, None].astype(jnp.float32) * frequency
    return jnp.cos(angle) * rotary.attention_factor, jnp.sin(angle) * rotary.attention_factor


def _by_length(rotary: Rotary, places: jax.Array, size: int, short: jax.Array) -> jax.Array:
    """[batch, size / 2]: the frequencies of each text, which depend on its own length.

    transformers takes the longest text of a batch; here a vector does not depend on its batch.
    """
    length = places.max(-1, keepdims=True) + 1
    if rotary.scaling == "longrope":
        long = jnp.asarray(frequencies(rotary, size, long=True), jnp.float32)
    else:
        stretch = rotary.factor * length / rotary.original_length - (rotary.factor - 1)
        base = rotary.theta * jnp.maximum(stretch, 1.0) ** (size / (size - 2))
        long = base ** (-jnp.arange(0, size, 2) / size)
    return jnp.where(length > rotary.original_length, long, short)


def rotate(x: jax.Array, cosine: jax.Array, sine: jax.Array) -> jax.Array:
    """Turns each pair of x [batch, heads, length, size] by its angle.

    Args:
        x: vectors of heads.
        cosine, sine: [batch, 1, length, size / 2]: pairs are (i, i + size / 2); or, of one more
            axis, [batch, 1, length, parts, size / (2 parts)]: each part of a head is turned by
            itself.
    """
    parts = x if cosine.ndim == x.ndim else x.reshape(*x.shape[:-1], cosine.shape[-2], -1)
    first, second = jnp.split(parts.astype(jnp.float32), 2, axis=-1)
    turned = (first * cosine - second * sine, second * cosine + first * sine)
    return jnp.concatenate(turned, axis=-1).astype(x.dtype).reshape(x.shape)


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
