"""Text: token ids to token vectors."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.layers import Embed, LayerNorm
from gemb.models.stack import Stack, StackSpec


@dataclasses.dataclass(frozen=True)
class TextSpec:
    """A text encoder's shape.

    Attributes:
        vocab: rows of the token table.
        positions: longest sequence that has position vectors.
        types: rows of the token-type table (BERT's segments; only row 0 is used).
        stack: the transformer over the embedded tokens.
    """

    vocab: int
    positions: int
    stack: StackSpec
    types: int = 2


class TextEncoder(nnx.Module):
    """Token, position and type tables, LayerNorm, then the stack."""

    def __init__(self, spec: TextSpec, *, key: jax.Array):
        keys = jax.random.split(key, 4)
        width = spec.stack.width
        self.token = Embed(spec.vocab, width, "vocab", key=keys[0])
        self.position = Embed(spec.positions, width, "positions", key=keys[1])
        self.type = Embed(spec.types, width, "positions", key=keys[2])
        self.norm = LayerNorm(width, spec.stack.norm_epsilon)
        self.stack = Stack(spec.stack, key=keys[3])

    def __call__(self, ids: jax.Array, mask: jax.Array, dtype=jnp.float32) -> jax.Array:
        """Encodes tokens.

        Args:
            ids: [batch, length] int32.
            mask: [batch, length] bool, True where a token is real.
            dtype: compute dtype of the stack; norms and softmax stay float32.

        Returns:
            [batch, length, width] in `dtype`.

        Raises:
            ValueError: if length exceeds the positions.
        """
        length, positions = ids.shape[1], self.position.table.shape[0]
        check(length <= positions, f"ids: length {length} exceeds the {positions} positions")
        places = self.position(jnp.arange(length)) + self.type(jnp.zeros(1, jnp.int32))
        x = self.norm(self.token(ids) + places).astype(dtype)
        return self.stack(x, mask)
