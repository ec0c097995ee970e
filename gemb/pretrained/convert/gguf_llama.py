"""GGUF files of the Llama architecture, dequantised, under Hugging Face's names."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.pretrained.convert.checkpoint import Checkpoint, check_tensors
from gemb.pretrained.convert.gguf_tokenizer import tokenizer_files
from gemb.pretrained.modules import POOLING_FLAGS, module_list

ARCHITECTURE = "llama"
_GLOBAL_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Keys of the architecture that are read, or that change nothing that gemb computes.
_KEYS = frozenset(
    f"{ARCHITECTURE}.{name}"
    for name in (
        "attention.causal", "attention.head_count", "attention.head_count_kv",
        "attention.key_length", "attention.layer_norm_rms_epsilon", "attention.value_length",
        "block_count", "context_length", "embedding_length", "feed_forward_length", "pooling_type",
        "rope.dimension_count", "rope.freq_base", "rope.scale_linear", "rope.scaling.factor",
        "rope.scaling.finetuned", "rope.scaling.original_context_length", "rope.scaling.type",
        "tensor_data_layout", "vocab_size",
    )
)  # fmt: skip
_POOLINGS = {1: "mean", 2: "cls", 3: "lasttoken"}  # llama.pooling_type; 0 is none
_ROPE_FREQUENCIES = "rope_freqs.weight"
# What numpy and gguf raise on bytes that are cut or changed.
_BROKEN = (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, OSError)


def read(source: Path, *, own_tokenizer: bool = True) -> Checkpoint:
    """Reads a model and the tokenizer that its file holds.

    Args:
        source: the .gguf file.
        own_tokenizer: whether to build tokenizer.json from the file's vocabulary and merges.

    Returns:
        A Checkpoint that dequantises one tensor at a time, to float32.

    Raises:
        UserError: for a file that is cut or no GGUF, another architecture, what has no place in
            Hugging Face's Llama, a quantisation that gguf cannot undo, or an unknown tokenizer.
    """
    import gguf

    try:
        reader = gguf.GGUFReader(source)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {_name(tensor.name): tensor for tensor in reader.tensors}
    except _BROKEN as error:
        raise UserError(f"{source}: not a whole GGUF file ({error})") from None
    frequencies = tensors.pop(_ROPE_FREQUENCIES, None)
    _check_supported(fields, frequencies, source)
    shapes = {name: tuple(int(n) for n in reversed(t.shape)) for name, t in tensors.items()}
    config = _config(fields, shapes, source)
    check_tensors(shapes, *_expected_shapes(config), source)
    files = _modules(fields, config, source)
    files |= tokenizer_files(fields, config["vocab_size"], source) if own_tokenizer else {}
    return Checkpoint(config, _dequantized(tensors, shapes, config, source), files)


def unpermute(weight: np.ndarray, heads: int) -> np.ndarray:
    """Undoes llama.cpp's order of the rotary pairs.

    Hugging Face turns row i of a head together with row i + size / 2; llama.cpp stores them side
    by side, as rows 2 i and 2 i + 1.

    Args:
        weight: `[heads * size, ...]` in llama.cpp's order.
        heads: query or key heads.

    Example:
        >>> unpermute(np.array([0, 2, 1, 3]), heads=1)
        array([0, 1, 2, 3])
    """
    pairs = weight.reshape(heads, -1, 2, *weight.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def _name(name: str) -> str:
    """Hugging Face's name of a GGUF tensor; the name itself where there is none."""
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)
    if not match:
        return name
    layer, part, kind = match.groups()
    if layer is None and part in _GLOBAL_NAMES:
        return f"{_GLOBAL_NAMES[part]}.{kind}"
    if layer is not None and part in _LAYER_NAMES:
        return f"model.layers.{layer}.{_LAYER_NAMES[part]}.{kind}"
    return name


def _check_supported(fields: dict, frequencies, source: Path) -> None:
    architecture = fields.get("general.architecture")
    if architecture != ARCHITECTURE:
        raise UserError(f"{source}: architecture {architecture!r}; only {ARCHITECTURE!r} is known")
    if fields.get("split.count", 1) not in (0, 1):
        raise UserError(f"{source}: one part of several; join them first with llama-gguf-split")
    for name, value in fields.items():
        if name.startswith(f"{ARCHITECTURE}.") and name not in _KEYS and value:
            raise UserError(f"{source}: {name} = {value!r}: gemb does not know this key")
    scaling = fields.get("llama.rope.scaling.type", "linear")
    scaled = frequencies is not None and not np.allclose(frequencies.data, 1.0)
    if scaling not in ("none", "linear") or scaled:
        raise UserError(
            f"{source}: its rotary positions are scaled ({scaling if not scaled else 'rope_freqs'})"
            ", which is not supported; take the safetensors that its authors publish"
        )


def _config(fields: dict, shapes: dict, source: Path) -> dict:
    """Hugging Face's config.json of the model."""

    def number(name: str, default=None, kind=int):
        value = fields.get(f"llama.{name}", default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"{source}: llama.{name}: expected a number above 0, got {value!r}")
        return kind(value)

    width, heads = number("embedding_length"), number("attention.head_count")
    head_dim = number("attention.key_length", width // heads or None)
    if number("rope.dimension_count", head_dim) != head_dim:
        raise UserError(f"{source}: rotates a part of each head only, which is not supported")
    if number("attention.value_length", head_dim) != head_dim:
        raise UserError(f"{source}: keys and values of different sizes are not supported")
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shapes.get("model.embed_tokens.weight", (0,))[0],
        "hidden_size": width,
        "intermediate_size": number("feed_forward_length"),
        "num_hidden_layers": number("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": number("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": number("context_length"),
        "rms_norm_eps": float(f"{number('attention.layer_norm_rms_epsilon', kind=float):.6g}"),
        "rope_theta": number("rope.freq_base", 10000.0, float),
        "hidden_act": "silu",
        "tie_word_embeddings": "lm_head.weight" not in shapes,
        "attention_bias": "model.layers.0.self_attn.q_proj.bias" in shapes,
        "mlp_bias": "model.layers.0.mlp.up_proj.bias" in shapes,
    }
    # llama.cpp takes a factor for a linear one where no type is named, and 0 for none
    factor = fields.get("llama.rope.scaling.factor") or fields.get("llama.rope.scale_linear") or 1
    if factor != 1 and fields.get("llama.rope.scaling.type") != "none":
        config["rope_scaling"] = {"rope_type": "linear", "factor": _factor(factor, source)}
    causal = fields.get("llama.attention.causal", True)
    if not isinstance(causal, bool):
        raise UserError(f"{source}: llama.attention.causal: expected a bool, got {causal!r}")
    if not causal:
        config["is_causal"] = False
    for kind, name in (("bos", "bos"), ("eos", "eos"), ("pad", "padding")):
        if isinstance(fields.get(f"tokenizer.ggml.{name}_token_id"), int):
            config[f"{kind}_token_id"] = fields[f"tokenizer.ggml.{name}_token_id"]
    return config


def _factor(value, source: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UserError(f"{source}: llama.rope.scaling.factor: expected a number, got {value!r}")
    return float(f"{value:.6g}")


def _modules(fields: dict, config: dict, source: Path) -> dict[str, str]:
    """sentence-transformers' files of the pooling that the file names; {} where it names none.

    Vectors are scaled to unit length, as llama.cpp does with embeddings.
    """
    kind = fields.get("llama.pooling_type", 0)
    if kind == 0:
        return {}
    if kind not in _POOLINGS:
        raise UserError(f"{source}: llama.pooling_type: {kind!r} is not one of {_POOLINGS}")
    steps = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    pooling = {f"pooling_mode_{flag}": False for flag in POOLING_FLAGS.values()}
    pooling |= {f"pooling_mode_{POOLING_FLAGS[_POOLINGS[kind]]}": True}
    pooling["word_embedding_dimension"] = config["hidden_size"]
    contents = {"modules.json": module_list(steps), "1_Pooling/config.json": pooling}
    return {name: json.dumps(content, indent=2) + "\n" for name, content in contents.items()}


def _expected_shapes(config: dict) -> tuple[dict, dict]:
    """({name: shape} that must be there, {name: shape} that may)."""
    width, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    linears = {
        "self_attn.q_proj": ("attention_bias", queries, width),
        "self_attn.k_proj": ("attention_bias", keys, width),
        "self_attn.v_proj": ("attention_bias", keys, width),
        "self_attn.o_proj": ("attention_bias", width, queries),
        "mlp.gate_proj": ("mlp_bias", inner, width),
        "mlp.up_proj": ("mlp_bias", inner, width),
        "mlp.down_proj": ("mlp_bias", width, inner),
    }
    table = (config["vocab_size"], width)
    required = {"model.embed_tokens.weight": table, "model.norm.weight": (width,)}
    for number in range(config["num_hidden_layers"]):
        layer = f"model.layers.{number}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            required[f"{layer}.{norm}.weight"] = (width,)
        for part, (bias, rows, columns) in linears.items():
            required[f"{layer}.{part}.weight"] = (rows, columns)
            if config[bias]:
                required[f"{layer}.{part}.bias"] = (rows,)
    return required, {"lm_head.weight": table}


def _dequantized(tensors: dict, shapes: dict, config: dict, source: Path) -> Iterator:
    from gguf.quants import dequantize

    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in tensors.items():
        try:
            value = dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, *_BROKEN) as error:
            kind = tensor.tensor_type.name
            raise UserError(
                f"{source}: tensor {tensor.name}: cannot undo its quantisation {kind} ({error})"
            ) from None
        value = value.astype(np.float32).reshape(shapes[name])
        part = name.split(".")[-2]
        yield name, unpermute(value, heads[part]) if part in heads else value
