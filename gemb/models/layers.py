"""The parametrised primitives: Linear, Embed, LayerNorm. Everything larger is built of these.

Each parameter carries its logical axes, and each use constrains the weight to its layout at the
point of use, so that FSDP gathers weights and never activations.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.parallel.rules import constrain

INIT_STDDEV = 0.02  # BERT's initializer_range


def parameter(value: jax.Array, *logical_axes) -> nnx.Param:
    """An nnx.Param that knows its logical axes."""
    return nnx.Param(value, logical_axes=logical_axes)


def _use(variable: nnx.Param, dtype) -> jax.Array:
    """The weight as it enters a multiplication: gathered over fsdp, in the compute dtype."""
    axes = variable.get_metadata()["logical_axes"]
    return constrain(variable.get_value().astype(dtype), *axes)


class Linear(nnx.Module):
    """y = x W + b, with W [in, out].

    Args:
        inputs, outputs: sizes.
        axes: logical axes of W, e.g. ("width", "mlp").
        key: PRNG key of the initial W; b starts at zero.
    """

    def __init__(self, inputs: int, outputs: int, axes: tuple, *, key: jax.Array):
        self.kernel = parameter(INIT_STDDEV * jax.random.normal(key, (inputs, outputs)), *axes)
        bias_axis = "norm" if axes[1] == "width" else axes[1]
        self.bias = parameter(jnp.zeros(outputs), bias_axis)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ _use(self.kernel, x.dtype) + _use(self.bias, x.dtype)


class Embed(nnx.Module):
    """A table of vectors [rows, width], looked up by integer ids."""

    def __init__(self, rows: int, width: int, axis: str, *, key: jax.Array):
        self.table = parameter(INIT_STDDEV * jax.random.normal(key, (rows, width)), axis, "width")

    def __call__(self, ids: jax.Array, dtype=jnp.float32) -> jax.Array:
        return jnp.take(_use(self.table, dtype), ids, axis=0)


class LayerNorm(nnx.Module):
    """y = (x - mean) / sqrt(variance + epsilon) * scale + bias over the last axis, in float32."""

    def __init__(self, width: int, epsilon: float):
        self.scale = parameter(jnp.ones(width), "norm")
        self.bias = parameter(jnp.zeros(width), "norm")
        self.epsilon = epsilon

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        mean = x32.mean(-1, keepdims=True)
        variance = jnp.square(x32 - mean).mean(-1, keepdims=True)
        normal = (x32 - mean) * jax.lax.rsqrt(variance + self.epsilon)
        return (normal * self.scale.get_value() + self.bias.get_value()).astype(x.dtype)
