"""MPNet: BERT with T5's relative position bias beside its absolute positions."""

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.bert import EMBEDDINGS
from gemb.pretrained.families.family import Family, Tensor, activation, need, stack_tensors

_LINEARS = {
    "attention/query": "attention.attn.q",
    "attention/key": "attention.attn.k",
    "attention/value": "attention.attn.v",
    "attention/output": "attention.attn.o",
    "up": "intermediate.dense",
    "down": "output.dense",
}
_NORMS = {"attention_norm": "attention.LayerNorm", "mlp_norm": "output.LayerNorm"}


def text_spec(config: dict) -> TextSpec:
    """Reads the shape from config.json."""
    return TextSpec(
        vocab=need(config, "vocab_size"),
        positions=need(config, "max_position_embeddings"),
        position_offset=2,
        types=0,
        stack=StackSpec(
            layers=need(config, "num_hidden_layers"),
            width=need(config, "hidden_size"),
            heads=need(config, "num_attention_heads"),
            mlp=need(config, "intermediate_size"),
            activation=activation(config),
            norm_epsilon=config.get("layer_norm_eps", 1e-12),
            relative_buckets=config.get("relative_attention_num_buckets", 32),
        ),
    )


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor."""
    names = {path: tensor for path, tensor in EMBEDDINGS.items() if "type" not in path}
    names["text/stack/relative/table"] = Tensor("encoder.relative_attention_bias.weight")
    return names | stack_tensors(spec.stack.layers, "encoder.layer.{}", _LINEARS, _NORMS)


FAMILIES = {
    "mpnet": Family(
        text_spec,
        (tensors,),
        prefixes=("mpnet.",),
        kept=("pooler.", "embeddings.position_ids"),
        dropped=("lm_head.", "classifier."),
    )
}
