"""ModernBERT: pre-norm, gated, rotary, two layers of a local window to one that sees all."""

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.config_keys import SIZES
from gemb.pretrained.families.family import (
    Family,
    Tensor,
    activation,
    activation_name,
    layer_kinds,
    layer_tensors,
    layer_types,
)
from gemb.pretrained.families.rotary import ROTARY, rotary
from gemb.pretrained.keys import ABSENT, ANY, epsilon, flag, number, whole

_LINEARS = {"attention/output": "attn.Wo", "down": "mlp.Wo"}
_FUSED = {
    "attn.Wqkv": ("attention/query", "attention/key", "attention/value"),
    "mlp.Wi": ("gate", "up"),
}


_THETA = number(ABSENT, above=0.0, whole=True)
_HEAD_KEYS = (
    "classifier_activation", "classifier_bias", "classifier_pooling", "decoder_bias",
    "deterministic_flash_attn", "embedding_dropout", "initializer_cutoff_factor", "mlp_dropout",
    "reference_compile", "repad_logits_with_grad", "sparse_pred_ignore_index",
    "sparse_prediction",
)  # fmt: skip
KEYS = {
    **SIZES,
    "hidden_activation": activation_name("gelu"),
    "norm_eps": epsilon(1e-5),
    "norm_bias": flag(False),
    "attention_bias": flag(False),
    "mlp_bias": flag(False),
    "layer_types": layer_kinds(),
    "global_attn_every_n_layers": whole(3),
    "local_attention": whole(128, least=2),
    "sliding_window": whole(ABSENT),  # half of local_attention, which it replaces
    "global_rope_theta": _THETA,
    "local_rope_theta": _THETA,
    **ROTARY,
    **dict.fromkeys(_HEAD_KEYS, ANY),
}


def text_spec(config: dict) -> TextSpec:
    """The shape that the values of config.json give."""
    layers, every = config["num_hidden_layers"], config["global_attn_every_n_layers"]
    kinds = layer_types(config, layers) or [
        "sliding_attention" if i % every else "full_attention" for i in range(layers)
    ]
    turns = {
        "full_attention": rotary(config, "full_attention", 160_000.0, "global_rope_theta"),
        "sliding_attention": rotary(config, "sliding_attention", 10_000.0, "local_rope_theta"),
    }
    window = config.get("sliding_window", config["local_attention"] // 2) + 1
    stack = StackSpec(
        layers=layers,
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        mlp=config["intermediate_size"],
        activation=activation(config, "hidden_activation"),
        gated=True,
        norm_bias=config["norm_bias"],
        norm_place="pre",
        norm_epsilon=config["norm_eps"],
        first_norm=False,
        final_norm=True,
        qkv_bias=config["attention_bias"],
        output_bias=config["attention_bias"],
        mlp_bias=config["mlp_bias"],
        windows=tuple(window if kind == "sliding_attention" else 0 for kind in kinds),
        rotary=tuple(turns[kind] for kind in kinds),
        init="modernbert",
    )
    limit = config["max_position_embeddings"]
    return TextSpec(config["vocab_size"], 0, stack, types=0, length_limit=limit)


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
        keys=KEYS,
    )
}
