"""The encoders of T5 and mT5: pre-norm, relative positions, no biases; gated since 1.1."""

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.family import Family, Tensor, activation, need, stack_tensors

_ATTENTION = {
    "attention/query": "SelfAttention.q",
    "attention/key": "SelfAttention.k",
    "attention/value": "SelfAttention.v",
    "attention/output": "SelfAttention.o",
}
_PLAIN = {"up": "DenseReluDense.wi", "down": "DenseReluDense.wo"}
_GATED = {
    "gate": "DenseReluDense.wi_0",
    "up": "DenseReluDense.wi_1",
    "down": "DenseReluDense.wo",
}


def text_spec(config: dict) -> TextSpec:
    """Reads the shape from config.json."""
    projection = config.get("feed_forward_proj", "relu")
    gated = projection.startswith("gated-")
    name = projection.removeprefix("gated-")
    name = "gelu_new" if gated and name == "gelu" else name  # as transformers reads "gated-gelu"
    stack = StackSpec(
        layers=need(config, "num_layers"),
        width=need(config, "d_model"),
        heads=need(config, "num_heads"),
        head_size=need(config, "d_kv"),
        mlp=need(config, "d_ff"),
        activation=activation({"feed_forward_proj": name}, "feed_forward_proj"),
        gated=gated,
        norm="rms",
        norm_place="pre",
        norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
        final_norm=True,
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        score_scale=1.0,
        relative_buckets=config.get("relative_attention_num_buckets", 32),
        relative_distance=config.get("relative_attention_max_distance", 128),
        init="t5",
    )
    return TextSpec(need(config, "vocab_size"), 0, stack, types=0, embedding_norm=False)


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor."""
    bias = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    names = {
        "text/token/table": Tensor("shared.weight"),
        "text/stack/relative/table": Tensor(bias),
        "text/stack/final_norm/scale": Tensor("encoder.final_layer_norm.weight"),
    }

    def no_bias(path: str) -> bool:
        return False

    forward = _GATED if spec.stack.gated else _PLAIN
    for part, linears, norm in ((0, _ATTENTION, "attention_norm"), (1, forward, "mlp_norm")):
        theirs = f"encoder.block.{{}}.layer.{part}"
        names |= stack_tensors(spec.stack.layers, theirs, linears, {norm: "layer_norm"}, no_bias)
    return names


_FAMILY = Family(
    text_spec,
    (tensors,),
    aliases={"encoder.embed_tokens.weight": "shared.weight"},
    dropped=("decoder.", "lm_head."),
    layer_count="num_layers",
)
FAMILIES = {"t5": _FAMILY, "mt5": _FAMILY}
