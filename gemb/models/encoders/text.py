"""The text encoder: token ids to token vectors."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.block import stack_norm
from gemb.models.execution import Execution
from gemb.models.initial import initial
from gemb.models.layers import Embed, Linear, dropout
from gemb.models.positions import positions
from gemb.models.spec import StackSpec, shown
from gemb.models.stack import Stack
from gemb.structs import Tokens


@dataclasses.dataclass(frozen=True)
class TextSpec:
    """The spec of a text encoder.

    Attributes:
        vocab: rows of the token table.
        positions: rows of the table of position vectors; 0 for none.
        stack: the transformer over the embedded tokens.
        types: rows of the token-type table (BERT's segments; only row 0 is used); 0 for none.
        position_offset: row of the first token's position (2 in RoBERTa). If it is not 0, the id
            before it is that of padding.
        length_limit: longest sequence of a model without a position table; 0 for no limit.
        embedding_norm: whether a norm follows the embeddings.
        embedding_scale: what token vectors are multiplied by.
        output: size of a linear map, without a bias, of the stack's vectors; 0 for none.
    """

    vocab: int
    positions: int
    stack: StackSpec
    types: int = 2
    position_offset: int = 0
    length_limit: int = 0
    embedding_norm: bool = True
    embedding_scale: float = 1.0
    output: int = 0

    modality: ClassVar[str] = "text"

    def __repr__(self) -> str:
        """Without what is as usual and was not there once: fingerprints are made of it."""
        return shown(self, hidden=("output",))

    @property
    def width(self) -> int:
        """Size of the vectors that it gives."""
        return self.output or self.stack.width

    @property
    def max_length(self) -> int:
        """The largest number of tokens; 0 for no limit."""
        if not self.stack.layers:  # a mean of any number of vectors, whatever length_limit says
            return 0
        return self.positions - self.position_offset if self.positions else self.length_limit

    def build(self, key: jax.Array) -> "TextEncoder":
        """Builds the encoder with random weights."""
        return TextEncoder(self, key=key)


class TextEncoder(nnx.Module):
    """Token, position and type tables, a norm, the transformer stack, then a linear map."""

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
        if spec.output:
            own = jax.random.fold_in(key, 4)
            self.output = Linear(width, spec.output, ("width", "dim"), key=own, bias=False)
        self.spec = spec

    def __call__(
        self,
        inputs: Tokens,
        execution: Execution = Execution(),
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
    ) -> jax.Array:
        """Encodes tokens.

        Args:
            inputs: of [batch, length].
            execution: execution settings.
            key: PRNG key of dropout; None for none.
            every_layer: return the output of each layer of the stack.

        Returns:
            [batch, length, width] or, for every_layer, [layers, batch, length, width], in the
            compute dtype.

        Raises:
            ValueError: if length exceeds the positions.
        """
        ids, mask, spec = inputs.ids, inputs.mask, self.spec
        length = ids.shape[1]
        limit = spec.max_length
        fits = not spec.positions or length <= limit
        check(fits, f"ids: length {length} exceeds the {limit} positions")
        return self.run(self.embed(ids), ids, mask, execution, key, every_layer=every_layer)

    def embed(self, ids: jax.Array) -> jax.Array:
        """The vectors of tokens before positions: [batch, length] ids -> [batch, length, width]."""
        x = self.token(ids)
        return x if self.spec.embedding_scale == 1 else x * self.spec.embedding_scale

    def run(
        self,
        x: jax.Array,
        ids: jax.Array,
        mask: jax.Array,
        execution: Execution,
        key: jax.Array | None = None,
        *,
        every_layer: bool = False,
    ) -> jax.Array:
        """The encoder behind `embed`: types, positions, norm and stack.

        Args:
            x: [batch, length, width], from `embed`, or vectors of something else in their place.
            ids: [batch, length]; RoBERTa finds padding by it. Vectors of something else have any
                id that is not padding's.
            mask: [batch, length] bool.
            execution, key, every_layer: as for a call.
        """
        spec = self.spec
        keys = (None, None) if key is None else jax.random.split(key)
        if spec.types:
            x = x + self.type(jnp.zeros(1, jnp.int32))
        if spec.positions:
            x = x + self.position(self._rows(ids, mask))
        if spec.embedding_norm:
            x = self.norm(x)
        x = dropout(x, execution.dropout, keys[0]).astype(execution.dtype)
        x = self.stack(x, mask, execution, keys[1], every_layer=every_layer)
        return self.output(x) if spec.output else x

    def _rows(self, ids: jax.Array, mask: jax.Array) -> jax.Array:
        """[batch, length]: the row of each token in the table of positions.

        RoBERTa has the row before the first for padding, and counts no token with that id, not even
        one that is written in a text.
        """
        offset = self.spec.position_offset
        if not offset:
            return positions(mask)
        counted = mask & (ids != offset - 1)
        return jnp.where(counted, positions(counted) + offset, offset - 1)

    def pooled(self, inputs: Tokens) -> jax.Array:
        """[batch, length] bool: the tokens that the pooler sees."""
        return inputs.mask if inputs.pooled is None else inputs.pooled
