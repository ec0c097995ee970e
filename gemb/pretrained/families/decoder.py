"""Decoders turned encoders: Llama, Mistral, Qwen 2 and 3, Gemma 1 to 3 (and EmbeddingGemma).

config.json says whether they attend causally or both ways, with the keys of transformers.
"""

from collections.abc import Callable

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.spec import StackSpec
from gemb.pretrained.families.config_keys import SIZES
from gemb.pretrained.families.family import (
    Family,
    Tensor,
    activation,
    activation_name,
    layer_kinds,
    layer_types,
    stack_tensors,
)
from gemb.pretrained.families.rotary import ROTARY, rotary
from gemb.pretrained.keys import ABSENT, ANY, Rule, epsilon, flag, number, only, whole

LINEARS = {
    "attention/query": "self_attn.q_proj",
    "attention/key": "self_attn.k_proj",
    "attention/value": "self_attn.v_proj",
    "attention/output": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
}
HEAD_NORMS = {
    "attention/query_norm": "self_attn.q_norm",
    "attention/key_norm": "self_attn.k_norm",
}
_PRE_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}
BOTH_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_output_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_output_norm": "post_feedforward_layernorm",
}


_WINDOW = {"sliding_window": whole(4096).or_null(4096), "layer_types": layer_kinds()}
_BIAS = {"attention_bias": flag(False)}
_CAP = number(ABSENT, above=0.0)


def _keys(kv_heads: int | None, head: int | None, hidden_act: str, **own: Rule) -> dict[str, Rule]:
    """What the config.json of a decoder may hold.

    Args:
        kv_heads, head: transformers' defaults of num_key_value_heads and head_dim, None for those
            that num_attention_heads and hidden_size give.
        hidden_act: the key of the activation.
        own: keys of this kind alone, and those that differ.
    """
    return {
        **SIZES,
        "num_key_value_heads": whole(kv_heads).or_null(kv_heads),
        "head_dim": whole(head).or_null(head),
        "rms_norm_eps": epsilon(1e-6),
        "is_causal": flag(True),
        "use_bidirectional_attention": flag(False).or_null(False),
        hidden_act: activation_name("silu"),
        **ROTARY,
        **own,
    }


def _gemma(kv_heads: int, hidden_act: str, **own: Rule) -> dict[str, Rule]:
    activation = {hidden_act: activation_name("gelu_pytorch_tanh")}
    # Of the head, and the other name of the activation, which transformers does not read.
    unread = {"final_logit_softcapping": ANY, "hidden_act": ANY, "hidden_activation": ANY}
    return unread | _keys(kv_heads, 256, hidden_act, **_BIAS) | activation | own


_QWEN = _WINDOW | {"use_sliding_window": flag(False), "max_window_layers": whole(28, least=0)}
_GEMMA2 = _WINDOW | {
    "query_pre_attn_scalar": whole(256),
    "attn_logit_softcapping": _CAP.or_null(50.0),
}
KEYS = {
    "llama": _keys(None, None, "hidden_act", mlp_bias=flag(False), **_BIAS),
    "mistral": _keys(8, None, "hidden_act", sliding_window=_WINDOW["sliding_window"]),
    "qwen2": _keys(32, None, "hidden_act", **_QWEN),
    "qwen3": _keys(32, 128, "hidden_act", **_QWEN, **_BIAS),
    "gemma": _gemma(16, "hidden_act"),
    "gemma2": _gemma(4, "hidden_activation", **_GEMMA2),
    "gemma3_text": _gemma(
        4,
        "hidden_activation",
        **_GEMMA2 | {"attn_logit_softcapping": _CAP.or_null()},
        sliding_window_pattern=whole(6),
        _sliding_window_pattern=ANY,
        rope_local_base_freq=number(ABSENT, above=0.0, whole=True),
        is_causal=only(True),  # use_bidirectional_attention says it
        use_bidirectional_pooling=ANY,
    ),
}


def text_spec(config: dict) -> TextSpec:
    """The shape that the values of config.json give."""
    kind, width = config["model_type"], config["hidden_size"]
    gemma, layers = kind.startswith("gemma"), config["num_hidden_layers"]
    heads, causal = config["num_attention_heads"], is_causal(config)
    kinds = _layer_types(config, layers)
    scale, attention_bias = config.get("query_pre_attn_scalar"), config.get("attention_bias", False)
    stack = StackSpec(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=config["num_key_value_heads"] or heads,
        head_size=config["head_dim"] or width // heads,
        mlp=config["intermediate_size"],
        activation=_activation(config),
        gated=True,
        norm="rms_plus_one" if gemma else "rms",
        norm_place="both" if kind in ("gemma2", "gemma3_text") else "pre",
        norm_epsilon=config["rms_norm_eps"],
        final_norm=True,
        head_norm=kind in ("qwen3", "gemma3_text"),
        qkv_bias=kind == "qwen2" or attention_bias,
        output_bias=kind != "qwen2" and attention_bias,
        mlp_bias=config.get("mlp_bias", False),
        score_scale=scale**-0.5 if scale else 0.0,
        score_cap=config.get("attn_logit_softcapping") or 0.0,
        causal=causal,
        windows=tuple(
            _window(config, causal) if kind == "sliding_attention" else 0 for kind in kinds
        ),
        rotary=_rotaries(config, kinds),
    )
    return TextSpec(
        config["vocab_size"],
        0,
        stack,
        types=0,
        length_limit=config["max_position_embeddings"],
        embedding_norm=False,
        embedding_scale=width**0.5 if gemma else 1.0,
    )


def is_causal(config: dict) -> bool:
    """Whether config.json asks for causal attention.

    Raises:
        UserError: where programs differ, by the key that they read.
    """
    causal, both_ways = config.get("is_causal", True), config["use_bidirectional_attention"]
    if config["model_type"] == "gemma3_text":
        return not both_ways
    if causal and both_ways:
        raise UserError(
            "config.json: use_bidirectional_attention: true is not enough, as transformers reads "
            "is_causal; set that to false too"
        )
    return causal


def _activation(config: dict) -> str:
    if config["model_type"] in ("gemma2", "gemma3_text"):
        return activation(config, "hidden_activation")
    if config["model_type"] == "gemma" and config["hidden_act"] == "gelu":
        return "gelu_tanh"  # the first Gemma was published as "gelu" and means the tanh form
    return activation(config)


def _layer_types(config: dict, layers: int) -> list[str]:
    """One of "full_attention" and "sliding_attention" a layer."""
    kind, window = config["model_type"], config.get("sliding_window")
    if kind.startswith("qwen") and not config["use_sliding_window"]:
        window = None
    kinds = layer_types(config, layers)

    def slides(i: int) -> bool:
        if kind.startswith("qwen"):
            return window is not None and i >= config["max_window_layers"]
        if kind == "gemma2":
            return i % 2 == 0
        if kind == "gemma3_text":
            return (i + 1) % config["sliding_window_pattern"] != 0
        return kind == "mistral" and window is not None

    kinds = kinds or ["sliding_attention" if slides(i) else "full_attention" for i in range(layers)]
    if window is None and "sliding_attention" in kinds:
        raise UserError("config.json: sliding_window: the sliding layers need one, there is none")
    return kinds


def _window(config: dict, causal: bool) -> int:
    """Tokens this far apart no longer see each other, as transformers counts for each form."""
    window = config["sliding_window"]
    if config["model_type"] == "gemma3_text" and not causal:
        return window // 2 + 1
    return window if causal else window + 1


def _rotaries(config: dict, kinds: list[str]) -> tuple:
    if config["model_type"] != "gemma3_text":
        return (rotary(config),) * len(kinds)
    turns = {
        "full_attention": rotary(config, "full_attention", 1_000_000.0),
        "sliding_attention": rotary(
            config, "sliding_attention", 10_000.0, "rope_local_base_freq", scaled=False
        ),
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

    norms = BOTH_NORMS if stack.norm_place == "both" else _PRE_NORMS
    norms = norms | (HEAD_NORMS if stack.head_norm else {})
    names = {
        "text/token/table": Tensor("embed_tokens.weight"),
        "text/stack/final_norm/scale": Tensor("norm.weight"),
    }
    return names | stack_tensors(stack.layers, "layers.{}", LINEARS, norms, bias)


def _causal(kind: str) -> Callable[[bool], dict]:
    """causal -> the keys of config.json that servers read.

    transformers reads the first key, text-embeddings-inference the second. In Gemma 3
    transformers reads the second; is_causal false would give its windows another width.
    """
    if kind == "gemma3_text":
        return lambda causal: (
            {"use_bidirectional_attention": not causal} | ({"is_causal": True} if causal else {})
        )
    return lambda causal: {"is_causal": causal, "use_bidirectional_attention": not causal}


FAMILIES = {
    kind: Family(
        text_spec,
        (tensors,),
        prefixes=("model.",),
        dropped=("lm_head.", "score.", "rotary_emb."),
        causal=_causal(kind),
        keys=keys,
    )
    for kind, keys in KEYS.items()
}
