"""The whole model: tokens to unit vectors, and the spec that rebuilds it."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check, check_widths
from gemb.models.poolers import POOLERS
from gemb.models.text import TextEncoder, TextSpec


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything about a model but its weights and its tokenizer.

    Attributes:
        text: the encoder's shape.
        pooling: a name in POOLERS.
        normalize: whether vectors are scaled to unit length.
        max_length: tokens that a text is cut to, special tokens included.
        widths: nested (Matryoshka) widths that the model was trained for, widest first.
        query_prompt, document_prompt: put in front of queries and documents.
    """

    text: TextSpec
    pooling: str = "mean"
    normalize: bool = True
    max_length: int = 256
    widths: tuple[int, ...] = ()
    query_prompt: str = ""
    document_prompt: str = ""

    def __post_init__(self):
        check(
            self.pooling in POOLERS,
            f"pooling: expected one of {sorted(POOLERS)}, got {self.pooling!r}",
        )
        widths = check_widths("widths", self.widths or (self.dim,), self.dim)
        object.__setattr__(self, "widths", widths)

    @property
    def dim(self) -> int:
        """Size of the full embedding."""
        return self.text.stack.width


class EmbeddingModel(nnx.Module):
    """TextEncoder, pooler, normalisation: (ids, mask) -> [batch, dim] float32.

    Example:
        >>> import jax
        >>> from gemb.models.stack import StackSpec
        >>> text = TextSpec(vocab=16, positions=8, stack=StackSpec(1, 8, 2, 16))
        >>> model = EmbeddingModel(ModelSpec(text), key=jax.random.key(0))
        >>> ids = jax.numpy.array([[1, 2, 3]])
        >>> model(ids, ids > 0).shape
        (1, 8)
    """

    def __init__(self, spec: ModelSpec, *, key: jax.Array):
        self.text = TextEncoder(spec.text, key=key)
        self.pooling = spec.pooling
        self.normalize = spec.normalize

    def __call__(self, ids: jax.Array, mask: jax.Array, dtype=jnp.float32) -> jax.Array:
        """Embeds tokens.

        Args:
            ids: [batch, length] int32.
            mask: [batch, length] bool.
            dtype: compute dtype of the transformer.

        Returns:
            [batch, dim] float32; of unit length if the spec says so.
        """
        pooled = POOLERS[self.pooling](self.text(ids, mask, dtype), mask)
        return unit_length(pooled) if self.normalize else pooled


def unit_length(x: jax.Array, epsilon: float = 1e-24) -> jax.Array:
    """Divides rows by their Euclidean norm; `epsilon` floors the squared norm of a zero row."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(-1, keepdims=True), epsilon))
