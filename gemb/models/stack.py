"""The transformer stack: [batch, length, width] in and out. Families differ by their StackSpec."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.models.layers import LayerNorm, Linear
from gemb.parallel.rules import constrain

# The negative bias of a masked key: exp() of it is exactly 0 in float32, and it stays finite.
MASKED = -1e9


@dataclasses.dataclass(frozen=True)
class StackSpec:
    """What tells one transformer stack from another.

    Attributes:
        layers: number of layers.
        width: hidden size.
        heads: attention heads; width / heads is the size of one.
        mlp: inner size of the feed-forward part.
        activation: "gelu" (exact, by erf), "gelu_tanh" or "relu".
        norm_epsilon: added to the variance in every LayerNorm.
    """

    layers: int
    width: int
    heads: int
    mlp: int
    activation: str = "gelu"
    norm_epsilon: float = 1e-12

    def __post_init__(self):
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width {self.width}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation: expected one of {sorted(ACTIVATIONS)}, got {self.activation!r}"
            )


ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
}


class Attention(nnx.Module):
    """Bidirectional multi-head attention over the real tokens.

    Heads come before length, [batch, heads, length, head]: on CPU the other order is 1.3-2.2 times
    slower. The softmax is divided by its sum after the second product, on the smaller array.
    """

    def __init__(self, spec: StackSpec, *, key: jax.Array):
        keys = jax.random.split(key, 4)
        width = spec.width
        self.query = Linear(width, width, ("width", "heads"), key=keys[0])
        self.key = Linear(width, width, ("width", "heads"), key=keys[1])
        self.value = Linear(width, width, ("width", "heads"), key=keys[2])
        self.output = Linear(width, width, ("heads", "width"), key=keys[3])
        self.heads = spec.heads

    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        batch, length, width = x.shape
        size = width // self.heads

        def split(y):
            y = y.reshape(batch, length, self.heads, size).transpose(0, 2, 1, 3)
            return constrain(y, "batch", "heads", None, None)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        scores = jnp.einsum("bhqd,bhkd->bhqk", query * size**-0.5, key).astype(jnp.float32) + bias
        scores = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
        total = scores.sum(-1, keepdims=True)
        mixed = jnp.einsum("bhqk,bhkd->bhqd", scores.astype(x.dtype), value) / total
        mixed = mixed.astype(x.dtype).transpose(0, 2, 1, 3).reshape(batch, length, width)
        return self.output(constrain(mixed, "batch", None, "heads"))


class Layer(nnx.Module):
    """One post-norm transformer layer (BERT): attention, then feed-forward."""

    def __init__(self, spec: StackSpec, *, key: jax.Array):
        keys = jax.random.split(key, 3)
        self.attention = Attention(spec, key=keys[0])
        self.attention_norm = LayerNorm(spec.width, spec.norm_epsilon)
        self.up = Linear(spec.width, spec.mlp, ("width", "mlp"), key=keys[1])
        self.down = Linear(spec.mlp, spec.width, ("mlp", "width"), key=keys[2])
        self.mlp_norm = LayerNorm(spec.width, spec.norm_epsilon)
        self.activation = spec.activation

    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        x = constrain(x, "batch", None, None)
        x = self.attention_norm(x + self.attention(x, bias))
        inner = ACTIVATIONS[self.activation](constrain(self.up(x), "batch", None, "mlp"))
        return constrain(self.mlp_norm(x + self.down(inner)), "batch", None, None)


class Stack(nnx.Module):
    """`layers` layers, unrolled: on CPU a scan over so few costs more than it saves."""

    def __init__(self, spec: StackSpec, *, key: jax.Array):
        self.layers = nnx.List([Layer(spec, key=k) for k in jax.random.split(key, spec.layers)])

    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        """x [batch, length, width], mask [batch, length] bool -> [batch, length, width]."""
        bias = jnp.where(mask, 0.0, MASKED).astype(jnp.float32)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        return x
