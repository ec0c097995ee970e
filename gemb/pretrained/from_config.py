"""Models with random weights of a published family's shape, from what its config.json says."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gemb.checks import UserError, suggest
from gemb.models.model import Model, Origin, Tower
from gemb.models.spec import DenseSpec, TowerSpec
from gemb.pretrained.families import FAMILIES
from gemb.pretrained.fetch import model_folder
from gemb.processors.text import TextProcessor, from_folder, of_bytes


def from_config(
    config: Mapping,
    *,
    tokenizer: str = "",
    pooling: str = "mean",
    max_length: int = 512,
    projection: Sequence[int] = (),
    widths: Sequence[int] = (),
) -> Model:
    """A randomly initialised model of any family's shape.

    Args:
        config: what would stand in config.json, with a known `model_type`.
        tokenizer: a folder with the tokenizer, or a fetched model's name; '' for one token per
            byte.
        pooling: a name in gemb.models.spec.POOLINGS.
        max_length: tokens that texts are cut to.
        projection: output sizes of linear layers over the pooled vector, without biases.
        widths: nested widths to record in the model.

    Returns:
        A model without parameters: training draws them at random.

    Raises:
        UserError: for an unknown family, a config that lacks something, or a tokenizer with more
            tokens than the config's vocab_size.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UserError(f"config: unknown model_type {kind!r}.{suggest(str(kind), FAMILIES)}")
    encoder = FAMILIES[kind].text_spec(dict(config))
    sizes = (encoder.width, *projection)
    dense = tuple(DenseSpec(sizes[i], size, bias=False) for i, size in enumerate(projection))
    spec = TowerSpec(encoder, pooling=pooling, dense=dense, widths=tuple(widths))
    processor, origin = _processor(tokenizer, max_length), Origin(config=dict(config))
    size = processor.tokenizer().vocab
    if size > encoder.vocab:
        raise UserError(
            f"config: vocab_size is {encoder.vocab}, the tokenizer gives ids up to {size - 1}"
        )
    try:
        return Model.of(Tower(spec, None, processor, origin))
    except ValueError as error:
        raise UserError(f"config: {error}") from None


def _processor(tokenizer: str, max_length: int) -> TextProcessor:
    if not tokenizer:
        return of_bytes(max_length)
    folder = Path(tokenizer)
    return from_folder(folder if folder.is_dir() else model_folder(tokenizer), max_length)
