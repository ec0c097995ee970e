"""Small models with random weights, for debugging and tests."""

from gemb.models.encoders.text import TextSpec
from gemb.models.model import Model, Tower
from gemb.models.spec import StackSpec, TowerSpec
from gemb.processors.text import TextProcessor


def from_scratch(
    processor: TextProcessor,
    *,
    layers: int = 2,
    width: int = 32,
    heads: int = 4,
    mlp: int = 64,
    positions: int = 128,
    pooling: str = "mean",
) -> Model:
    """A BERT-like model with random weights; tiny by default.

    For random weights of another family's shape see `gemb.pretrained.from_config`.

    Args:
        processor: its processor, such as `gemb.processors.text.of_bytes()`.
        layers: transformer layers; 0 makes a static model, a table of token vectors.
        width: hidden size and embedding dim.
        heads: attention heads.
        mlp: inner size of the feed-forward part.
        positions: longest sequence.
        pooling: a name in gemb.models.spec.POOLINGS.

    Returns:
        A model without parameters; training draws them at random.
    """
    vocab = processor.tokenizer().vocab
    if layers:
        encoder = TextSpec(vocab, positions, StackSpec(layers, width, heads, mlp))
    else:
        encoder = static_text(vocab, width)
    return Model.of(Tower(TowerSpec(encoder, pooling=pooling), None, processor))


def static_text(vocab: int, width: int) -> TextSpec:
    """The spec of a static encoder: a table of token vectors, without a transformer."""
    stack = StackSpec(layers=0, width=width, heads=1, mlp=0)
    return TextSpec(vocab, 0, stack, types=0, length_limit=8192, embedding_norm=False)
