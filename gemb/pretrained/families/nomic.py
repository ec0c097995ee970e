"""NomicBERT: post-norm BERT with rotary positions and a gated feed-forward part, no biases."""

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import Rotary, StackSpec
from gemb.pretrained.families.config_keys import SIZES
from gemb.pretrained.families.decoder import LINEARS
from gemb.pretrained.families.family import (
    Family,
    Tensor,
    activation,
    activation_name,
    layer_tensors,
    stack_tensors,
)
from gemb.pretrained.families.rotary import ROTARY, rotary
from gemb.pretrained.keys import ABSENT, ANY, epsilon, number, one_of, only, whole

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
    "activation_function": "hidden_act",
    "rotary_emb_fraction": "partial_rotary_factor",
    "causal": "is_causal",
}
# Its names of the gated parts -> the activation of the gate.
_GATES = {"swiglu": "silu", "geglu": "gelu"}


_HUB_TRAINING = (
    "attn_pdrop", "embd_pdrop", "resid_pdrop", "dense_seq_output", "fused_bias_fc",
    "fused_dropout_add_ln", "last_layer_subset", "mlp_checkpoint_lvl", "pad_vocab_size_multiple",
    "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
    "summary_use_proj", "use_flash_attn", "use_xentropy",
    "reorder_and_upcast_attn", "parallel_block_tied_norm",
)  # fmt: skip
KEYS = {
    **SIZES,
    "head_dim": whole(None).or_null(),
    "type_vocab_size": whole(2),
    "hidden_act": activation_name("silu"),
    "activation_function": one_of(*_GATES, default=ABSENT),
    "layer_norm_eps": epsilon(1e-12),
    **ROTARY,
    "rotary_scaling_factor": number(ABSENT, above=0.0, whole=True).or_null(ABSENT),
    "max_trained_positions": whole(ABSENT),
    # The hub's, of variants that gemb does not compute
    "is_causal": only(False),
    "mlp_fc1_bias": only(False),
    "mlp_fc2_bias": only(False),
    "parallel_block": only(False),
    "prenorm": only(False),
    "qkv_proj_bias": only(False),
    "rotary_emb_scale_base": only(None),
    "scale_attn_by_inverse_layer_idx": only(False),
    "scale_attn_weights": only(True),
    "rotary_emb_interleaved": only(False),
    "use_rms_norm": only(False, None),
    **dict.fromkeys(_HUB_TRAINING, ANY),
}


def text_spec(config: dict) -> TextSpec:
    """The shape that the values of config.json give."""
    layers = config["num_hidden_layers"]
    stack = StackSpec(
        layers=layers,
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        head_size=config["head_dim"] or 0,
        mlp=config["intermediate_size"],
        activation=activation(config),
        gated=True,
        norm_epsilon=config["layer_norm_eps"],
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        rotary=(_rotary(config),) * layers,
    )
    types = config["type_vocab_size"]
    limit = config["max_position_embeddings"]
    return TextSpec(config["vocab_size"], 0, stack, types=types, length_limit=limit)


def _rotary(config: dict) -> Rotary:
    """Positions of texts beyond those of the training are scaled, if the hub's key says so."""
    factor, trained = config.get("rotary_scaling_factor"), config.get("max_trained_positions", 2048)
    made = rotary(config, theta=1000.0)
    if not factor or trained >= config["max_position_embeddings"]:
        return made
    return Rotary(made.theta, "dynamic", float(factor), original_length=trained)


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
        text_spec,
        (tensors, hub_tensors),
        prefixes=("nomic_bert.", "bert."),
        dropped=("cls.",),
        keys=KEYS,
        spellings=_HUB_KEYS,
        meanings={"activation_function": _GATES},
    )
}
