"""Families of published image encoders, and of the text encoders that were trained with them.

ViT, DINOv2, DINOv3, CLIP, SigLIP and the fixed-size SigLIP 2, whose folders say "siglip" too.
"""

import dataclasses
import math

import numpy as np

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.encoders.vision import VisionSpec
from gemb.models.spec import DenseSpec, StackSpec, TowerSpec
from gemb.pretrained.families.family import (
    Family,
    Tensor,
    activation,
    activation_name,
    layer_tensors,
)
from gemb.pretrained.keys import ANY, epsilon, flag, number, only, whole

_LINEARS = {
    "attention/query": "self_attn.q_proj",
    "attention/key": "self_attn.k_proj",
    "attention/value": "self_attn.v_proj",
    "attention/output": "self_attn.out_proj",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}
_NORMS = {"attention_norm": "layer_norm1", "mlp_norm": "layer_norm2"}


def _sizes(width: int, mlp: int, heads: int) -> dict:
    """Sizes of a stack; published files leave out those that transformers has as defaults."""
    return {
        "hidden_size": whole(width),
        "intermediate_size": whole(mlp),
        "num_hidden_layers": whole(12),
        "num_attention_heads": whole(heads),
    }


_STACK = _sizes(768, 3072, 12)
_CLIP_STACK = _STACK | {
    "hidden_act": activation_name("quick_gelu"),
    "layer_norm_eps": epsilon(1e-5),
}
_SIGLIP_STACK = _STACK | {
    "hidden_act": activation_name("gelu_pytorch_tanh"),
    "layer_norm_eps": epsilon(1e-6),
}
_PICTURE = {"image_size": whole(224), "num_channels": only(3)}


def _stack(config: dict, **settings) -> StackSpec:
    return StackSpec(
        layers=config["num_hidden_layers"],
        width=config["hidden_size"],
        heads=config["num_attention_heads"],
        norm_epsilon=config["layer_norm_eps"],
        norm_place="pre",
        final_norm=True,
        **{"mlp": config.get("intermediate_size"), "activation": activation(config)} | settings,
    )


def _pair(ours: str, theirs: str) -> dict[str, Tensor]:
    """Weight and bias of a linear map."""
    return {
        f"{ours}/kernel": Tensor(f"{theirs}.weight", transposed=True),
        f"{ours}/bias": Tensor(f"{theirs}.bias"),
    }


def _norm(ours: str, theirs: str) -> dict[str, Tensor]:
    return {f"{ours}/scale": Tensor(f"{theirs}.weight"), f"{ours}/bias": Tensor(f"{theirs}.bias")}


def _layers(modality: str, layers: int, theirs: str, linears: dict, norms: dict, **options):
    made = {}
    for layer in range(layers):
        ours = f"{modality}/stack/layers/{layer}"
        made |= layer_tensors(ours, theirs.format(layer), linears, norms, **options)
    return made


def clip_text(config: dict) -> TextSpec:
    """CLIP's text encoder: causal, pooled at the last token."""
    return TextSpec(
        vocab=config["vocab_size"],
        positions=config["max_position_embeddings"],
        types=0,
        embedding_norm=False,
        stack=_stack(config, causal=config["model_type"] == "clip_text_model"),
    )


def clip_vision(config: dict) -> VisionSpec:
    """CLIP's image encoder: a norm before the stack, pooled at the first vector."""
    size, patch = config["image_size"], config["patch_size"]
    stack = _stack(config)
    return VisionSpec((size, size), patch, stack, patch_bias=False, embedding_norm=True)


def siglip_vision(config: dict) -> VisionSpec:
    """SigLIP's image encoder: no first vector, pooled by a probe."""
    size, patch = config["image_size"], config["patch_size"]
    return VisionSpec((size, size), patch, _stack(config), first=False)


def siglip2_vision(config: dict) -> VisionSpec:
    """SigLIP 2's image encoder for pictures of any size."""
    side = math.isqrt(config["num_patches"])
    if side * side != config["num_patches"]:
        raise UserError(f"num_patches: expected a square, got {config['num_patches']}")
    size, patch = side * config["patch_size"], config["patch_size"]
    return VisionSpec((size, size), patch, _stack(config), first=False, flexible=True)


def vit(config: dict) -> VisionSpec:
    """The first vision transformer."""
    size, patch = config["image_size"], config["patch_size"]
    return VisionSpec((size, size), patch, _stack(config, qkv_bias=config["qkv_bias"]))


def dinov2(config: dict) -> VisionSpec:
    """DINOv2: a ViT whose sublayers are scaled by learned vectors."""
    size, patch = config["image_size"], config["patch_size"]
    mlp = config["hidden_size"] * config["mlp_ratio"]
    stack = _stack(config, mlp=mlp, qkv_bias=config["qkv_bias"], layer_scale=True)
    return VisionSpec((size, size), patch, stack, registers=config.get("num_register_tokens", 0))


def dinov3(config: dict) -> VisionSpec:
    """DINOv3: rotary positions, registers, keys without a bias."""
    if config["query_bias"] != config["value_bias"]:
        raise UserError("query_bias, value_bias: gemb computes only both or none")
    size, patch = config["image_size"], config["patch_size"]
    stack = _stack(
        config,
        qkv_bias=config["query_bias"],
        key_bias=config["query_bias"] and config["key_bias"],
        output_bias=config["proj_bias"],
        mlp_bias=config["mlp_bias"],
        gated=config["use_gated_mlp"],
        layer_scale=True,
    )
    return VisionSpec(
        (size, size),
        patch,
        stack,
        positions="rotary",
        registers=config["num_register_tokens"],
        theta=float(config["rope_theta"]),
    )


def text_tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Of CLIP's and SigLIP's text encoders."""
    return {
        "text/token/table": Tensor("embeddings.token_embedding.weight"),
        "text/position/table": Tensor("embeddings.position_embedding.weight"),
        **_layers("text", spec.stack.layers, "encoder.layers.{}", _LINEARS, _NORMS),
        **_norm("text/stack/final_norm", "final_layer_norm"),
    }


def clip_vision_tensors(spec: VisionSpec) -> dict[str, Tensor]:
    """Of CLIP's image encoder."""
    return {
        "image/first": Tensor("embeddings.class_embedding"),
        "image/patch/kernel": Tensor("embeddings.patch_embedding.weight", transposed=True),
        "image/position/table": Tensor("embeddings.position_embedding.weight"),
        **_norm("image/norm", "pre_layrnorm"),
        **_layers("image", spec.stack.layers, "encoder.layers.{}", _LINEARS, _NORMS),
        **_norm("image/stack/final_norm", "post_layernorm"),
    }


def siglip_vision_tensors(spec: VisionSpec) -> dict[str, Tensor]:
    """Of SigLIP's image encoder and its pooler."""
    made = {
        **_pair("image/patch", "embeddings.patch_embedding"),
        "image/position/table": Tensor("embeddings.position_embedding.weight"),
        **_layers("image", spec.stack.layers, "encoder.layers.{}", _LINEARS, _NORMS),
        **_norm("image/stack/final_norm", "post_layernorm"),
        "pooler/probe": Tensor("head.probe"),
        **_pair("pooler/output", "head.attention.out_proj"),
        **_norm("pooler/norm", "head.layernorm"),
        **_pair("pooler/up", "head.mlp.fc1"),
        **_pair("pooler/down", "head.mlp.fc2"),
    }
    for part, name in enumerate(("query", "key", "value")):
        weight, bias = "head.attention.in_proj_weight", "head.attention.in_proj_bias"
        made[f"pooler/{name}/kernel"] = Tensor(weight, True, part, 3)
        made[f"pooler/{name}/bias"] = Tensor(bias, False, part, 3)
    return made


_VIT_LINEARS = {
    "attention/query": "attention.attention.query",
    "attention/key": "attention.attention.key",
    "attention/value": "attention.attention.value",
    "attention/output": "attention.output.dense",
}


def _vit_embeddings(spec: VisionSpec) -> dict[str, Tensor]:
    registers = {"image/registers": Tensor("embeddings.register_tokens")} if spec.registers else {}
    return {
        "image/first": Tensor("embeddings.cls_token"),
        **registers,
        **_pair("image/patch", "embeddings.patch_embeddings.projection"),
        "image/position/table": Tensor("embeddings.position_embeddings"),
        **_norm("image/stack/final_norm", "layernorm"),
    }


def _has_bias(spec: VisionSpec):
    inputs = ("attention/query", "attention/key", "attention/value")
    return lambda path: spec.stack.qkv_bias or path not in inputs


def vit_tensors(spec: VisionSpec) -> dict[str, Tensor]:
    """Of ViT."""
    linears = _VIT_LINEARS | {"up": "intermediate.dense", "down": "output.dense"}
    norms = {"attention_norm": "layernorm_before", "mlp_norm": "layernorm_after"}
    layers = spec.stack.layers, "encoder.layer.{}"
    own = _layers("image", *layers, linears, norms, bias=_has_bias(spec))
    return _vit_embeddings(spec) | own


def dinov2_tensors(spec: VisionSpec) -> dict[str, Tensor]:
    """Of DINOv2."""
    linears = _VIT_LINEARS | {"up": "mlp.fc1", "down": "mlp.fc2"}
    norms = {"attention_norm": "norm1", "mlp_norm": "norm2"}
    layers = spec.stack.layers, "encoder.layer.{}"
    made = _vit_embeddings(spec)
    made |= _layers("image", *layers, linears, norms, bias=_has_bias(spec))
    return made | _layer_scales(*layers)


def dinov3_tensors(spec: VisionSpec) -> dict[str, Tensor]:
    """Of DINOv3."""
    stack = spec.stack
    names = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
    linears = {f"attention/{ours}": f"attention.{theirs}" for ours, theirs in names.items()}
    parts = ("gate", "up", "down") if stack.gated else ("up", "down")
    linears |= {part: f"mlp.{part}_proj" for part in parts}
    biases = {f"attention/{name}": stack.qkv_bias for name in ("query", "value")}
    biases |= {"attention/key": stack.qkv_bias and stack.key_bias}
    biases |= {"attention/output": stack.output_bias, **dict.fromkeys(parts, stack.mlp_bias)}
    norms = {"attention_norm": "norm1", "mlp_norm": "norm2"}
    made = {
        "image/first": Tensor("embeddings.cls_token"),
        **_pair("image/patch", "embeddings.patch_embeddings"),
        **_norm("image/stack/final_norm", "norm"),
    }
    if spec.registers:
        made["image/registers"] = Tensor("embeddings.register_tokens")
    has_bias = {"bias": lambda path: biases.get(path, True)}
    made |= _layers("image", stack.layers, "layer.{}", linears, norms, **has_bias)
    return made | _layer_scales(stack.layers, "layer.{}")


def _layer_scales(layers: int, theirs: str) -> dict[str, Tensor]:
    """Of DINOv2 and DINOv3."""
    made = {}
    for layer in range(layers):
        for place, name in enumerate(("attention_scale", "mlp_scale"), 1):
            tensor = Tensor(f"{theirs.format(layer)}.layer_scale{place}.lambda1")
            made[f"image/stack/layers/{layer}/{name}"] = tensor
    return made


_IDS = ("embeddings.position_ids",)
_CLIP_TEXT = _sizes(512, 2048, 8) | {
    "vocab_size": whole(49408),
    "max_position_embeddings": whole(77),
    "projection_dim": ANY,
}
_SIGLIP_TEXT = {
    "vocab_size": whole(32000),
    "max_position_embeddings": whole(64),
    "projection_size": whole(None).or_null(),
}
_DINOV2_KEYS = {
    **{name: rule for name, rule in _STACK.items() if name != "intermediate_size"},
    "mlp_ratio": whole(4),
    "hidden_act": activation_name("gelu"),
    "layer_norm_eps": epsilon(1e-6),
    "qkv_bias": flag(True),
    "use_swiglu_ffn": only(False),
    "image_size": whole(224),
    "patch_size": whole(14),
    "num_channels": only(3),
    **dict.fromkeys(
        ("apply_layernorm", "drop_path_rate", "layerscale_value", "out_features", "out_indices",
         "reshape_hidden_states", "stage_names", "use_mask_token"), ANY,
    ),
}  # fmt: skip
TEXT = {
    "clip_text_model": Family(
        clip_text,
        (text_tensors,),
        prefixes=("text_model.",),
        dropped=_IDS,
        keys=_CLIP_STACK | _CLIP_TEXT,
    ),
    "siglip_text_model": Family(
        clip_text,
        (text_tensors,),
        prefixes=("text_model.",),
        dropped=_IDS,
        keys=_SIGLIP_STACK | _SIGLIP_TEXT,
    ),
}
VISION = {
    "clip_vision_model": Family(
        clip_vision,
        (clip_vision_tensors,),
        prefixes=("vision_model.",),
        dropped=_IDS,
        keys=_CLIP_STACK | _PICTURE | {"patch_size": whole(32), "projection_dim": ANY},
    ),
    "siglip_vision_model": Family(
        siglip_vision,
        (siglip_vision_tensors,),
        prefixes=("vision_model.",),
        dropped=_IDS,
        keys=_SIGLIP_STACK | _PICTURE | {"patch_size": whole(16), "vision_use_head": only(True)},
    ),
    "vit": Family(
        vit,
        (vit_tensors,),
        prefixes=("vit.",),
        kept=("pooler.",),
        dropped=("classifier.", "embeddings.mask_token"),
        keys=_STACK
        | _PICTURE
        | {
            "patch_size": whole(16),
            "hidden_act": activation_name("gelu"),
            "layer_norm_eps": epsilon(1e-12),
            "qkv_bias": flag(True),
            **dict.fromkeys(("encoder_stride", "pooler_act", "pooler_output_size"), ANY),
        },
    ),
    "dinov2": Family(
        dinov2,
        (dinov2_tensors,),
        prefixes=("dinov2.",),
        kept=("embeddings.mask_token",),
        dropped=("classifier.",),
        keys=_DINOV2_KEYS,
    ),
}
TEXT["siglip2_text_model"] = TEXT["siglip_text_model"]
VISION["siglip2_vision_model"] = Family(
    siglip2_vision,
    (siglip_vision_tensors,),
    prefixes=("vision_model.",),
    keys=_SIGLIP_STACK
    | {
        "patch_size": whole(16),
        "num_patches": whole(256),
        "num_channels": only(3),
        "vision_use_head": only(True),
    },
)
VISION["dinov2_with_registers"] = dataclasses.replace(
    VISION["dinov2"],
    prefixes=("dinov2_with_registers.",),
    keys=_DINOV2_KEYS | {"num_register_tokens": whole(4, least=0)},
)
VISION["dinov3_vit"] = Family(
    dinov3,
    (dinov3_tensors,),
    prefixes=("model.",),
    kept=("embeddings.mask_token", "embeddings.register_tokens"),
    keys=_sizes(384, 1536, 6)
    | _PICTURE
    | {
        "patch_size": whole(16),
        "hidden_act": activation_name("gelu"),
        "layer_norm_eps": epsilon(1e-5),
        "rope_theta": number(100.0, above=0, whole=True),
        "num_register_tokens": whole(0, least=0),
        "use_gated_mlp": flag(False),
        "query_bias": flag(True),
        "key_bias": flag(False),
        **{name: flag(True) for name in ("value_bias", "proj_bias", "mlp_bias")},
        **dict.fromkeys(
            ("apply_layernorm", "drop_path_rate", "layerscale_value", "out_features",
             "out_indices", "pos_embed_jitter", "pos_embed_rescale", "pos_embed_shift",
             "reshape_hidden_states", "stage_names"), ANY,
        ),
    },
)  # fmt: skip
# a parameter's published tensor has more axes than the parameter
_PATCHES = tuple(
    f"{name}.weight"
    for name in ("patch_embedding", "patch_embeddings", "patch_embeddings.projection")
)
_AXES = {"cls_token": 2, "probe": 2, "position_embeddings": 1, "register_tokens": 1}
# what kind of pair -> the model types of its two halves
PAIRS = {
    "clip": ("clip_text_model", "clip_vision_model"),
    "siglip": ("siglip_text_model", "siglip_vision_model"),
    "siglip2": ("siglip2_text_model", "siglip2_vision_model"),
}
FAMILIES = {
    "clip_text_model": TEXT["clip_text_model"]
}  # those that sentence-transformers folders hold
POOLING = {
    "clip_text_model": "lasttoken",
    "siglip_text_model": "lasttoken",
    "siglip_vision_model": "map",
    "siglip2_text_model": "lasttoken",
    "siglip2_vision_model": "map",
}


def half_spec(config: dict, kind: str, dim: int | None, file) -> TowerSpec:
    """The tower of one half of a pair, or of an image encoder alone.

    Args:
        config: its config.json.
        kind: its model type.
        dim: the size of the embedding where a projection follows; None for none.
        file: what errors call the file.

    Raises:
        UserError: naming the key that is missing, wrong or not supported.
    """
    family = (TEXT | VISION)[kind]
    try:
        encoder = family.text_spec(config, file)
        bias = kind.startswith("siglip")
        dense = () if dim is None else (DenseSpec(encoder.width, dim, bias=bias),)
        return TowerSpec(encoder, pooling=POOLING.get(kind, "cls"), dense=dense)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None


def flat(name: str, value: np.ndarray) -> np.ndarray:
    """A published tensor with the axes of its parameter."""
    if value.ndim == 4:  # a convolution's [width, 3, patch, patch]
        return value.transpose(0, 2, 3, 1).reshape(len(value), -1)
    extra = _AXES.get(name.rpartition(".")[2], 0)
    return value.reshape(value.shape[extra:]) if value.ndim > extra else value


def unflat(name: str, value: np.ndarray, patch: int) -> np.ndarray:
    """The inverse of `flat`; a patch of 0 leaves a linear map what it is."""
    if patch and name.endswith(_PATCHES):
        made = value.reshape(len(value), patch, patch, 3).transpose(0, 3, 1, 2)
        return np.ascontiguousarray(made)
    extra = _AXES.get(name.rpartition(".")[2], 0)
    return value.reshape((1,) * extra + value.shape)
