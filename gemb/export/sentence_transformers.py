"""Writes a model folder that sentence-transformers loads unchanged, and that gemb loads back."""

import json
import shutil
from pathlib import Path

from gemb.cache import atomic_folder
from gemb.inference.embedder import model_fingerprint
from gemb.models.pretrained import bert
from gemb.models.pretrained.folder import MANIFEST, Pretrained
from gemb.models.pretrained.weights import tensors_from_params

_MODULES = {
    "": "sentence_transformers.models.Transformer",
    "1_Pooling": "sentence_transformers.models.Pooling",
    "2_Normalize": "sentence_transformers.models.Normalize",
}
_POOLING_MODES = ("cls", "mean", "max", "lasttoken")
# Copied from the folder that training started from; the tokenizer's side files.
_COPIED = ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def save(model: Pretrained, folder: Path, *, training: dict | None = None) -> str:
    """Saves weights, tokenizer and configs.

    Args:
        model: what to save.
        folder: where; replaced whole when everything is written.
        training: a summary of how it was made, kept in gemb.json.

    Returns:
        The model's fingerprint.

    Raises:
        UserError: when the disk is full or the place cannot be written.
    """
    from safetensors.numpy import save_file

    spec, identity = model.spec, model_fingerprint(model)
    files = {
        "config.json": bert.config(spec.text),
        "modules.json": _modules(spec.normalize),
        "sentence_bert_config.json": {"max_seq_length": spec.max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": spec.query_prompt, "document": spec.document_prompt},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": _pooling(spec.dim, spec.pooling),
        MANIFEST: {
            "fingerprint": identity,
            "dim": spec.dim,
            "widths": spec.widths,
            "prompts": {"query": spec.query_prompt, "document": spec.document_prompt},
            "training": training or {},
        },
    }
    with atomic_folder(folder) as temporary:
        for name, content in files.items():
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
        tensors = tensors_from_params(model.params, model.unused, spec)
        save_file(tensors, temporary / "model.safetensors", metadata={"format": "pt"})
    return identity


def _tokenizer_config(tokenizer_json: str, max_length: int) -> dict:
    """Without it, transformers takes the tokenizer of a BERT model for WordPiece."""
    from tokenizers import Tokenizer

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "pad_token": Tokenizer.from_str(tokenizer_json).id_to_token(0),
    }


def _modules(normalize: bool) -> list[dict]:
    paths = list(_MODULES) if normalize else list(_MODULES)[:2]
    return [
        {"idx": i, "name": str(i), "path": path, "type": _MODULES[path]}
        for i, path in enumerate(paths)
    ]


def _pooling(dim: int, pooling: str) -> dict:
    names = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens"}
    modes = {f"pooling_mode_{names.get(m, m)}": m == pooling for m in _POOLING_MODES}
    return {"word_embedding_dimension": dim, **modes}
