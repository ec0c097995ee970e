"""Static models: a table of token vectors and their mean, no transformer at all."""

from gemb.models.encoders.text import TextSpec
from gemb.models.scratch import static_text
from gemb.pretrained.families.family import Family, Tensor
from gemb.pretrained.keys import whole

KEYS = {"vocab_size": whole(), "hidden_size": whole()}


def text_spec(config: dict) -> TextSpec:
    """Reads the shape: vocab_size and hidden_size."""
    return static_text(config["vocab_size"], config["hidden_size"])


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor, as sentence-transformers' StaticEmbedding names it."""
    return {"text/token/table": Tensor("embedding.weight")}


def config_of(spec: TextSpec) -> dict:
    """What a config.json would say, for models with no published weights."""
    return {"model_type": "static", "vocab_size": spec.vocab, "hidden_size": spec.width}


FAMILIES = {"static": Family(text_spec, (tensors,), keys=KEYS)}
