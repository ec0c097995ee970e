"""Small models with random weights, for debugging and tests."""

import dataclasses

import jax

from gemb.models.encoders.convolution import Blocks, ConvolutionSpec
from gemb.models.encoders.text import TextSpec
from gemb.models.functional import initial_params
from gemb.models.model import Model, Tower
from gemb.models.spec import DenseSpec, ModelSpec, StackSpec, TowerSpec
from gemb.processors.image import ImageProcessor
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


def of_pictures(processor: TextProcessor, *, width: int = 32, side: int = 32) -> Model:
    """A tiny model of texts and pictures with random weights: two towers, the second with a head.

    Args:
        processor: of texts, such as `gemb.processors.text.of_bytes()`.
        width: embedding dim.
        side: height and width of pictures.
    """
    text = from_scratch(processor, width=width).document
    encoder = ConvolutionSpec(8, (Blocks(2, 8, 3, 2, 2),), 16, (side, side))
    head = (DenseSpec(16, 24, "gelu"), DenseSpec(24, width))
    spec = TowerSpec(encoder, dense=head)
    image = Tower(spec, None, ImageProcessor(side, side))
    draw = jax.jit(initial_params, static_argnums=0)  # one compilation instead of one an operation
    drawn = [jax.device_get(draw(ModelSpec.of(t.spec), jax.random.key(0))) for t in (text, image)]
    towers = zip((text, image), drawn, strict=True)
    return Model(*(dataclasses.replace(tower, params=params) for tower, params in towers))


def static_text(vocab: int, width: int) -> TextSpec:
    """The spec of a static encoder: a table of token vectors, without a transformer."""
    stack = StackSpec(layers=0, width=width, heads=1, mlp=0)
    return TextSpec(vocab, 0, stack, types=0, length_limit=8192, embedding_norm=False)
