"""Reads a sentence-transformers (or plain Hugging Face) folder into spec, parameters, tokenizer."""

import dataclasses
import json
from pathlib import Path

from gemb.checks import UserError
from gemb.models.embedder import ModelSpec
from gemb.models.pretrained import bert
from gemb.models.pretrained.fetch import model_folder
from gemb.models.pretrained.weights import params_from_tensors, read_tensors

MANIFEST = "gemb.json"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model read from disk.

    Attributes:
        spec: its shape, pooling, length limit, prompts and nested widths.
        params: flat {path: float32 array}; None where training draws them at random.
        unused: published tensors that no embedding needs, kept for saving.
        tokenizer_json: the text of tokenizer.json.
        folder: where it was read from; None of a model from scratch.
        manifest: gemb.json, or {} where gemb did not write the folder.
    """

    spec: ModelSpec
    params: dict | None
    unused: dict
    tokenizer_json: str
    folder: Path | None
    manifest: dict


def load(model: str, *, max_length: int | None = None, widths=()) -> Pretrained:
    """Loads a model folder, by path or by the name it was fetched under.

    Args:
        model: a folder, or a name such as "all-MiniLM-L6-v2" (see `gemb fetch`).
        max_length: cut texts to this many tokens instead of to the folder's limit.
        widths: nested widths to record in the model; default those of the folder.

    Returns:
        The spec, parameters and tokenizer.

    Raises:
        UserError: for a missing or broken file, an unknown architecture, or weights that do not
            fit the config or the tokenizer.
    """
    folder = model_folder(model)
    config = _read_json(folder / "config.json")
    if config.get("model_type") not in bert.MODEL_TYPES:
        raise UserError(
            f"{folder}/config.json: model_type {config.get('model_type')!r} is not supported; "
            f"known: {', '.join(bert.MODEL_TYPES)}"
        )
    manifest = _read_json(folder / MANIFEST, default={})
    spec = _model_spec(folder, bert.text_spec(config), manifest)
    spec = dataclasses.replace(
        spec, widths=tuple(widths) or spec.widths, max_length=max_length or spec.max_length
    )
    if spec.max_length > spec.text.positions:
        raise UserError(
            f"max_length: {spec.max_length} exceeds the model's {spec.text.positions} positions"
        )
    tokenizer_json = _read_text(folder / "tokenizer.json")
    _check_tokenizer(folder, tokenizer_json, spec)
    weights = folder / "model.safetensors"
    params, unused = params_from_tensors(read_tensors(weights), spec, weights)
    return Pretrained(spec, params, unused, tokenizer_json, folder, manifest)


def _model_spec(folder: Path, text, manifest: dict) -> ModelSpec:
    pooling = _read_json(folder / "1_Pooling" / "config.json", default={})
    modes = [
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, on in pooling.items()
        if name.startswith("pooling_mode_") and on is True
    ]
    if "pooling_mode" in pooling:  # the spelling of sentence-transformers 5.3 and newer
        modes = [pooling["pooling_mode"]]
    if len(modes) > 1:
        raise UserError(f"{folder}/1_Pooling: several pooling modes at once ({modes})")
    modules = _read_json(folder / "modules.json", default=[{"type": "Normalize"}])
    lengths = _read_json(folder / "sentence_bert_config.json", default={})
    prompts = _read_json(folder / "config_sentence_transformers.json", default={}).get("prompts")
    prompts = prompts or {}
    try:
        return ModelSpec(
            text,
            pooling=modes[0] if modes else "mean",
            normalize=any(module["type"].endswith("Normalize") for module in modules),
            max_length=lengths.get("max_seq_length") or text.positions,
            widths=tuple(manifest.get("widths", ())),
            query_prompt=prompts.get("query") or "",
            document_prompt=prompts.get("document") or "",
        )
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from None


def _check_tokenizer(folder: Path, tokenizer_json: str, spec: ModelSpec) -> None:
    from tokenizers import Tokenizer

    try:
        size = Tokenizer.from_str(tokenizer_json).get_vocab_size()
    except Exception as error:  # the Rust library raises Exception itself
        raise UserError(f"{folder}/tokenizer.json: not a tokenizer ({error})") from None
    if size > spec.text.vocab:
        raise UserError(
            f"{folder}/tokenizer.json knows {size} tokens, but the weights have only "
            f"{spec.text.vocab} rows: the tokenizer belongs to another model"
        )


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); is this a model folder?") from None


def _read_json(file: Path, default=None):
    if default is not None and not file.exists():
        return default
    try:
        return json.loads(_read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}: not JSON ({error})") from None
