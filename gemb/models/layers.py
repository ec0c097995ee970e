"""The basic modules: Linear, Embed, Norm, and dropout. All other modules are built from them.

Each parameter has logical axes, and each use constrains the weight to its layout at the
point of use, so that FSDP gathers weights and never activations.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gemb.models.initial import normal
from gemb.parallel.rules import constrain


def parameter(value: jax.Array, *logical_axes) -> nnx.Param:
    """An nnx.Param with logical axes."""
    return nnx.Param(value, logical_axes=logical_axes)


def _use(variable: nnx.Param, dtype) -> jax.Array:
    """The weight for a multiplication: gathered over fsdp, in the compute dtype."""
    axes = variable.get_metadata()["logical_axes"]
    return constrain(variable.get_value().astype(dtype), *axes)


_FEW_ROWS = 128  # of a product, up to which W^T x^T beats x W on a CPU


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TransposedKernel:
    """A kernel W of `Linear` that is kept as W^T, for encoding few tokens on a CPU.

    XLA's CPU products copy W into panels each time, which costs more than a product of few rows;
    W^T x^T copies x instead.

    Attributes:
        values: [out, in].
    """

    values: jax.Array

    @classmethod
    def of(cls, kernel: np.ndarray) -> "TransposedKernel":
        """Of W [in, out]."""
        return cls(np.ascontiguousarray(kernel.T))

    def product(self, x: jax.Array) -> jax.Array:
        """[..., in] -> [..., out]."""
        if math.prod(x.shape[:-1]) > _FEW_ROWS:
            return jnp.matmul(x, self.values.T)
        rows = x.reshape(-1, x.shape[-1])
        made = jax.lax.dot_general(self.values, rows, (((1,), (1,)), ((), ())))
        # without the barrier XLA turns this back into x W
        return jax.lax.optimization_barrier(made).T.reshape(*x.shape[:-1], -1)


class Linear(nnx.Module):
    """y = x W + b, with W [in, out]; with LoRA y = x W + b + scale (x A) B.

    Args:
        inputs, outputs: sizes.
        axes: logical axes of W, e.g. ("width", "mlp").
        key: PRNG key of the initial W; b and B start at zero.
        bias: whether b exists.
        initial: (key, shape) -> the initial W.
        lora_rank: columns of A and rows of B; 0 for none.
        lora_scale: factor of the low-rank part (alpha / rank).

    Reference: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021,
        arXiv 2106.09685.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        axes: tuple,
        *,
        key: jax.Array,
        bias: bool = True,
        initial: Callable = normal(),
        lora_rank: int = 0,
        lora_scale: float = 1.0,
    ):
        keys = jax.random.split(key)
        self.kernel = parameter(initial(keys[0], (inputs, outputs)), *axes)
        if bias:
            bias_axis = "norm" if axes[1] == "width" else axes[1]
            self.bias = parameter(jnp.zeros(outputs), bias_axis)
        if lora_rank:
            small = jax.random.normal(keys[1], (inputs, lora_rank)) * inputs**-0.5
            self.lora_a = parameter(small, axes[0], "rank")
            self.lora_b = parameter(jnp.zeros((lora_rank, outputs)), "rank", axes[1])
        self.has_bias, self.lora_scale = bias, lora_scale if lora_rank else 0.0

    def __call__(self, x: jax.Array, matmul_dtype: str = "") -> jax.Array:
        """[..., in] -> [..., out]; operands are rounded to `matmul_dtype` (see Execution)."""
        times = rounded_matmul if matmul_dtype else jnp.matmul
        kernel = self.kernel.get_value()
        if isinstance(kernel, TransposedKernel):
            y = kernel.product(x)
        else:
            y = times(x, _use(self.kernel, kernel.dtype if matmul_dtype else x.dtype))
        if self.has_bias:
            y = y + _use(self.bias, x.dtype)
        if self.lora_scale:
            low = times(times(x, _use(self.lora_a, x.dtype)), _use(self.lora_b, x.dtype))
            y = y + self.lora_scale * low
        return y


@jax.custom_vjp
def rounded_matmul(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x W with operands rounded to bfloat16 and sums in float32; likewise for both gradients.

    Args:
        x: [..., in] float32.
        kernel: [in, out] float32 or bfloat16; its gradient has the same dtype.

    Returns:
        [..., out] float32.

    Reference: Micikevicius et al., "Mixed Precision Training", 2018, arXiv 1710.03740.
    """
    return _rounded_matmul_forward(x, kernel)[0]


def _rounded_matmul_forward(x, kernel):
    like = jnp.empty(0, kernel.dtype)
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    return jnp.matmul(x, kernel, preferred_element_type=jnp.float32), (x, kernel, like)


def _rounded_matmul_backward(saved, gradient):
    x, kernel, like = saved
    gradient = gradient.astype(jnp.bfloat16)
    # no transposed copies: XLA's fast CPU kernels need these forms
    of_x = jnp.einsum("...o,io->...i", gradient, kernel, preferred_element_type=jnp.float32)
    rows = tuple(range(x.ndim - 1))
    of_kernel = jax.lax.dot_general(
        x, gradient, ((rows, rows), ((), ())), preferred_element_type=jnp.float32
    )
    return of_x, of_kernel.astype(like.dtype)


rounded_matmul.defvjp(_rounded_matmul_forward, _rounded_matmul_backward)


class Embed(nnx.Module):
    """A table of vectors [rows, width], indexed by integer ids.

    Args:
        rows, width: sizes.
        axes: logical axes of the table, e.g. ("vocab", "width").
        key: PRNG key of the initial table.
        initial: (key, shape) -> the initial table.
    """

    def __init__(
        self, rows: int, width: int, axes: tuple, *, key: jax.Array, initial: Callable = normal()
    ):
        self.table = parameter(initial(key, (rows, width)), *axes)

    def __call__(self, ids: jax.Array, dtype=jnp.float32) -> jax.Array:
        return jnp.take(_use(self.table, dtype), ids, axis=0)


class Norm(nnx.Module):
    """Normalises the last axis, in float32.

    layer: y = (x - mean) / sqrt(variance + epsilon) * scale + bias
    rms:   y = x / sqrt(mean of squares + epsilon) * scale
    rms_plus_one: as rms, with 1 + scale (Gemma)

    Args:
        width: size of the axis.
        kind: one of gemb.models.spec.NORMS.
        epsilon: added under the root.
        bias: whether "layer" has a bias.
    """

    def __init__(self, width: int, kind: str, epsilon: float, bias: bool = True):
        self.scale = parameter(
            jnp.zeros(width) if kind == "rms_plus_one" else jnp.ones(width), "norm"
        )
        if kind == "layer" and bias:
            self.bias = parameter(jnp.zeros(width), "norm")
        self.kind, self.epsilon, self.has_bias = kind, epsilon, kind == "layer" and bias

    def __call__(self, x: jax.Array) -> jax.Array:
        x32 = x.astype(jnp.float32)
        if self.kind == "layer":
            x32 = x32 - x32.mean(-1, keepdims=True)
        scale = self.scale.get_value() + (1.0 if self.kind == "rms_plus_one" else 0.0)
        y = rms_normalised(x32, self.epsilon) * scale
        return (y + self.bias.get_value() if self.has_bias else y).astype(x.dtype)


def rms_normalised(x: jax.Array, epsilon: float) -> jax.Array:
    """x / sqrt(mean of squares + epsilon) over the last axis, computed in float32."""
    x32 = x.astype(jnp.float32)
    root = jax.lax.rsqrt(jnp.square(x32).mean(-1, keepdims=True) + epsilon)
    return (x32 * root).astype(x.dtype)


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """Sets a random share of the entries to zero and scales the rest: x m / (1 - rate).

    The mask is a hash of each entry's index and the key, which XLA fuses into the surrounding
    arithmetic: no array of random bits is written, a rematerialised layer gets the same mask,
    and so does every mesh.

    Args:
        x: any shape.
        rate: share of zeros, in [0, 1).
        key: PRNG key; None for no dropout.

    Returns:
        An array like x.
    """
    if key is None or not rate:
        return x
    seed = jax.random.key_data(key).astype(jnp.uint32).ravel()
    place = jnp.uint32(0)
    for axis in range(x.ndim):
        stride = math.prod(x.shape[axis + 1 :]) % 2**32
        place += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride)
    bits = _mix(_mix(place + seed[0]) ^ seed[-1])
    keep = bits >= jnp.uint32(min(round(rate * 2**32), 2**32 - 1))
    return jnp.where(keep, x * (1.0 / (1.0 - rate)), 0).astype(x.dtype)


def _mix(bits: jax.Array) -> jax.Array:
    """A bijection of 32-bit words in which every input bit affects every output bit (murmur3)."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)


def unit_length(x: jax.Array, epsilon: float = 1e-24) -> jax.Array:
    """Divides rows by their Euclidean norm; `epsilon` floors the squared norm of a zero row."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), epsilon))
