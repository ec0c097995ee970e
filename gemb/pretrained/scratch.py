"""Models with no published weights: a shape and a tokenizer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from gemb.checks import UserError, suggest
from gemb.models.spec import DenseSpec, ModelSpec, StackSpec, TextSpec
from gemb.pretrained.families import FAMILIES, bert, static
from gemb.pretrained.fetch import model_folder
from gemb.pretrained.folder import Pretrained
from gemb.tokenizers.tokenizer_files import read_tokenizer


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

    For random weights of another family's shape, `gemb.pretrained.adapt.load` a folder of
    its config.json and tokenizer with `weights = False`.

    Args:
        tokenizer_json: the tokenizer, as text.
        layers: transformer layers; 0 makes a static model, a table of token vectors.
        width: hidden size, and size of the embedding.
        heads: attention heads.
        mlp: inner size of the feed-forward part.
        positions: longest sequence.
        max_length: tokens that texts are cut to.
        pooling: a name in gemb.models.spec.POOLINGS.

    Returns:
        A Pretrained without parameters: training draws them at random.
    """
    from tokenizers import Tokenizer

    vocab = Tokenizer.from_str(tokenizer_json).get_vocab_size()
    if layers:
        text = TextSpec(vocab, positions, StackSpec(layers, width, heads, mlp))
        config = bert.config_of(text)
    else:
        config = {"model_type": "static", "vocab_size": vocab, "hidden_size": width}
        text = static.text_spec(config)
    spec = ModelSpec(text, pooling=pooling, max_length=max_length)
    return Pretrained(spec, None, config, {}, tokenizer_json, None, {})


def from_config(
    *,
    config: Mapping,
    tokenizer_json: str = "",
    tokenizer: str = "",
    pooling: str = "mean",
    max_length: int = 512,
    projection: Sequence[int] = (),
    widths: Sequence[int] = (),
) -> Pretrained:
    """A randomly initialised model of any family's shape, as its config.json would tell it.

    Args:
        config: what would stand in config.json, with a `model_type` of gemb.pretrained.
        tokenizer_json: the tokenizer, as text.
        tokenizer: a folder with the tokenizer, or a fetched model's name, instead of the text.
        pooling: a name in gemb.models.spec.POOLINGS.
        max_length: tokens that texts are cut to.
        projection: output sizes of linear layers over the pooled vector, without biases.
        widths: nested widths to record in the model.

    Returns:
        A Pretrained without parameters: training draws them at random.

    Raises:
        UserError: for an unknown family, a config that lacks something, or a tokenizer of more
            tokens than the config's vocab_size.
    """
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UserError(f"config: unknown model_type {kind!r}.{suggest(str(kind), FAMILIES)}")
    if tokenizer:
        folder = Path(tokenizer)
        tokenizer_json = read_tokenizer(folder if folder.is_dir() else model_folder(tokenizer))
    if not tokenizer_json:
        raise UserError("from_config: give tokenizer, a folder, or tokenizer_json, a text")
    from tokenizers import Tokenizer

    text = FAMILIES[kind].text_spec(dict(config))
    tokens = Tokenizer.from_str(tokenizer_json).get_vocab_size()
    if tokens > text.vocab:
        raise UserError(f"config: vocab_size is {text.vocab}, the tokenizer has {tokens} tokens")
    sizes = (text.stack.width, *projection)
    dense = tuple(DenseSpec(sizes[i], size, bias=False) for i, size in enumerate(projection))
    spec = ModelSpec(
        text, pooling=pooling, max_length=max_length, dense=dense, widths=tuple(widths)
    )
    return Pretrained(spec, None, dict(config), {}, tokenizer_json, None, {})
