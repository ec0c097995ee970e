"""NomicBERT: post-norm BERT with rotary positions and a gated feed-forward part, no biases."""

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.decoder import LINEARS
from gemb.pretrained.families.family import (
    Family,
    Tensor,
    activation,
    layer_tensors,
    need,
    rotary,
    stack_tensors,
)

_EMBEDDINGS = {
    "text/token/table": "embeddings.word_embeddings.weight",
    "text/type/table": "embeddings.token_type_embeddings.weight",
}
_NORMS = {"attention_norm": "post_attention_layernorm", "mlp_norm": "post_mlp_layernorm"}
# The names of the files on the hub, which are older than transformers' own class.
_HUB_LINEARS = {
    "attention/output": "attn.out_proj",
    "gate": "mlp.fc12",
    "up": "mlp.fc11",
    "down": "mlp.fc2",
}
_HUB_NORMS = {"attention_norm": "norm1", "mlp_norm": "norm2"}
# The keys of the hub's config.json -> transformers' own.
_HUB_KEYS = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_inner": "intermediate_size",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
    "layer_norm_epsilon": "layer_norm_eps",
    "rotary_emb_base": "rope_theta",
}


def text_spec(config: dict) -> TextSpec:
    """Reads the shape from config.json, in the hub's and in transformers' spelling."""
    config = {_HUB_KEYS.get(key, key): value for key, value in config.items()}
    wrong = {"prenorm": True, "rotary_emb_interleaved": True, "use_rms_norm": True}
    for key, value in wrong.items():
        if config.get(key) == value:
            raise UserError(f"config.json: {key} = {value} is not supported")
    layers = need(config, "num_hidden_layers")
    stack = StackSpec(
        layers=layers,
        width=need(config, "hidden_size"),
        heads=need(config, "num_attention_heads"),
        mlp=need(config, "intermediate_size"),
        activation=activation(config, default="silu"),
        gated=True,
        norm_epsilon=config.get("layer_norm_eps", 1e-12),
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        rotary=(rotary(config, theta=1000.0),) * layers,
    )
    types = config.get("type_vocab_size", 2)
    limit = need(config, "max_position_embeddings")
    return TextSpec(need(config, "vocab_size"), 0, stack, types=types, length_limit=limit)


def _has_bias(path: str) -> bool:
    return path.endswith("norm")


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor, by transformers' names."""
    names = {path: Tensor(name) for path, name in _EMBEDDINGS.items()}
    names |= layer_tensors("text", "embeddings", {}, {"norm": "LayerNorm"})
    return names | stack_tensors(spec.stack.layers, "layers.{}", LINEARS, _NORMS, _has_bias)


def hub_tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor, by the hub's names."""
    names = {path: Tensor(name) for path, name in _EMBEDDINGS.items()}
    names |= {f"text/norm/{ours}": Tensor(f"emb_ln.{theirs}") for ours, theirs in _PARTS.items()}
    layers, theirs = spec.stack.layers, "encoder.layers.{}"
    names |= stack_tensors(layers, theirs, _HUB_LINEARS, _HUB_NORMS, _has_bias)
    for i in range(layers):
        for part, name in enumerate(("query", "key", "value")):
            fused = Tensor(f"{theirs.format(i)}.attn.Wqkv.weight", True, part, 3)
            names[f"text/stack/layers/{i}/attention/{name}/kernel"] = fused
    return names


_PARTS = {"scale": "weight", "bias": "bias"}
FAMILIES = {
    "nomic_bert": Family(
        text_spec, (tensors, hub_tensors), prefixes=("nomic_bert.", "bert."), dropped=("cls.",)
    )
}
