"""Models with no published weights: a shape and a tokenizer."""

from gemb.models.embedder import ModelSpec
from gemb.models.pretrained.folder import Pretrained
from gemb.models.stack import StackSpec
from gemb.models.text import TextSpec


def from_scratch(
    tokenizer_json: str,
    *,
    layers: int = 2,
    width: int = 32,
    heads: int = 4,
    mlp: int = 64,
    positions: int = 128,
    max_length: int = 64,
    pooling: str = "mean",
) -> Pretrained:
    """A randomly initialised BERT-shaped model; tiny by default, for debugging and tests.

    Args:
        tokenizer_json: the tokenizer, as text.
        layers: transformer layers.
        width: hidden size, and size of the embedding.
        heads: attention heads.
        mlp: inner size of the feed-forward part.
        positions: longest sequence.
        max_length: tokens that texts are cut to.
        pooling: a name in gemb.models.poolers.POOLERS.

    Returns:
        A Pretrained without parameters: training draws them at random.
    """
    from tokenizers import Tokenizer

    text = TextSpec(
        vocab=Tokenizer.from_str(tokenizer_json).get_vocab_size(),
        positions=positions,
        stack=StackSpec(layers, width, heads, mlp),
    )
    spec = ModelSpec(text, pooling=pooling, max_length=max_length)
    return Pretrained(spec, None, {}, tokenizer_json, None, {})
