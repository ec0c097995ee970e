"""The whole model: tokens to unit vectors."""

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.models.block import ACTIVATIONS
from gemb.models.encoders.text import TextEncoder
from gemb.models.execution import Execution
from gemb.models.layers import Linear
from gemb.models.poolers import LEARNED_POOLERS, POOLERS
from gemb.models.spec import DenseSpec, ModelSpec
from gemb.structs import Tokens


class Projection(nnx.Module):
    """Linear layers over the pooled vector, each with its activation."""

    def __init__(self, spec: tuple[DenseSpec, ...], *, key: jax.Array):
        keys = jax.random.split(key, max(1, len(spec)))
        axes = ("width", "dim")
        self.layers = nnx.List(
            [
                Linear(s.inputs, s.outputs, axes, key=k, bias=s.bias)
                for s, k in zip(spec, keys, strict=False)
            ]
        )
        self.spec = spec

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer, spec in zip(self.layers, self.spec, strict=True):
            x = ACTIVATIONS[spec.activation](layer(x))
        return x


class EmbeddingModel(nnx.Module):
    """TextEncoder, pooler, projection, normalisation: Tokens -> [batch, dim] float32.

    Example:
        >>> import jax
        >>> from gemb.models.spec import StackSpec, TextSpec
        >>> text = TextSpec(vocab=16, positions=8, stack=StackSpec(1, 8, 2, 16))
        >>> model = EmbeddingModel(ModelSpec(text, max_length=8), key=jax.random.key(0))
        >>> ids = jax.numpy.array([[1, 2, 3]])
        >>> model(Tokens(ids, ids > 0)).shape
        (1, 8)
    """

    def __init__(self, spec: ModelSpec, *, key: jax.Array):
        keys = jax.random.split(key, 3 + len(spec.heads))
        self.text = TextEncoder(spec.text, key=keys[0])
        if spec.pooling in LEARNED_POOLERS:
            self.pooler = LEARNED_POOLERS[spec.pooling](spec.text.stack.width, key=keys[1])
        self.dense = Projection(spec.dense, key=keys[2])
        self.heads = nnx.Dict(
            {
                name: Projection(layers, key=k)
                for (name, layers), k in zip(spec.heads, keys[3:], strict=True)
            }
        )
        self.spec = spec

    def __call__(
        self, tokens: Tokens, execution: Execution = Execution(), key: jax.Array | None = None
    ) -> jax.Array:
        """Embeds tokens.

        Args:
            tokens: Tokens of [batch, length]; packed ones have masks of [batch, texts, length].
            execution: how to compute it.
            key: PRNG key of dropout; None for none.

        Returns:
            [batch, dim] or, packed, [batch, texts, dim], float32; of unit length if the spec says
            so.
        """
        return self._finish(self.dense(self.pool(tokens, execution, key)))

    def all_heads(
        self, tokens: Tokens, execution: Execution = Execution(), key: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """The embedding under "" and the output of each head under its name."""
        pooled = self.pool(tokens, execution, key)
        outputs = {"": self.dense(pooled)} | {
            name: head(pooled) for name, head in self.heads.items()
        }
        return {name: self._finish(output) for name, output in outputs.items()}

    def head(self, vectors: jax.Array) -> jax.Array:
        """What the last layer of the projection makes of [batch, inputs]: [batch, dim]."""
        layer, spec = self.dense.layers[-1], self.spec.dense[-1]
        return self._finish(ACTIVATIONS[spec.activation](layer(vectors)))

    def pool(
        self, tokens: Tokens, execution: Execution = Execution(), key: jax.Array | None = None
    ) -> jax.Array:
        """The pooled vector before any projection: [batch, width] or [batch, texts, width]."""
        return self._pool(self.text(tokens.ids, tokens.mask, execution, key), tokens)

    def every_layer(
        self, tokens: Tokens, execution: Execution = Execution(), key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The embedding, and the token vectors of each layer: [layers, batch, length, width]."""
        states = self.text(tokens.ids, tokens.mask, execution, key, every_layer=True)
        return self._finish(self.dense(self._pool(states[-1], tokens))), states

    def _pool(self, hidden: jax.Array, tokens: Tokens) -> jax.Array:
        mask = tokens.mask if tokens.pooled is None else tokens.pooled
        name = self.spec.pooling
        pooler = self.pooler if name in LEARNED_POOLERS else POOLERS[name]
        masks = (mask, tokens.mask) if name == "weightedmean" else (mask,)
        if mask.ndim == 2:
            return pooler(hidden, *masks)
        return jax.vmap(lambda *m: pooler(hidden, *m), in_axes=1, out_axes=1)(*masks)

    def _finish(self, x: jax.Array) -> jax.Array:
        return unit_length(x) if self.spec.normalize else x


def unit_length(x: jax.Array, epsilon: float = 1e-24) -> jax.Array:
    """Divides rows by their Euclidean norm; `epsilon` floors the squared norm of a zero row."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), epsilon))
