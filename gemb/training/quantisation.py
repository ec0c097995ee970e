"""Quantisation-aware training: weights are rounded to 8 bits in the forward pass only."""

import jax
import jax.numpy as jnp


def int8_weights(params: dict) -> dict:
    """Rounds weights to what int8 with one scale per channel can hold; they stay floats.

    w -> s round(w / s), s = max |w| / 127, for each output of a kernel and each row of a table.
    Norms and biases do not change. The gradient is that of w (straight-through).

    Args:
        params: {path: array}; kernels are [inputs, ..., outputs], tables [rows, width].

    Returns:
        {path: array} with the same shapes and dtypes. Rounding twice equals rounding once.

    Example:
        >>> kernel = jnp.array([[127.0], [50.3]])
        >>> int8_weights({"up/kernel": kernel})["up/kernel"].round(4).tolist()
        [[127.0], [50.0]]

    Reference: Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", 2018, arXiv 1712.05877, for weights alone.
    """
    return {path: _rounded(path, value) for path, value in params.items()}


def _rounded(path: str, value: jax.Array) -> jax.Array:
    if path.endswith("/kernel"):
        axes = tuple(range(value.ndim - 1))
    elif path.endswith("/table"):
        axes = (value.ndim - 1,)
    else:
        return value
    scale = jnp.max(jnp.abs(value), axis=axes, keepdims=True) / 127
    scale = jnp.where(scale > 0, scale, 1)
    return value + jax.lax.stop_gradient(jnp.round(value / scale) * scale - value)
