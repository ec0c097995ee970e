"""The keys of sentence-transformers' own JSON files, and what gemb makes of them."""

import json

from gemb.models.spec import SIMILARITIES
from gemb.pretrained.keys import ABSENT, ANY, Rule, flag, one_of, only, text, whole

_PACKAGE = "sentence_transformers"
_FILES = {
    "Transformer": "base.modules.transformer",
    "Dense": "base.modules.dense",
    "Normalize": "base.modules.normalize",
    "Router": "base.modules.router",
    "Pooling": "sentence_transformer.modules.pooling",
    "StaticEmbedding": "sentence_transformer.modules.static_embedding",
}


def _names(kind: str, file: str) -> set[str]:
    """Every dotted name under which sentence-transformers has had a class of its own."""
    places = {"models", f"models.{kind}", "sentence_transformer.modules", file}
    places |= {file.rpartition(".")[0], f"sentence_transformer.modules.{file.split('.')[-1]}"}
    return {f"{_PACKAGE}.{place}.{kind}" for place in places}


# The type of a module in modules.json -> what gemb calls it.
KINDS = {name: kind for kind, file in _FILES.items() for name in _names(kind, file)}
KINDS |= {
    f"{_PACKAGE}.models.Asym": "Router",
    f"{_PACKAGE}.models.Asym.Asym": "Router",
}  # until 5.0

MODULE = {"type": text(), "path": text(), "name": text(), "idx": ANY, "kwargs": only([], None)}

_OBJECT = Rule("an object", lambda value: isinstance(value, dict), {})
TEXT_ONLY = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_KINDS = ("text", "image", "audio", "video", "message")


def _are_forward(value) -> bool:
    """Whether values of each kind go through the model as texts do."""
    return (
        isinstance(value, dict)
        and "text" in value
        and set(value) <= set(_KINDS)
        and all(
            isinstance(how, dict)
            and {key: how[key] for key in how if key != "format"} == TEXT_ONLY["text"]
            for how in value.values()
        )
    )


# sentence_bert_config.json. transformers refuses what it does not know there, and so does gemb.
TRANSFORMER = {
    "max_seq_length": whole(None).or_null(),
    "do_lower_case": flag(False),
    "query_length": whole(None).or_null(),
    "document_length": whole(None).or_null(),
    "processing_kwargs": _OBJECT.or_null({}),
    "tokenizer_args": _OBJECT,
    "processor_kwargs": _OBJECT,
    "config_args": _OBJECT,
    "config_kwargs": _OBJECT,
    "model_args": _OBJECT,
    "model_kwargs": _OBJECT,
    "transformer_task": only("feature-extraction"),
    "modality_config": Rule(f"{json.dumps(TEXT_ONLY)}, and others like it", _are_forward),
    "module_output_name": only("token_embeddings"),
    "query_expansion": only(None),
    "tokenizer_name_or_path": only(None),
    "unpad_inputs": ANY,
}
# What stands in those objects.
PROCESSING = (
    {"text": _OBJECT, "common": _OBJECT}
    | dict.fromkeys(("audio", "video"), ANY)
    | dict.fromkeys(("chat_template", "image"), only({}, None))
)
COMMON_PROCESSING = {"return_tensors": only("pt")}
TEXT_PROCESSING = {
    "max_length": whole(None).or_null(),
    "truncation": only(True, "longest_first", "only_first"),
    "padding": only(True, "longest"),
    "add_special_tokens": only(True),
    "return_tensors": only("pt"),
    "return_attention_mask": only(True, None),
}
TOKENIZER_ARGUMENTS = {
    "model_max_length": whole(None),
    "use_fast": only(True),
    "trust_remote_code": ANY,
    "clean_up_tokenization_spaces": ANY,
}
MODEL_ARGUMENTS = dict.fromkeys(
    ("attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "torch_dtype",
     "trust_remote_code", "unpad_inputs", "use_memory_efficient_attention"),
    ANY,
)  # fmt: skip
# Of config.json; transformers sets them when the rest is read, so nothing may follow from them.
CONFIG_ARGUMENTS = ("hidden_act", "layer_norm_eps", "norm_eps", "rms_norm_eps")

# The flag of each pooling mode, by the name that newer versions give to the mode.
POOLING_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLING = {
    "word_embedding_dimension": whole(ABSENT),
    "embedding_dimension": whole(ABSENT),
    "include_prompt": flag(True),
    "pooling_mode": Rule(
        "a text",
        lambda value: isinstance(value[0] if _is_single(value) else value, str),
    ),
    **dict.fromkeys(POOLING_MODES, flag(False)),
}


def _is_single(value) -> bool:
    return isinstance(value, list) and len(value) == 1


_VECTOR = "sentence_embedding"
NORMALIZE = {"module_input_name": only(_VECTOR), "module_output_name": only(_VECTOR, None)}
# The classes that sentence-transformers imports by these names -> gemb's names.
DENSE_ACTIVATIONS = {
    "Identity": "identity",
    "Tanh": "tanh",
    "ReLU": "relu",
    "GELU": "gelu",
    "SiLU": "silu",
}
_TORCH = {
    f"torch.nn{place}.{name}": ours
    for name, ours in DENSE_ACTIVATIONS.items()
    for place in ("", ".modules", f".modules.{'linear' if name == 'Identity' else 'activation'}")
}
DENSE = NORMALIZE | {
    "in_features": whole(),
    "out_features": whole(),
    "bias": flag(True),
    "activation_function": one_of(*_TORCH, default="torch.nn.Tanh"),
    "use_residual": only(False),
    "init_weight": only(None),
    "init_bias": only(None),
}


def activation(name: str) -> str:
    """gemb's name of an activation_function that DENSE admits."""
    return _TORCH[name]


# model_max_length of tokenizer_config.json: some write a number beyond all with an exponent.
TOKENIZER_LENGTH = Rule(
    "a whole number of at least 1",
    lambda value: (type(value) is int and value >= 1) or (type(value) is float and value >= 1e20),
).or_null()
# config_sentence_transformers.json
SETTINGS = {
    "prompts": Rule(
        "texts by name",
        lambda value: (
            isinstance(value, dict)
            and all(isinstance(prompt, str | None) for prompt in value.values())
        ),
        {},
    ),
    "default_prompt_name": text(None).or_null(),
    "similarity_fn_name": one_of(*SIMILARITIES).or_null("cosine"),
    "truncate_dim": Rule(
        "null: gemb gives whole vectors; remove the key, and choose a nested width when you embed",
        lambda value: value is None,
    ),
    "model_type": only("SentenceTransformer"),
    "__version__": ANY,
    "requirements": ANY,
}
