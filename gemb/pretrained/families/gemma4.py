"""EmbeddingGemma 2: its text transformer, and the image encoder of Gemma 4.

Layers that see the whole text have other heads than those that see a window, and each layer looks
at the token vectors again.
"""

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.encoders.vision import VisionSpec
from gemb.models.spec import Rotary, StackSpec
from gemb.pretrained.families import decoder
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
from gemb.pretrained.keys import ABSENT, ANY, Rule, epsilon, flag, only, read_keys, whole

_HEADS = {"head_dim": whole(None).or_null(), "num_key_value_heads": whole(None).or_null()}
_THETAS = {"sliding_attention": 10_000.0, "full_attention": 1_000_000.0}
_OBJECT = ROTARY["rope_parameters"]


def _is_by_layer(value) -> bool:
    return isinstance(value, dict) and all(
        key.isdecimal() and isinstance(heads, dict) for key, heads in value.items()
    )


KEYS = {
    "vocab_size": whole(262_144),
    "max_position_embeddings": whole(262_144),
    "num_hidden_layers": whole(24),
    "hidden_size": whole(512),
    "num_attention_heads": whole(4),
    "intermediate_size": whole(2048),
    "num_key_value_heads": whole(2),
    "head_dim": whole(256),
    "hidden_activation": activation_name("gelu_pytorch_tanh"),
    "rms_norm_eps": epsilon(1e-6),
    "attention_bias": flag(False),
    "sliding_window": whole(512),
    "layer_types": layer_kinds(),
    "hidden_size_per_layer_input": whole(512),
    "embedding_dim": whole(768),
    "rope_parameters": _OBJECT,
    "per_layer_config": Rule("the heads of layers, by their numbers", _is_by_layer).or_null(ABSENT),
    # they give the two above where those are missing
    "sliding_window_pattern": whole(6),
    "global_head_dim": whole(512),
    "num_global_key_value_heads": whole(1),
}
VISION_KEYS = {
    "num_hidden_layers": whole(16),
    "hidden_size": whole(768),
    "num_attention_heads": whole(12),
    "num_key_value_heads": whole(12),
    "head_dim": whole(64),
    "intermediate_size": whole(3072),
    "hidden_activation": activation_name("gelu_pytorch_tanh"),
    "rms_norm_eps": epsilon(1e-6),
    "patch_size": whole(16),
    "pooling_kernel_size": whole(3),
    "position_embedding_size": whole(10_240),
    "rope_parameters": _OBJECT,
    "use_clipped_linears": only(False),
    "standardize": only(False),
    **dict.fromkeys(
        ("attention_bias", "default_output_length", "global_head_dim", "max_position_embeddings"),
        ANY,
    ),
}


def text_spec(config: dict) -> TextSpec:
    """The shape that the values of a text transformer's config.json give.

    Raises:
        UserError: for heads that differ among layers of one kind, or another last layer.
    """
    layers, width = config["num_hidden_layers"], config["hidden_size"]
    kinds = _kinds(config, layers)
    heads = _heads_of_kinds(config, kinds)
    turns = {kind: _turn(config, kind) for kind in heads}
    usual = config["num_key_value_heads"], config["head_dim"]
    stack = _stack(
        config,
        final_norm=True,
        qkv_bias=config["attention_bias"],
        output_bias=config["attention_bias"],
        windows=tuple(
            config["sliding_window"] + 1 if kind == "sliding_attention" else 0 for kind in kinds
        ),
        rotary=tuple(turns[kind] for kind in kinds),
        layer_heads=tuple(heads[kind] for kind in kinds) if set(heads.values()) != {usual} else (),
        layer_input=config["hidden_size_per_layer_input"],
        layer_factor=True,
    )
    return TextSpec(
        config["vocab_size"],
        0,
        stack,
        types=0,
        length_limit=config["max_position_embeddings"],
        embedding_norm=False,
        embedding_scale=width**0.5,
        output=config["embedding_dim"],
    )


def _stack(config: dict, **own) -> StackSpec:
    """What the text transformer and the image encoder have in common, and what is one's own."""
    return StackSpec(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_size=config["head_dim"],
        mlp=config["intermediate_size"],
        activation=activation(config, "hidden_activation"),
        gated=True,
        norm="rms",
        norm_place="both",
        norm_epsilon=config["rms_norm_eps"],
        head_norm=True,
        value_norm=True,
        mlp_bias=False,
        score_scale=1.0,
        **own,
    )


def _kinds(config: dict, layers: int) -> list[str]:
    pattern = config["sliding_window_pattern"]
    kinds = layer_types(config, layers) or [
        "sliding_attention" if (layer + 1) % pattern else "full_attention"
        for layer in range(layers)
    ]
    if kinds[-1] != "full_attention":
        raise UserError(
            "config.json: layer_types: the last layer must be full_attention (transformers makes "
            f"it so), got {kinds[-1]}"
        )
    return kinds


def _heads_of_kinds(config: dict, kinds: list[str]) -> dict[str, tuple[int, int]]:
    """(heads of keys and values, size of one head) of each kind of layer."""
    usual = {name: config[name] for name in _HEADS}
    given = config.get("per_layer_config")
    if "per_layer_config" not in config:
        wide = {
            "head_dim": config["global_head_dim"],
            "num_key_value_heads": config["num_global_key_value_heads"],
        }
        given = {str(layer): wide for layer, kind in enumerate(kinds) if kind == "full_attention"}
    own = {int(layer): _layer_heads(layer, value) for layer, value in (given or {}).items()}
    if beyond := [layer for layer in own if layer >= len(kinds)]:
        raise UserError(f"config.json: per_layer_config: {beyond[0]}: there is no such layer")
    found: dict[str, tuple[int, int]] = {}
    for layer, kind in enumerate(kinds):
        values = usual | own.get(layer, {})
        heads = values["num_key_value_heads"], values["head_dim"]
        if found.setdefault(kind, heads) != heads:
            raise UserError(
                f"config.json: per_layer_config: layers of {kind} with different heads are not "
                "supported"
            )
    return found


def _layer_heads(layer: str, value: dict) -> dict[str, int]:
    place = f"config.json: per_layer_config: {layer}"
    if unknown := sorted(set(value) - set(_HEADS)):
        raise UserError(f"{place}: {unknown[0]} is not supported; only {' and '.join(_HEADS)} are")
    return {key: n for key, n in read_keys(value, _HEADS, place).items() if n is not None}


def _turn(config: dict, kind: str) -> Rotary:
    turn = rotary(config, kind, _THETAS[kind])
    if turn.scaling != "default":
        raise UserError(
            f"config.json: rope_parameters: rope_type {turn.scaling!r} is not supported for this "
            "model"
        )
    return turn


def text_tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Of the text transformer."""
    layers, made = spec.stack.layers, decoder.tensors(spec)
    made |= {
        "text/stack/layer_input_norm/scale": Tensor("ple.per_layer_projection_norm.weight"),
        "text/output/kernel": Tensor("embedding_projection.weight", transposed=True),
    }
    whole_input = "ple.per_layer_model_projection.weight"
    for layer in range(layers):
        ours, theirs = f"text/stack/layers/{layer}", f"layers.{layer}"
        own = f"{ours}/layer_input"
        made |= {
            f"{ours}/factor": Tensor(f"{theirs}.layer_scalar"),
            f"{own}/input/kernel": Tensor(whole_input, True, layer, layers),
            f"{own}/gate/kernel": Tensor(f"{theirs}.ple_block.per_layer_input_gate.weight", True),
            f"{own}/output/kernel": Tensor(f"{theirs}.ple_block.per_layer_projection.weight", True),
            f"{own}/norm/scale": Tensor(f"{theirs}.ple_block.post_per_layer_input_norm.weight"),
        }
    return made


def vision_spec(config: dict) -> VisionSpec:
    """The image encoder: square cells of patches, of which each gives one vector.

    Raises:
        UserError: for rotary positions that gemb does not compute.
    """
    turn = config.get("rope_parameters") or {}
    theta = turn.get("rope_theta", 100.0)
    known = set(turn) <= {"rope_theta", "rope_type"} and turn.get("rope_type", "axial") == "axial"
    if not known or type(theta) not in (int, float) or not 0 < theta < float("inf"):
        raise UserError(
            "config.json: vision_config: rope_parameters: expected rope_type axial and a "
            f"rope_theta above 0, got {turn}"
        )
    side = config["position_embedding_size"] * config["patch_size"]
    stack = _stack(config, qkv_bias=False, output_bias=False)
    return VisionSpec(
        (side, side),
        config["patch_size"],
        stack,
        positions="axes",
        first=False,
        patch_bias=False,
        flexible=True,
        theta=float(theta),
        merge=config["pooling_kernel_size"],
    )


def vision_tensors(spec: VisionSpec) -> dict[str, Tensor]:
    """Of the image encoder."""
    linears = {path: f"{name}.linear" for path, name in decoder.LINEARS.items()}
    norms = decoder.BOTH_NORMS | decoder.HEAD_NORMS
    made = {
        "image/patch/kernel": Tensor("patch_embedder.input_proj.weight", transposed=True),
        "image/position/table": Tensor("patch_embedder.position_embedding_table"),
    }
    for layer in range(spec.stack.layers):
        ours, theirs = f"image/stack/layers/{layer}", f"encoder.layers.{layer}"
        made |= layer_tensors(ours, theirs, linears, norms, bias=lambda path: False)
    return made


# what the names of a whole model's tensors begin with
TEXT_START, VISION_START = "language_model.", "vision_tower."
OTHERS = (VISION_START, "embed_vision.", "audio_tower.", "embed_audio.")
TEXT = Family(
    text_spec,
    (text_tensors,),
    prefixes=(f"model.{TEXT_START}", TEXT_START, "model."),
    dropped=(*OTHERS, *(f"model.{start}" for start in OTHERS)),
    keys=KEYS,
)
VISION = Family(
    vision_spec, (vision_tensors,), prefixes=(f"model.{VISION_START}", VISION_START),
    keys=VISION_KEYS,
)  # fmt: skip
FAMILIES = {"embedding_gemma2_text": TEXT}
