"""Decoders turned encoders: Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3 (and EmbeddingGemma).

Whether they attend causally or both ways stands in config.json, in the words of transformers.
"""

from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.family import (
    Family,
    Tensor,
    activation,
    layer_types,
    need,
    rotary,
    stack_tensors,
)

LINEARS = {
    "attention/query": "self_attn.q_proj",
    "attention/key": "self_attn.k_proj",
    "attention/value": "self_attn.v_proj",
    "attention/output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
_HEAD_NORMS = {
    "attention/query_norm": "self_attn.q_norm",
    "attention/key_norm": "self_attn.k_norm",
}
_PRE_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
_BOTH_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_output_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_output_norm": "post_feedforward_layernorm",
}


def text_spec(config: dict) -> TextSpec:
    """Reads the shape from config.json."""
    kind, width = config["model_type"], need(config, "hidden_size")
    gemma, layers = kind.startswith("gemma"), need(config, "num_hidden_layers")
    heads, causal = need(config, "num_attention_heads"), is_causal(config)
    kinds = _layer_types(config, layers)
    scale = config.get("query_pre_attn_scalar") if kind in ("gemma2", "gemma3_text") else None
    attention_bias = config.get("attention_bias", False)
    stack = StackSpec(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or width // heads,
        mlp=need(config, "intermediate_size"),
        activation=_activation(config, gemma),
        gated=True,
        norm="rms_plus_one" if gemma else "rms",
        norm_place="both" if kind in ("gemma2", "gemma3_text") else "pre",
        norm_epsilon=config.get("rms_norm_eps", 1e-6),
        final_norm=True,
        head_norm=kind in ("qwen3", "gemma3_text"),
        qkv_bias=kind == "qwen2" or attention_bias,
        output_bias=kind != "qwen2" and attention_bias,
        mlp_bias=config.get("mlp_bias", False),
        score_scale=scale**-0.5 if scale else 0.0,
        score_cap=(config.get("attn_logit_softcapping") or 0.0) if kind == "gemma2" else 0.0,
        causal=causal,
        windows=tuple(
            _window(config, causal) if kind == "sliding_attention" else 0 for kind in kinds
        ),
        rotary=_rotaries(config, kinds),
    )
    return TextSpec(
        need(config, "vocab_size"),
        0,
        stack,
        types=0,
        length_limit=need(config, "max_position_embeddings"),
        embedding_norm=False,
        embedding_scale=width**0.5 if gemma else 1.0,
    )


def is_causal(config: dict) -> bool:
    """Whether config.json asks for causal attention."""
    return config.get("is_causal", True) and not config.get("use_bidirectional_attention")


def _activation(config: dict, gemma: bool) -> str:
    if not gemma:
        return activation(config, default="silu")
    # Gemma 1 was published as "gelu" and means the tanh form
    name = config.get("hidden_activation") or config.get("hidden_act") or "gelu"
    name = "gelu_pytorch_tanh" if name == "gelu" else name
    return activation({"hidden_activation": name}, "hidden_activation")


def _layer_types(config: dict, layers: int) -> list[str]:
    """One of "full_attention" and "sliding_attention" a layer."""
    kind, window = config["model_type"], config.get("sliding_window", 4096)
    if given := layer_types(config, layers):
        return given

    def slides(i: int) -> bool:
        if kind.startswith("qwen"):
            first = config.get("max_window_layers", 28)
            return config.get("use_sliding_window", False) and i >= first
        if kind == "gemma2":
            return i % 2 == 0
        if kind == "gemma3_text":
            return (i + 1) % config.get("sliding_window_pattern", 6) != 0
        return kind == "mistral" and bool(window)

    return ["sliding_attention" if slides(i) else "full_attention" for i in range(layers)]


def _window(config: dict, causal: bool) -> int:
    """Tokens this far apart no longer see each other, as transformers counts for each form."""
    window = config.get("sliding_window") or 4096
    # Gemma 3 alone halves it; in other families the key marks the folder for servers
    if config["model_type"] == "gemma3_text" and config.get("use_bidirectional_attention"):
        return window // 2 + 1
    return window if causal else window + 1


def _rotaries(config: dict, kinds: list[str]) -> tuple:
    if config["model_type"] != "gemma3_text":
        return (rotary(config),) * len(kinds)
    turns = {
        "full_attention": rotary(config, "full_attention", 1_000_000.0),
        "sliding_attention": rotary(config, "sliding_attention", 10_000.0, "rope_local_base_freq"),
    }
    return tuple(turns[kind] for kind in kinds)


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor."""
    stack = spec.stack

    def bias(path: str) -> bool:
        if path.endswith("norm"):
            return False
        if not path.startswith("attention"):
            return stack.mlp_bias
        return stack.output_bias if path.endswith("output") else stack.qkv_bias

    norms = _BOTH_NORMS if stack.norm_place == "both" else _PRE_NORMS
    norms = norms | (_HEAD_NORMS if stack.head_norm else {})
    names = {
        "text/token/table": Tensor("embed_tokens.weight"),
        "text/stack/final_norm/scale": Tensor("norm.weight"),
    }
    return names | stack_tensors(stack.layers, "layers.{}", LINEARS, norms, bias)


def _family(causal) -> Family:
    return Family(
        text_spec,
        (tensors,),
        prefixes=("model.",),
        dropped=("lm_head.", "score.", "rotary_emb."),
        causal=causal,
        pooling="lasttoken",
    )


def _flags(causal: bool) -> dict:
    """transformers reads the first key, text-embeddings-inference the second."""
    return {"is_causal": causal, "use_bidirectional_attention": not causal}


def _gemma3_flags(causal: bool) -> dict:
    """The family's own key; is_causal false would give its windows another width."""
    return {"use_bidirectional_attention": not causal} | ({"is_causal": True} if causal else {})


FAMILIES = dict.fromkeys(
    ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2"), _family(_flags)
) | {"gemma3_text": _family(_gemma3_flags)}
