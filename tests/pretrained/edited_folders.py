"""Model folders that sentence-transformers itself writes, and every edit of one value in them."""

import copy
import dataclasses
import json
import random
from pathlib import Path

from gemb.pretrained import module_keys
from gemb.pretrained.families import FAMILIES
from gemb.tokenizers.tokenizer import byte_tokenizer_json

SHAPE = {
    "vocab_size": 300, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 24, "max_position_embeddings": 64, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
T5 = {
    "vocab_size": 300, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4,
    "relative_attention_max_distance": 12, "relative_attention_num_buckets": 8,
}  # fmt: skip
DISTILBERT = {
    "vocab_size": 300, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 24,
    "max_position_embeddings": 64,
}  # fmt: skip
GROUPED = {"num_key_value_heads": 2, "head_dim": 4}
WINDOW = GROUPED | {"sliding_window": 5}
# name -> (transformers' class without Model and Config, what differs from the defaults)
MODELS = {
    "bert": ("Bert", SHAPE),
    "bert-old": ("Bert", SHAPE | {"hidden_act": "gelu_new"}),
    "roberta": ("Roberta", SHAPE | {"pad_token_id": 1, "bos_token_id": 0, "type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", SHAPE | {"pad_token_id": 1, "bos_token_id": 0}),
    "distilbert": ("DistilBert", DISTILBERT),
    "mpnet": ("MPNet", SHAPE | {"pad_token_id": 1, "bos_token_id": 0}),
    "modernbert": ("ModernBert", SHAPE | {"local_attention": 10}),
    "nomic": ("NomicBert", SHAPE),
    "t5": ("T5", T5),
    "t5-gated": ("T5", T5 | {"feed_forward_proj": "gated-gelu"}),
    "mt5": ("MT5", T5),
    "llama": ("Llama", SHAPE | {"num_key_value_heads": 2}),
    "llama-old": ("Llama", SHAPE | {"is_causal": False, "attention_bias": True}),
    "mistral": ("Mistral", SHAPE | WINDOW),
    "qwen2": (
        "Qwen2",
        SHAPE | WINDOW | {"use_sliding_window": True, "max_window_layers": 1, "head_dim": 4},
    ),
    "qwen3": ("Qwen3", SHAPE | GROUPED),
    "gemma": ("Gemma", SHAPE | GROUPED),
    "gemma2": (
        "Gemma2",
        SHAPE | WINDOW | {"query_pre_attn_scalar": 9, "attn_logit_softcapping": 1.5},
    ),
    "gemma3": ("Gemma3Text", SHAPE | WINDOW | {"sliding_window_pattern": 2}),
    "gemma4": (
        "EmbeddingGemma2Text",
        SHAPE
        | WINDOW
        | {"sliding_window_pattern": 2, "hidden_size_per_layer_input": 6, "embedding_dim": 16}
        | {"global_head_dim": 6, "num_global_key_value_heads": 1},
    ),
    "static": (None, {}),
}
TEXTS = [
    "a", "some Words of a text", "Another rather longer text, of 50 tokens or so, yes it is one",
    "one more", "[PAD] and [MASK] in a text",
]  # fmt: skip
_FILES = (
    "config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json",
    "config_sentence_transformers.json", "2_Dense/config.json", "3_Normalize/config.json",
    "1_Dense/config.json", "2_Normalize/config.json",
)  # fmt: skip


def write_folder(name: str, folder: Path) -> None:
    """Writes the folder of a tiny random model with the peers' own classes."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import modules

    torch.manual_seed(0)
    if name == "static":
        from tokenizers import Tokenizer

        words = Tokenizer.from_str(byte_tokenizer_json())
        steps = [modules.StaticEmbedding(words, embedding_weights=torch.randn(300, 16))]
    else:
        _write_encoder(name, folder / "plain")
        pooling = modules.Pooling(
            16, "lasttoken" if "num_key_value_heads" in MODELS[name][1] else "mean"
        )
        steps = [modules.Transformer(str(folder / "plain")), pooling]
    steps += [modules.Dense(16, 12), modules.Normalize()]
    prompts = {"query": "find: ", "document": ""}
    SentenceTransformer(modules=steps, prompts=prompts, device="cpu").save(str(folder / "model"))
    if name.endswith("-old"):
        _respell(folder / "model")


def _write_encoder(name: str, folder: Path) -> None:
    import torch
    import transformers

    kind, options = MODELS[name]
    config = getattr(transformers, f"{kind}Config")(**options)
    head = "EncoderModel" if "T5" in kind else "Model"
    model = getattr(transformers, kind + head)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # norms and biases start at 0 and 1
                parameter += 0.2 * torch.randn_like(parameter)
            elif "T5" not in kind:
                parameter *= 5.0  # so that attention is far from uniform
    model.save_pretrained(folder)
    tokenizer = json.loads(byte_tokenizer_json())
    if config.pad_token_id == 1:  # as published: <s> is 0, <pad> 1
        tokenizer["model"]["vocab"] |= {"[CLS]": 0, "[PAD]": 1}
        for token in tokenizer["added_tokens"][:2]:
            token["id"] = 1 - token["id"]
        tokenizer["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [0]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=40,
    ).save_pretrained(folder)  # fmt: skip


def _respell(folder: Path) -> None:
    """The spelling of older versions."""
    steps = json.loads((folder / "modules.json").read_text())
    for step in steps:
        step["type"] = "sentence_transformers.models." + step["type"].rpartition(".")[2]
    pooling = {"word_embedding_dimension": 16}
    pooling |= {key: mode == "cls" for key, mode in module_keys.POOLING_MODES.items()}
    config = json.loads((folder / "config.json").read_text())
    if "rope_parameters" in config:
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    contents = {
        "modules.json": steps,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": True},
        "config.json": config | {"torch_dtype": config.pop("dtype")},
    }
    for file, content in contents.items():
        (folder / file).write_text(json.dumps(content))


@dataclasses.dataclass(frozen=True)
class Edit:
    """One change of a folder.

    Attributes:
        file: which file.
        path: the keys and places that lead to the value.
        value: what it becomes; `Edit.GONE` deletes the key.
    """

    file: str
    path: tuple
    value: object
    GONE = object()

    def made(self, content):
        """The file's content after the edit."""
        content = copy.deepcopy(content)
        where = content
        for step in self.path[:-1]:
            where = where[step]
        if self.value is Edit.GONE:
            del where[self.path[-1]]
        else:
            where[self.path[-1]] = self.value
        return content

    def __str__(self) -> str:
        value = "deleted" if self.value is Edit.GONE else json.dumps(self.value)
        return f"{self.file}: {'.'.join(map(str, self.path))} = {value}"


def sample_edits(folder: Path, count: int, seed: str) -> list[Edit]:
    """`count` of all edits of a folder, the same ones each time."""
    draw = random.Random(seed)
    edits = [
        edit
        for name in _FILES
        if (folder / name).exists()
        for edit in _edits(name, json.loads((folder / name).read_text()))
    ]
    if (folder / "tokenizer_config.json").exists():
        values = (Edit.GONE, None, 0, -1, 1, 7, 12.0, 1e30, 10**30, "12", True, [12])
        edits += [Edit("tokenizer_config.json", ("model_max_length",), value) for value in values]
    draw.shuffle(edits)
    return edits[:count]


def _edits(file: str, content) -> list[Edit]:
    edits = []
    for path, value in _leaves(content):
        others = [*_others(value), *_CHOICES.get(path[-1], ())]
        edits += [Edit(file, path, other) for other in others if not _same(other, value)]
    if isinstance(content, list):
        return edits + [Edit(file, (number,), Edit.GONE) for number in range(len(content))]
    for key, values in _known(file).items():
        if key not in content:
            edits += [Edit(file, (key,), value) for value in values]
    return edits


def _leaves(content, path=()):
    """(path, value) of every value, also of those that hold others."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*path, key), value
        if isinstance(value, dict | list):
            yield from _leaves(value, (*path, key))


def _others(value) -> list:
    """What may be put in the place of a value."""
    others = [Edit.GONE, None, "text", "", [], {}, 0, -1, 1.5, True, False]
    if isinstance(value, bool):
        return [*others, not value, str(value).lower(), int(value)]
    if isinstance(value, int):
        return [*others, value + 1, value * 2, value // 2, float(value), str(value), [value], 10**6]
    if isinstance(value, float):
        return [*others, value * 10, value / 2, -value, str(value), int(value), 1e-3, [value]]
    if isinstance(value, str):
        return [*others, value.upper(), value + "x", [value], *_STRINGS]
    return [*others, [value], {"a": value}]


def _same(one, other) -> bool:
    return type(one) is type(other) and one == other


_STRINGS = ("float16", "mean", "linear", "sliding_attention")
_CHOICES = {
    "hidden_act": ("relu", "gelu_new", "silu", "quick_gelu", "gelu_python", "swish", "tanh"),
    "hidden_activation": ("relu", "gelu", "gelu_pytorch_tanh", "silu"),
    "activation": ("relu", "gelu_new", "silu"),
    "dense_act_fn": ("relu", "gelu", "gelu_new", "silu"),
    "feed_forward_proj": ("gelu", "gated-relu", "gated-silu", "gated-gelu_new", "gated"),
    "pooling_mode": ("cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens", ["mean"]),
    "activation_function": (
        "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.ReLU", "torch.nn.GELU",
        "torch.nn.modules.activation.Identity", "my.Identity", "torch.nn.functional.tanh",
    ),
    "similarity_fn_name": ("dot", "euclidean", "manhattan", "maxsim", "COSINE"),
    "default_prompt_name": ("query", "document", "passage"),
    "model_type": ("bert", "roberta", "llama", "qwen2", "SparseEncoder", "CrossEncoder"),
    "type": (
        "sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling",
        "sentence_transformers.models.Normalize", "sentence_transformers.models.Dropout",
        "my_code.Pooling", "sentence_transformers.base.modules.Dense", "torch.nn.Identity",
    ),
    "path": ("..", "/tmp", "1_Pooling", "nowhere"),
    "architectures": (["BertForMaskedLM"], ["LlamaForCausalLM"]),
    "dtype": ("float16", "bfloat16", "int8"),
    "layer_types": (["full_attention", "full_attention"], ["sliding_attention"] * 2),
    "per_layer_config": (
        {"01": {"head_dim": 6, "num_key_value_heads": 1}}, {"1": {"head_dim": 6}},
        {"0": {"head_dim": 6, "num_key_value_heads": 1}}, {"1": {"intermediate_size": 12}},
        {"1": {"head_dim": 4, "num_key_value_heads": 2}}, {"9": {"head_dim": 6}},
        {"one": {"head_dim": 6}}, {"1": 3}, {"1": {"head_dim": 0}}, {"-1": {"head_dim": 6}},
    ),
}  # fmt: skip
_ADDED = (True, False, 1, 3, 0.5, None, "text", {}, ["full_attention", "sliding_attention"])
_ADDED_CONFIG = {
    "is_causal": (True, False, None, 0),
    "layer_types": (["full_attention", "sliding_attention"], ["sliding_attention"] * 2, []),
    "sliding_window": (1, 2, 5, None, 0),
    "quantization_config": ({"load_in_8bit": True}, {"quant_method": "bitsandbytes"}, None),
    "is_decoder": (True, False),
    "hidden_size": (8, 16, 32),
    "num_attention_heads": (1, 2, 8),
    "num_hidden_layers": (1, 2, 3),
    "head_dim": (2, 4, 8),
    "attn_logit_softcapping": (1.0, 0.0, 2),
    "rope_scaling": ({"rope_type": "linear", "factor": 2.0}, {"type": "linear", "factor": 4.0}),
    "torch_dtype": ("float32", "float16", "bfloat16", "x"),
    "tokenizer_class": ("PreTrainedTokenizerFast", None),
    "hidden_activation": ("relu", "gelu", None),
    "hidden_act": ("relu", "gelu", None),
}
_ADDED_TO = {
    "sentence_bert_config.json": {
        "max_seq_length": (1, 2, 3, 5, 20, 200, 16.0, "16", 0, -1, None, True),
        "do_lower_case": (True, False, "true", 1, None),
        "query_length": (5, 12, None, "5"),
        "document_length": (6, 12, 12.0),
        "processing_kwargs": (
            {"text": {"max_length": 6}}, {"text": {"max_length": 6, "truncation": True}}, {},
            {"text": {"truncation": False}}, {"text": {"padding": "max_length", "max_length": 9}},
            {"text": {"add_special_tokens": False}}, {"common": {"return_tensors": "pt"}},
            {"max_length": 6}, {"text": {"max_length": "6"}}, None,
        ),
        "tokenizer_args": (
            {"model_max_length": 6}, {"model_max_length": 6.0}, {"do_lower_case": True}, {}, None,
            {"padding_side": "left"}, {"use_fast": True},
        ),
        "processor_kwargs": ({"model_max_length": 6}, {"truncation_side": "left"}),
        "config_args": (
            {"hidden_act": "relu"}, {"layer_norm_eps": 0.1}, {"num_hidden_layers": 1},
            {"is_decoder": True}, {"rms_norm_eps": 0.5}, {"norm_eps": 0.5}, {"is_causal": False},
            {"feed_forward_proj": "relu"}, {}, {"nonsense": 1}, {"hidden_act": 3},
        ),
        "model_args": ({}, {"dtype": "float32"}, {"attn_implementation": "eager"}, {"x": 1}),
        "unpad_inputs": (None, False), "query_expansion": (None, {"length": 8}),
        "nonsense": (1, None),
    },
    "config_sentence_transformers.json": {
        "truncate_dim": (4, 12, 20, 0, -1, "4", 4.0, None, True),
        "requirements": ({}, None), "nonsense": (1,), "query_prefix": ("[Q] ",),
    },
    "1_Pooling/config.json": {
        **dict.fromkeys(module_keys.POOLING_MODES, (True, False, 1)),
        "pooling_mode": ("cls", "max", ["mean", "max"]), "include_prompt": (False, None),
        "word_embedding_dimension": (16, 8), "nonsense": (1,),
    },
    "modules.json": {},
    "normalize": {"module_output_name": ("other", None), "nonsense": (1,)},
    "dense": {"use_residual": (True, False, None), "init_weight": (None, [1]), "nonsense": (1,)},
}  # fmt: skip


def _known(file: str) -> dict[str, tuple]:
    """Keys that may be added to a file -> values."""
    if file in _ADDED_TO:
        return _ADDED_TO[file]
    for part in ("normalize", "dense"):
        if part in file.lower():
            return _ADDED_TO[part]
    tables = [family.table | family.spellings for family in FAMILIES.values()]
    keys = sorted({key for table in tables for key in table} | {"nonsense", "sparse_layers"})
    return {key: _ADDED_CONFIG.get(key, _ADDED) for key in keys}
