"""One transformer layer: attention, then feed-forward, with the norms of the family."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.models.attention import View, attend
from gemb.models.initial import initial
from gemb.models.layers import Linear, Norm, dropout, parameter, rms_normalised
from gemb.models.positions import rotate
from gemb.models.spec import StackSpec
from gemb.parallel.rules import constrain

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "identity": lambda x: x,
}


class Start(NamedTuple):
    """The input of the stack, for layers that look at it again.

    Attributes:
        values: [batch, length, width].
        norm: normalises each layer's view of it, [..., layer_input].
    """

    values: jax.Array
    norm: Callable[[jax.Array], jax.Array]


class Surroundings(NamedTuple):
    """What a layer gets in addition to its input.

    Attributes:
        seen: the attention mask.
        turn: (cosine, sine) of its rotary angles, or None.
        backend: the attention backend.
        dropout: dropout rate.
        matmul_dtype: dtype of the operands of linear maps, see Execution.
        start: the input of the stack, or None where no layer looks at it.
    """

    seen: View
    turn: tuple[jax.Array, jax.Array] | None
    backend: str
    dropout: float
    matmul_dtype: str
    start: Start | None = None


def _linear(spec: StackSpec, part: str, inputs: int, outputs: int, axes, bias: bool, key) -> Linear:
    return Linear(
        inputs,
        outputs,
        axes,
        key=key,
        bias=bias,
        initial=initial(spec, part),
        lora_rank=spec.lora_rank,
        lora_scale=spec.lora_scale,
    )


class Attention(nnx.Module):
    """Multi-head attention: projections, head norms, rotary positions, `attend`, projection."""

    def __init__(self, spec: StackSpec, number: int, *, key: jax.Array):
        keys = jax.random.split(key, 4)
        self.kv_heads, self.size = spec.heads_of(number)
        wide, outer, inner = spec.width, *(n * self.size for n in (spec.heads, self.kv_heads))
        axes, bias = ("width", "heads"), spec.qkv_bias
        self.query = _linear(spec, "query", wide, outer, axes, bias, keys[0])
        self.key = _linear(spec, "key", wide, inner, axes, bias and spec.key_bias, keys[1])
        self.value = _linear(spec, "value", wide, inner, axes, bias, keys[2])
        self.output = _linear(spec, "output", outer, wide, axes[::-1], spec.output_bias, keys[3])
        if spec.head_norm:
            self.query_norm = Norm(self.size, spec.norm, spec.norm_epsilon)
            self.key_norm = Norm(self.size, spec.norm, spec.norm_epsilon)
        self.spec = spec

    def __call__(self, x: jax.Array, around: Surroundings, key: jax.Array | None) -> jax.Array:
        spec, (batch, length, _) = self.spec, x.shape

        def split(y, heads):
            y = y.reshape(batch, length, heads, self.size).transpose(0, 2, 1, 3)
            return constrain(y, "batch", "heads", None, None)

        query = split(self.query(x, around.matmul_dtype), spec.heads)
        keys = split(self.key(x, around.matmul_dtype), self.kv_heads)
        value = split(self.value(x, around.matmul_dtype), self.kv_heads)
        if spec.head_norm:
            query, keys = self.query_norm(query), self.key_norm(keys)
        if spec.value_norm:
            value = rms_normalised(value, spec.norm_epsilon)
        if around.turn is not None:
            query, keys = rotate(query, *around.turn), rotate(keys, *around.turn)
        mixed = attend(
            query * jnp.asarray(spec.score_scale, x.dtype),
            keys,
            value,
            around.seen,
            cap=spec.score_cap,
            backend=around.backend,
            dropout_rate=around.dropout,
            dropout_key=key,
        )
        mixed = mixed.transpose(0, 2, 1, 3).reshape(batch, length, -1)
        return self.output(constrain(mixed, "batch", None, "heads"), around.matmul_dtype)


class LayerInput(nnx.Module):
    """A look at the stack's input, gated by what the layer has made of it.

    x + norm(output(activation(gate(x)) * start_norm(input(start) / sqrt(width))))
    """

    def __init__(self, spec: StackSpec, *, key: jax.Array):
        keys, into = jax.random.split(key, 3), ("width", "mlp")
        size = (spec.width, spec.layer_input)
        self.input = _linear(spec, "gate", *size, into, False, keys[0])
        self.gate = _linear(spec, "gate", *size, into, False, keys[1])
        self.output = _linear(spec, "down", *size[::-1], into[::-1], False, keys[2])
        self.norm = stack_norm(spec)
        self.spec = spec

    def __call__(self, x: jax.Array, start: Start, matmul_dtype: str) -> jax.Array:
        own = self.input(start.values, matmul_dtype) * self.spec.width**-0.5
        own = start.norm(constrain(own, "batch", None, "mlp"))
        gate = constrain(self.gate(x, matmul_dtype), "batch", None, "mlp")
        inner = ACTIVATIONS[self.spec.activation](gate) * own
        return x + self.norm(self.output(inner, matmul_dtype))


class Layer(nnx.Module):
    """Attention and feed-forward, each with its residual connection and norms."""

    def __init__(self, spec: StackSpec, number: int, *, key: jax.Array):
        keys = jax.random.split(key, 4)
        into, out = ("width", "mlp"), ("mlp", "width")
        self.attention = Attention(spec, number, key=keys[0])
        if spec.gated:
            self.gate = _linear(spec, "gate", spec.width, spec.mlp, into, spec.mlp_bias, keys[3])
        self.up = _linear(spec, "up", spec.width, spec.mlp, into, spec.mlp_bias, keys[1])
        self.down = _linear(spec, "down", spec.mlp, spec.width, out, spec.mlp_bias, keys[2])
        if spec.has_attention_norm(number):
            self.attention_norm = stack_norm(spec)
        self.mlp_norm = stack_norm(spec)
        if spec.norm_place == "both":
            self.attention_output_norm = stack_norm(spec)
            self.mlp_output_norm = stack_norm(spec)
        if spec.layer_scale:
            self.attention_scale = parameter(jnp.ones(spec.width), "norm")
            self.mlp_scale = parameter(jnp.ones(spec.width), "norm")
        if spec.layer_input:
            self.layer_input = LayerInput(spec, key=jax.random.fold_in(key, 4))
        if spec.layer_factor:
            self.factor = parameter(jnp.ones(1), "norm")
        self.spec = spec

    def __call__(self, x: jax.Array, around: Surroundings, key: jax.Array | None) -> jax.Array:
        keys = (None,) * 3 if key is None else jax.random.split(key, 3)

        def attention(y):
            return self.attention(y, around, keys[0])

        def feed_forward(y):
            return self._feed_forward(y, around.matmul_dtype)

        x = constrain(x, "batch", None, None)
        x = self._add(x, attention, "attention", around.dropout, keys[1])
        x = self._add(x, feed_forward, "mlp", around.dropout, keys[2])
        if self.spec.layer_input:
            x = self.layer_input(x, around.start, around.matmul_dtype)
        if self.spec.layer_factor:  # published models do not train it
            x = x * jax.lax.stop_gradient(self.factor.get_value()).astype(x.dtype)
        return constrain(x, "batch", None, None)

    def _add(self, x, sublayer, name: str, rate: float, key) -> jax.Array:
        """x plus a sublayer of x, with the norms where the spec places them."""
        place, norm = self.spec.norm_place, getattr(self, f"{name}_norm", None)
        y = sublayer(x if place == "post" or norm is None else norm(x))
        if place == "both":
            y = getattr(self, f"{name}_output_norm")(y)
        if self.spec.layer_scale:
            y = y * getattr(self, f"{name}_scale").get_value().astype(y.dtype)
        x = x + dropout(y, rate, key)
        return norm(x) if place == "post" else x

    def _feed_forward(self, x: jax.Array, matmul_dtype: str) -> jax.Array:
        activation = ACTIVATIONS[self.spec.activation]
        inner = constrain(self.up(x, matmul_dtype), "batch", None, "mlp")
        if self.spec.gated:
            inner = activation(constrain(self.gate(x, matmul_dtype), "batch", None, "mlp")) * inner
        else:
            inner = activation(inner)
        return self.down(inner, matmul_dtype)


def stack_norm(spec: StackSpec) -> Norm:
    """A norm over the width of the stack."""
    return Norm(spec.width, spec.norm, spec.norm_epsilon, spec.norm_bias)
