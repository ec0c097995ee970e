"""Writes a model folder that sentence-transformers loads unchanged, and that gemb loads back."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_folder, save_tensors
from gemb.identity import fingerprint
from gemb.inference.embedder import model_fingerprint
from gemb.models.spec import ModelSpec
from gemb.pretrained.adapt import merge_lora
from gemb.pretrained.folder import MANIFEST, Pretrained
from gemb.pretrained.modules import DTYPES, POOLING_FLAGS, WEIGHTS, module_list
from gemb.pretrained.pair import ROUTER, SIDES, Pair, router_config
from gemb.pretrained.sentence_transformers import DENSE_ACTIVATIONS
from gemb.pretrained.weights import tensors_from_params
from gemb.tokenizers.tokenizer import Tokenizer

# Copied from the folder that training started from; the tokenizer's side files.
_COPIED = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
# What only gemb has a place for: learned poolers and further heads.
_OWN = ("pooler/", "heads/")


def save(
    model: Pretrained | Pair,
    folder: Path,
    *,
    training: dict | None = None,
    dtype: str = "float32",
) -> str:
    """Saves weights, tokenizer and configs.

    Two towers become the folders query/ and document/ under a router, which sentence-transformers
    follows by `encode_query` and `encode_document`. LoRA is merged into the weights. A learned
    pooler, which sentence-transformers does not have, is saved for gemb alone; the other library
    refuses such a folder by its pooling mode.

    Args:
        model: what to save.
        folder: where; replaced whole when everything is written.
        training: a summary of how it was made, kept in gemb.json.
        dtype: of the encoder's weights, one of DTYPES.

    Returns:
        The fingerprint of the model as saved.

    Raises:
        UserError: when the disk is full or the place cannot be written, for an unknown dtype, or
            for a model that the family's config.json cannot tell.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype: expected one of {list(DTYPES)}, got {dtype!r}")
    with atomic_folder(folder) as temporary:
        if isinstance(model, Pretrained):
            return _save_one(model, temporary, training or {}, dtype)
        identities = {}
        for side in SIDES:
            (temporary / side).mkdir()
            identities[side] = _save_one(getattr(model, side), temporary / side, {}, dtype)
        identity = fingerprint({}, "", **identities)
        for name, content in {
            "modules.json": module_list([("", "Router")]),
            ROUTER: router_config(temporary),
            MANIFEST: {"fingerprint": identity, "training": training or {}},
        }.items():
            (temporary / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return identity


def _save_one(model: Pretrained, temporary: Path, training: dict, dtype: str) -> str:
    model = _rounded(merge_lora(model), dtype)
    _check_config(model)
    spec, identity = model.spec, model_fingerprint(model)
    tensors = tensors_from_params(model.params, model.kept, model.family, spec, np.dtype(dtype))
    for name, content in _files(model, identity, training, dtype).items():
        path = temporary / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (temporary / "tokenizer.json").write_text(model.tokenizer_json, encoding="utf-8")
    for name in _COPIED if model.folder else ():
        if (model.folder / name).exists():
            shutil.copyfile(model.folder / name, temporary / name)
    if not (temporary / "tokenizer_config.json").exists():
        text = json.dumps(_tokenizer_config(model.tokenizer_json, spec.max_length), indent=2)
        (temporary / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")
    save_tensors(temporary / WEIGHTS, tensors, {"format": "pt"})
    for number, place in enumerate(_dense_places(spec)):
        save_tensors(temporary / place / WEIGHTS, _dense_tensors(model, number))
    own = {path: np.asarray(v) for path, v in model.params.items() if path.startswith(_OWN)}
    if own:
        (temporary / "gemb").mkdir()
        save_tensors(temporary / "gemb" / WEIGHTS, own)
    return identity


def _rounded(model: Pretrained, dtype: str) -> Pretrained:
    """The model with its encoder's weights as they come back from the file."""
    if dtype == "float32":
        return model
    params = {
        path: np.asarray(value).astype(dtype).astype(np.float32)
        for path, value in model.params.items()
        if path.startswith("text/")
    }
    return dataclasses.replace(model, params=model.params | params)


def _check_config(model: Pretrained) -> None:
    """Whether reading config.json back gives the encoder that is being saved."""
    text = model.spec.text
    if model.family.text_spec(model.config) != text:
        raise UserError(
            f"the encoder is not one that a {model.config['model_type']} config.json can tell "
            "(a first layer without its norm, or a shape changed by hand)"
        )


def _files(model: Pretrained, identity: str, training: dict, dtype: str) -> dict[str, object]:
    """Name -> content of every JSON file."""
    spec = model.spec
    prompts = {"query": spec.query_prompt, "document": spec.document_prompt}
    files = {
        "modules.json": _modules(spec),
        "config_sentence_transformers.json": {
            "prompts": prompts,
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        MANIFEST: {
            "fingerprint": identity,
            "dim": spec.dim,
            "widths": spec.widths,
            "max_length": spec.max_length,
            "heads": {name: [list(vars(s).values()) for s in head] for name, head in spec.heads},
            "prompts": prompts,
            "training": training,
        },
    }
    if spec.text.stack.layers:
        # By this transformers rounds weights and arithmetic, whatever the file holds.
        config = {name: value for name, value in model.config.items() if name != "dtype"}
        files["config.json"] = config | {"torch_dtype": dtype}
        files["1_Pooling/config.json"] = _pooling(spec)
        files["sentence_bert_config.json"] = {
            "max_seq_length": spec.max_length,
            "do_lower_case": False,
        }
    names = {ours: theirs for theirs, ours in DENSE_ACTIVATIONS.items()}
    for place, dense in zip(_dense_places(spec), spec.dense, strict=True):
        kind = "linear" if dense.activation == "identity" else "activation"
        files[f"{place}/config.json"] = {
            "in_features": dense.inputs,
            "out_features": dense.outputs,
            "bias": dense.bias,
            "activation_function": f"torch.nn.modules.{kind}.{names[dense.activation]}",
        }
    return files


def _modules(spec: ModelSpec) -> list[dict]:
    steps = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if not spec.text.stack.layers:
        steps = [("", "StaticEmbedding")]
    steps += [(place, "Dense") for place in _dense_places(spec)]
    if spec.normalize:
        steps.append((f"{len(steps)}_Normalize", "Normalize"))
    return module_list(steps)


def _dense_places(spec: ModelSpec) -> list[str]:
    first = 2 if spec.text.stack.layers else 1
    return [f"{first + number}_Dense" for number in range(len(spec.dense))]


def _dense_tensors(model: Pretrained, number: int) -> dict[str, np.ndarray]:
    path = f"dense/layers/{number}"
    tensors = {"linear.weight": np.ascontiguousarray(np.asarray(model.params[f"{path}/kernel"]).T)}
    if model.spec.dense[number].bias:
        tensors["linear.bias"] = np.asarray(model.params[f"{path}/bias"])
    return tensors


def _pooling(spec: ModelSpec) -> dict:
    width = {"word_embedding_dimension": spec.text.stack.width, "include_prompt": spec.pool_prompt}
    if spec.pooling not in POOLING_FLAGS:
        return width | {"pooling_mode": spec.pooling}
    flags = {f"pooling_mode_{flag}": mode == spec.pooling for mode, flag in POOLING_FLAGS.items()}
    return width | flags


def _tokenizer_config(tokenizer_json: str, max_length: int) -> dict:
    """Without it, transformers takes the tokenizer of a BERT model for WordPiece."""
    from tokenizers import Tokenizer as RustTokenizer

    padding = Tokenizer(tokenizer_json, max_length).padding
    known = RustTokenizer.from_str(tokenizer_json)
    special = [
        token.content for token in known.get_added_tokens_decoder().values() if token.special
    ]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "pad_token": known.id_to_token(padding),
        "additional_special_tokens": special,  # by these a prompt's end is told
    }
