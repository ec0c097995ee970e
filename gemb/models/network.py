"""The network of one tower: encoder, pooler, projection."""

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.block import ACTIVATIONS
from gemb.models.execution import Execution
from gemb.models.layers import Linear, unit_length
from gemb.models.poolers import LEARNED_POOLERS, POOLERS
from gemb.models.spec import DenseSpec, TowerSpec
from gemb.structs import Inputs, Tokens


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

    def last(self, x: jax.Array) -> jax.Array:
        """The last layer alone: [batch, inputs] -> [batch, dim]."""
        return ACTIVATIONS[self.spec[-1].activation](self.layers[-1](x))


class Network(nnx.Module):
    """Encoder, pooler, projection, normalisation: Inputs -> [batch, dim] float32.

    The paths of the encoder's parameters start with its modality, such as "text/...".

    Example:
        >>> import jax
        >>> from gemb.models.encoders.text import TextSpec
        >>> from gemb.models.spec import StackSpec
        >>> from gemb.structs import Tokens
        >>> text = TextSpec(vocab=16, positions=8, stack=StackSpec(1, 8, 2, 16))
        >>> network = Network(TowerSpec(text), key=jax.random.key(0))
        >>> ids = jax.numpy.array([[1, 2, 3]])
        >>> network(Tokens(ids, ids > 0)).shape
        (1, 8)
    """

    def __init__(self, spec: TowerSpec, *, key: jax.Array):
        keys = jax.random.split(key, 3 + len(spec.heads))
        setattr(self, spec.encoder.modality, spec.encoder.build(keys[0]))
        if spec.pooling in LEARNED_POOLERS:
            self.pooler = LEARNED_POOLERS[spec.pooling](spec.encoder, key=keys[1])
        self.dense = Projection(spec.dense, key=keys[2])
        self.heads = nnx.Dict(
            {
                name: Projection(layers, key=k)
                for (name, layers), k in zip(spec.heads, keys[3:], strict=True)
            }
        )
        self.spec = spec

    @property
    def encoder(self) -> nnx.Module:
        """The encoder."""
        return getattr(self, self.spec.encoder.modality)

    def __call__(
        self, inputs: Inputs, execution: Execution = Execution(), key: jax.Array | None = None
    ) -> jax.Array:
        """Embeds.

        Args:
            inputs: of `batch` rows.
            execution: execution settings.
            key: PRNG key of dropout; None for none.

        Returns:
            [batch, dim] float32, with unit length if the spec normalizes.
        """
        return self.project(self.pool(inputs, execution, key))

    def all_heads(
        self, inputs: Inputs, execution: Execution = Execution(), key: jax.Array | None = None
    ) -> dict[str, jax.Array]:
        """The embedding under "" and the output of each head under its name."""
        pooled = self.pool(inputs, execution, key)
        outputs = {"": self.dense(pooled)} | {
            name: head(pooled) for name, head in self.heads.items()
        }
        return {name: self._finish(output) for name, output in outputs.items()}

    def head(self, vectors: jax.Array) -> jax.Array:
        """The last layer of the projection alone: [batch, inputs] -> [batch, dim]."""
        return self._finish(self.dense.last(vectors))

    def project(self, pooled: jax.Array) -> jax.Array:
        """The embedding of pooled vectors [batch, width]: [batch, dim]."""
        return self._finish(self.dense(pooled))

    def pool(
        self, inputs: Inputs, execution: Execution = Execution(), key: jax.Array | None = None
    ) -> jax.Array:
        """The pooled vector before any projection: [batch, width]."""
        return self._pool(self.encoder(inputs, execution, key), inputs)

    def every_layer(
        self, inputs: Inputs, execution: Execution = Execution(), key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """The embedding, and the vectors of each layer: [layers, batch, positions, width]."""
        states = self.encoder(inputs, execution, key, every_layer=True)
        return self._finish(self.dense(self._pool(states[-1], inputs))), states

    def embed_layers(
        self,
        inputs: Inputs,
        layers: tuple[int, ...] | None,
        execution: Execution = Execution(),
        key: jax.Array | None = None,
    ) -> jax.Array:
        """[len(layers), batch, dim]: the embeddings with each of these layers as the last one.

        Layers are counted from 1; None stands for all of them.

        Raises:
            ValueError: for a layer that the encoder does not have.
        """
        states = self.encoder(inputs, execution, key, every_layer=True)
        layers = range(1, len(states) + 1) if layers is None else layers
        for layer in layers:
            check(1 <= layer <= len(states), f"layers: {layer} is not one of 1 to {len(states)}")
        made = [self.dense(self._pool(states[layer - 1], inputs)) for layer in layers]
        return self._finish(jnp.stack(made))

    def _pool(self, hidden: jax.Array, inputs: Inputs) -> jax.Array:
        name, mask = self.spec.pooling, self.encoder.pooled(inputs)
        pooler = self.pooler if name in LEARNED_POOLERS else POOLERS[name]
        prompted = name == "weightedmean" and isinstance(inputs, Tokens)  # prompts are counted
        masks = (mask, inputs.real) if prompted else (mask,)
        return pooler(hidden, *masks)

    def _finish(self, x: jax.Array) -> jax.Array:
        return unit_length(x) if self.spec.normalize else x
