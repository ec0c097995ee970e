"""Attention: masks, and the backends that compute it."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from gemb.checks import check
from gemb.models.execution import Execution
from gemb.models.layers import dropout
from gemb.parallel.rules import spec_in_use

# The negative bias of a masked key: exp() of it is exactly 0 in float32, and it stays finite.
MASKED = -1e9
# Positions from which a CPU computes scores in blocks, and bytes of one block.
_LONG, _CACHE = 1024, 8 * 2**20


class View(NamedTuple):
    """The attention mask and bias of a layer, shared by all layers with the same window.

    Attributes:
        bias: [batch or 1, heads or 1, length or 1, length] float32, added to the scores; hidden
            keys have MASKED. None for splash attention, which uses the other attributes.
        segments: [batch, length] int32, 1 for real tokens and 0 for padding.
        causal: whether a token attends only to itself and earlier tokens.
        window: tokens further apart than window - 1 do not attend to each other; 0 for no limit.
        relative: whether bias holds more than what the others say.
    """

    bias: jax.Array | None
    segments: jax.Array
    causal: bool
    window: int
    relative: bool = False


def view(
    mask: jax.Array, *, causal: bool, window: int, relative: jax.Array | None, backend: str
) -> View:
    """Builds a View.

    Args:
        mask: [batch, length] bool.
        causal, window: see View.
        relative: [1, heads, length, length] float32 added to the scores, or None.
        backend: "splash" builds no bias.
    """
    segments = mask.astype(jnp.int32)
    if backend == "splash":
        check(relative is None, "attention: splash attention takes no relative position bias")
        return View(None, segments, causal, window)
    gap = None
    if causal or window:
        place = jnp.arange(mask.shape[-1])
        gap = place[:, None] - place[None, :]
    bias = _bias(mask[:, None, None, :], gap, causal, window)
    if relative is None:
        return View(bias, segments, causal, window)
    return View(bias + relative, segments, causal, window, relative=True)


def choose(execution: Execution, head_size: int, cap: float, relative: bool, length: int) -> str:
    """Resolves "auto" to a backend for this machine, model and length.

    Raises:
        ValueError: if the requested backend cannot compute this model.
    """
    asked = execution.attention
    half = execution.dtype != "float32"
    if asked != "auto":
        check(
            asked == "plain" or not cap,
            f"attention: {asked} does not support a score cap; choose plain or auto",
        )
        check(
            asked != "cudnn" or half,
            "attention: cudnn needs dtype bfloat16 or float16 in Execution",
        )
        check(
            asked != "xla" or execution.dtype != "float16" or jax.default_backend() != "cpu",
            "attention: xla does not support float16 on CPUs; choose plain, auto or bfloat16",
        )
        return asked
    platform = jax.default_backend()
    fits_cudnn = half and not cap and head_size % 8 == 0 and head_size <= 128 and length % 2 == 0
    if platform == "gpu" and fits_cudnn and _has_flash(jax.local_devices()[0]):
        return "cudnn"
    if platform == "tpu" and not cap and not relative and head_size % 128 == 0:
        return "splash"
    return "plain"


def _has_flash(device: jax.Device) -> bool:
    """Whether the device supports cuDNN's fused attention: NVIDIA GPUs since Ampere."""
    nvidia = "cuda" in device.client.platform_version.lower()
    return nvidia and float(device.compute_capability) >= 8


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    seen: View,
    *,
    cap: float = 0.0,
    backend: str = "plain",
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
) -> jax.Array:
    """Mixes values by softmax(query key^T + bias).

    Heads come before length, because on CPU the other order is 1.3-2.2 times slower. In the plain
    form the softmax is divided by its sum after the second product, on the smaller array.

    Args:
        query: [batch, heads, length, size], already scaled.
        key, value: [batch, kv_heads, length, size]; kv_heads divides heads.
        seen: from `view`.
        cap: scores become cap tanh(score / cap); 0 for none.
        backend: from `choose`.
        dropout_rate, dropout_key: dropout of the attention weights; only for plain.

    Returns:
        [batch, heads, length, size].
    """
    if backend in ("xla", "cudnn"):
        return _dot_product(query, key, value, seen, backend)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = jnp.repeat(key, groups, axis=1), jnp.repeat(value, groups, axis=1)
    if backend == "splash":
        return _splash(query, key, value, seen)
    dropped = dropout_key is not None and dropout_rate > 0
    if not dropped and not seen.relative and _is_long_on_cpu(query.shape[2]):
        return _in_blocks(query, key, value, seen, cap)
    return _plain(query, key, value, seen.bias, cap, dropout_rate, dropout_key)


def _plain(query, key, value, bias, cap=0.0, dropout_rate=0.0, dropout_key=None) -> jax.Array:
    columns = key.swapaxes(2, 3)
    if (
        jax.default_backend() == "cpu"
    ):  # faster in this memory layout; without the barrier XLA undoes it
        columns = jax.lax.optimization_barrier(columns)
    scores = jnp.matmul(query, columns).astype(jnp.float32)
    scores = (cap * jnp.tanh(scores / cap) if cap else scores) + bias
    scores = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    total = scores.sum(-1, keepdims=True)
    scores = dropout(scores, dropout_rate, dropout_key).astype(query.dtype)
    return (jnp.einsum("bhqk,bhkd->bhqd", scores, value) / total).astype(query.dtype)


def _is_long_on_cpu(length) -> bool:
    """Whether this is one CPU device, and a head's scores are not small."""
    mesh = jax.sharding.get_abstract_mesh()
    alone = jax.default_backend() == "cpu" and (mesh.empty or mesh.size == 1)
    return alone and isinstance(length, int) and length >= _LONG


def _in_blocks(query, key, value, seen: View, cap: float) -> jax.Array:
    """`_plain` for some queries of one head at a time, whose scores stay in the caches.

    In a layer with a window each block has only the keys that its queries see.
    """
    length = query.shape[2]
    before = max(seen.window - 1, 0)
    after = 0 if seen.causal else before
    rows = 128 if seen.window < 256 else 256
    banded = seen.window > 0 and rows + before + after < length
    if not banded:
        rows, before, after = -(-length // -(-4 * length**2 // _CACHE)), 0, 0
    count = -(-length // rows)
    short = count * rows - length
    span = rows + before + after if banded else length

    def padded(x):
        """Keys with what the first and the last block lack."""
        ends = (before, after + short) if banded else (0, 0)
        return jnp.pad(x, (ends, *((0, 0),) * (x.ndim - 1)))

    def of_head(query, key, value, segments):
        def of_block(block):
            number, few = block
            first = number * rows if banded else 0
            keys, values, own = (
                jax.lax.dynamic_slice_in_dim(x, first, span) for x in (key, value, segments)
            )
            gap = number * rows + jnp.arange(rows)[:, None] - (first - before + jnp.arange(span))
            bias = _bias(own > 0, gap, seen.causal, seen.window)
            return _plain(*(x[None, None] for x in (few, keys, values)), bias, cap)[0, 0]

        few = jnp.pad(query, ((0, short), (0, 0))).reshape(count, rows, -1)
        mixed = jax.lax.map(of_block, (jnp.arange(count), few))
        return mixed.reshape(count * rows, -1)[:length]

    def of_row(row):
        *parts, segments = row
        segments = padded(segments)
        return jax.lax.map(
            lambda head: of_head(head[0], padded(head[1]), padded(head[2]), segments), tuple(parts)
        )

    return jax.lax.map(of_row, (query, key, value, seen.segments))


def _bias(real: jax.Array, gap: jax.Array | None, causal: bool, window: int) -> jax.Array:
    """The bias of some scores, see `View`.

    Args:
        real: [..., keys] bool.
        gap: [queries, keys], how far each key is before its query; None without the limits below.
        causal, window: see View.
    """
    seen = real
    if causal:
        seen = seen & (gap >= 0)
    if window:
        seen = seen & (jnp.abs(gap) < window)
    return jnp.where(seen, 0.0, MASKED).astype(jnp.float32)


def _dot_product(query, key, value, seen: View, implementation: str) -> jax.Array:
    swapped = [x.swapaxes(1, 2) for x in (query, key, value)]
    shape = (query.shape[0], 1, query.shape[2], query.shape[2])
    if seen.bias.shape[1] > 1:
        shape = (shape[0], query.shape[1], *shape[2:])
    lowest = jnp.finfo(query.dtype).min / 2  # -inf in every column would give NaN
    bias = jnp.broadcast_to(jnp.maximum(seen.bias, lowest), shape).astype(query.dtype)
    mixed = jax.nn.dot_product_attention(
        *swapped, bias=bias, scale=1.0, implementation=implementation
    )
    return mixed.swapaxes(1, 2)


def _splash(query, key, value, seen: View) -> jax.Array:
    """TPU's block-sparse flash attention, one kernel per device; interpreted on other devices."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return _splash_kernel(query, key, value, seen.segments, seen.causal, seen.window)
    heads = spec_in_use(("batch", "heads", None, None), query.shape, mesh)
    rows = PartitionSpec(heads[0])
    kernel = functools.partial(_splash_kernel, causal=seen.causal, window=seen.window)
    mapped = jax.shard_map(
        kernel, mesh=mesh, in_specs=(heads,) * 3 + (rows,), out_specs=heads, check_vma=False
    )
    return mapped(query, key, value, seen.segments)


def _splash_kernel(query, key, value, segments, causal: bool, window: int) -> jax.Array:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    heads, length = query.shape[1:3]
    short = -length % 128  # the kernel's lanes
    query, key, value = (
        jnp.pad(x, ((0, 0), (0, 0), (0, short), (0, 0))) for x in (query, key, value)
    )
    segments = jnp.pad(segments, ((0, 0), (0, short)))
    shape = (length + short,) * 2
    block = next(size for size in (512, 384, 256, 128) if shape[0] % size == 0)
    if window:
        sides = (window - 1, 0 if causal else window - 1)
        mask = splash.LocalMask(shape, sides, offset=0)
    else:
        mask = (splash.CausalMask if causal else splash.FullMask)(shape)
    sizes = splash.BlockSizes(
        block_q=block, block_kv=block, block_kv_compute=block, block_q_dkv=block,
        block_kv_dkv=block, block_kv_dkv_compute=block, block_q_dq=block, block_kv_dq=block,
    )  # fmt: skip
    kernel = splash.make_splash_mha_single_device(
        splash.MultiHeadMask([mask] * heads),
        block_sizes=sizes,
        interpret=jax.default_backend() != "tpu",
    )
    mixed = jax.vmap(kernel)(query, key, value, splash.SegmentIds(segments, segments))
    return mixed[:, :, :length]
