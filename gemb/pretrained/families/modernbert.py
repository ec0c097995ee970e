"""ModernBERT: pre-norm, gated, rotary, two layers of a local window to one that sees all."""

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.family import (
    Family,
    Tensor,
    activation,
    layer_tensors,
    layer_types,
    need,
    rotary,
)

_LINEARS = {"attention/output": "attn.Wo", "down": "mlp.Wo"}
_FUSED = {
    "attn.Wqkv": ("attention/query", "attention/key", "attention/value"),
    "mlp.Wi": ("gate", "up"),
}


def text_spec(config: dict) -> TextSpec:
    """Reads the shape from config.json."""
    layers = need(config, "num_hidden_layers")
    every = config.get("global_attn_every_n_layers", 3)
    kinds = layer_types(config, layers) or [
        "sliding_attention" if i % every else "full_attention" for i in range(layers)
    ]
    turns = {
        "full_attention": rotary(config, "full_attention", 160_000.0, "global_rope_theta"),
        "sliding_attention": rotary(config, "sliding_attention", 10_000.0, "local_rope_theta"),
    }
    window = config.get("local_attention", 128) // 2 + 1
    stack = StackSpec(
        layers=layers,
        width=need(config, "hidden_size"),
        heads=need(config, "num_attention_heads"),
        mlp=need(config, "intermediate_size"),
        activation=activation(config, "hidden_activation"),
        gated=True,
        norm_bias=config.get("norm_bias", False),
        norm_place="pre",
        norm_epsilon=config.get("norm_eps", 1e-5),
        first_norm=False,
        final_norm=True,
        qkv_bias=config.get("attention_bias", False),
        output_bias=config.get("attention_bias", False),
        mlp_bias=config.get("mlp_bias", False),
        windows=tuple(window if kind == "sliding_attention" else 0 for kind in kinds),
        rotary=tuple(turns[kind] for kind in kinds),
        init="modernbert",
    )
    limit = need(config, "max_position_embeddings")
    return TextSpec(need(config, "vocab_size"), 0, stack, types=0, length_limit=limit)


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor."""
    stack = spec.stack

    def bias(path: str) -> bool:
        if path.endswith("norm"):
            return stack.norm_bias
        return stack.qkv_bias if "attention" in path else stack.mlp_bias

    names = {"text/token/table": Tensor("embeddings.tok_embeddings.weight")}
    names |= layer_tensors("text", "embeddings", {}, {"norm": "norm"}, bias)
    for i in range(stack.layers):
        ours, theirs = f"text/stack/layers/{i}", f"layers.{i}"
        norms = {"mlp_norm": "mlp_norm"}
        if stack.has_attention_norm(i):
            norms["attention_norm"] = "attn_norm"
        names |= layer_tensors(ours, theirs, _LINEARS, norms, bias)
        for name, paths in _FUSED.items():
            for part, path in enumerate(paths):
                whole = (part, len(paths))
                names[f"{ours}/{path}/kernel"] = Tensor(f"{theirs}.{name}.weight", True, *whole)
                if bias(path):
                    names[f"{ours}/{path}/bias"] = Tensor(f"{theirs}.{name}.bias", False, *whole)
    names["text/stack/final_norm/scale"] = Tensor("final_norm.weight")
    if stack.norm_bias:
        names["text/stack/final_norm/bias"] = Tensor("final_norm.bias")
    return names


FAMILIES = {
    "modernbert": Family(
        text_spec,
        (tensors,),
        prefixes=("model.",),
        dropped=("head.", "decoder.", "classifier."),
    )
}
