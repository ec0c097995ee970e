"""Models with no published weights: a shape and a tokenizer."""

from gemb.models.pretrained.families import bert, static
from gemb.models.pretrained.folder import Pretrained
from gemb.models.spec import ModelSpec, StackSpec, TextSpec


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

    For random weights of another family's shape, `gemb.models.pretrained.adapt.load` a folder of
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
