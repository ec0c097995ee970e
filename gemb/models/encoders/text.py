"""Text: token ids to token vectors."""

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.block import stack_norm
from gemb.models.execution import Execution
from gemb.models.initial import initial
from gemb.models.layers import Embed, dropout
from gemb.models.positions import positions
from gemb.models.spec import TextSpec
from gemb.models.stack import Stack


class TextEncoder(nnx.Module):
    """Token, position and type tables, a norm, then the stack."""

    def __init__(self, spec: TextSpec, *, key: jax.Array):
        keys = jax.random.split(key, 4)
        width = spec.stack.width
        draw = initial(spec.stack, "token")
        self.token = Embed(spec.vocab, width, ("vocab", "width"), key=keys[0], initial=draw)
        if spec.positions:
            self.position = Embed(spec.positions, width, ("positions", "width"), key=keys[1])
        if spec.types:
            self.type = Embed(spec.types, width, ("positions", "width"), key=keys[2])
        if spec.embedding_norm:
            self.norm = stack_norm(spec.stack)
        self.stack = Stack(spec.stack, key=keys[3])
        self.spec = spec

    def __call__(
        self,
        ids: jax.Array,
        mask: jax.Array,
        execution: Execution = Execution(),
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
    ) -> jax.Array:
        """Encodes tokens.

        Args:
            ids: [batch, length] int32.
            mask: [batch, length] bool, True where a token is real; packed, [batch, texts, length].
            execution: how to compute it.
            key: PRNG key of dropout; None for none.
            every_layer: return what each layer of the stack gives.

        Returns:
            [batch, length, width] or, of every layer, [layers, batch, length, width], in the
            compute dtype.

        Raises:
            ValueError: if length exceeds the positions.
        """
        spec, length = self.spec, ids.shape[1]
        limit = spec.max_length
        fits = not spec.positions or mask.ndim == 3 or length <= limit
        check(fits, f"ids: length {length} exceeds the {limit} positions")
        keys = (None, None) if key is None else jax.random.split(key)
        x = self.token(ids)
        if spec.embedding_scale != 1:
            x = x * spec.embedding_scale
        if spec.types:
            x = x + self.type(jnp.zeros(1, jnp.int32))
        if spec.positions:
            x = x + self.position(positions(mask) + spec.position_offset)
        if spec.embedding_norm:
            x = self.norm(x)
        x = dropout(x, execution.dropout, keys[0]).astype(execution.dtype)
        return self.stack(x, mask, execution, keys[1], every_layer=every_layer)
