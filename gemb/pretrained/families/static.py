"""Static models: a table of token vectors and their mean, no transformer at all."""

from gemb.models.spec import StackSpec, TextSpec
from gemb.pretrained.families.family import Family, Tensor, need


def text_spec(config: dict) -> TextSpec:
    """Reads the shape: vocab_size and hidden_size."""
    width = need(config, "hidden_size")
    stack = StackSpec(layers=0, width=width, heads=1, mlp=0)
    return TextSpec(
        need(config, "vocab_size"), 0, stack, types=0, length_limit=8192, embedding_norm=False
    )


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor, as sentence-transformers' StaticEmbedding names it."""
    return {"text/token/table": Tensor("embedding.weight")}


FAMILIES = {"static": Family(text_spec, (tensors,))}
