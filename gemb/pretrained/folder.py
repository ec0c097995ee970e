"""Reads a sentence-transformers (or plain Hugging Face) folder into spec, parameters, tokenizer."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.models.functional import functional
from gemb.models.poolers import LEARNED_POOLERS
from gemb.models.spec import DenseSpec, ModelSpec
from gemb.pretrained.families import FAMILIES
from gemb.pretrained.families.family import Family
from gemb.pretrained.fetch import model_folder
from gemb.pretrained.sentence_transformers import Modules, read_json, read_modules
from gemb.pretrained.weights import TensorFiles, params_from_tensors
from gemb.structs import Prompts
from gemb.tokenizers.tokenizer_files import read_tokenizer

MANIFEST = "gemb.json"
_UNLIMITED = 512  # tokens of a model that has no limit of its own, as T5


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A model read from disk.

    Attributes:
        spec: its shape, pooling, length limit, prompts and nested widths.
        params: flat {path: float32 array}; None where training draws them at random. Paths that are
            not in it are drawn at random too.
        config: the encoder's config.json.
        kept: published tensors that no embedding needs, kept for saving.
        tokenizer_json: the text of tokenizer.json.
        folder: where it was read from; None of a model from scratch.
        manifest: gemb.json, or {} where gemb did not write the folder.
    """

    spec: ModelSpec
    params: dict | None
    config: dict
    kept: dict
    tokenizer_json: str
    folder: Path | None
    manifest: dict

    @property
    def widths(self) -> tuple[int, ...]:
        """Nested widths."""
        return self.spec.widths

    @property
    def prompts(self) -> Prompts:
        """What it reads before its texts."""
        spec = self.spec
        return Prompts(spec.query_prompt, spec.document_prompt, spec.pool_prompt)

    def trained(self, spec: ModelSpec, params: dict) -> "Pretrained":
        """The model with the spec and the parameters that training left."""
        return dataclasses.replace(self, spec=spec, params=params)

    @property
    def family(self) -> Family:
        """Of the encoder."""
        return FAMILIES[self.config["model_type"]]


def read(model: str, *, weights: bool = True) -> Pretrained:
    """Reads a model folder as it is, by path or by the name it was fetched under.

    Args:
        model: a folder, or a name such as "all-MiniLM-L6-v2" (see `gemb fetch`).
        weights: False reads the shape and the tokenizer only.

    Raises:
        UserError: for a missing or broken file, an unknown architecture, or weights that do not
            fit the config or the tokenizer.
    """
    folder = model_folder(model)
    modules = read_modules(folder)
    manifest = read_json(folder / MANIFEST, default={})
    config = _config(modules)
    spec = _model_spec(folder, config, modules, manifest)
    tokenizer_json = read_tokenizer(modules.encoder)
    if modules.static:
        tokenizer_json = _without_special_tokens(tokenizer_json)
    if modules.lower_case:
        tokenizer_json = _lower_case(tokenizer_json)
    _check_tokenizer(folder, tokenizer_json, spec)
    if not weights:
        return Pretrained(spec, None, config, {}, tokenizer_json, folder, manifest)
    family = FAMILIES[config["model_type"]]
    tensors = TensorFiles(modules.encoder)
    params, kept = params_from_tensors(tensors, family, spec, modules.encoder)
    for number, place in enumerate(modules.dense_folders):
        params |= _dense_params(TensorFiles(place), number, spec, place)
    params |= _own_params(folder, spec)
    return Pretrained(spec, params, config, kept, tokenizer_json, folder, manifest)


def _config(modules: Modules) -> dict:
    if modules.static:
        tensors = TensorFiles(modules.encoder)
        if "embedding.weight" not in tensors:
            raise UserError(f"{modules.encoder}: tensor embedding.weight is missing")
        vocab, width = tensors.shape("embedding.weight")
        return {"model_type": "static", "vocab_size": vocab, "hidden_size": width}
    config = read_json(modules.encoder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f"{modules.encoder}/config.json: model_type {kind!r} is not supported; known: "
            f"{', '.join(FAMILIES)}"
        )
    return config


def _model_spec(folder: Path, config: dict, modules: Modules, manifest: dict) -> ModelSpec:
    family = FAMILIES[config["model_type"]]
    try:
        text = family.text_spec(config)
        limit = text.max_length or _UNLIMITED
        static = "mean" if modules.static else None
        return ModelSpec(
            text,
            pooling=static or modules.pooling or family.pooling,
            dense=modules.dense,
            heads=_heads(manifest),
            normalize=modules.normalize,
            max_length=_length(modules, manifest, limit),
            widths=_widths(manifest),
            query_prompt=modules.prompts.get("query") or "",
            document_prompt=modules.prompts.get("document") or "",
            pool_prompt=modules.pool_prompt,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: a configuration that cannot be read ({error})") from None


def _length(modules: Modules, manifest: dict, limit: int) -> int:
    """Tokens that a text is cut to; a tokenizer's word counts up to the positions there are."""
    said = modules.max_length or manifest.get("max_length")
    return said or int(min(modules.tokenizer_length or limit, limit))


def _widths(manifest: dict) -> tuple[int, ...]:
    widths = manifest.get("widths", ())
    if not isinstance(widths, list | tuple) or not all(isinstance(w, int) for w in widths):
        raise ValueError(f"gemb.json: widths: expected a list of numbers, got {widths!r}")
    return tuple(widths)


def _heads(manifest: dict) -> tuple:
    return tuple(
        (name, tuple(DenseSpec(*layer) for layer in layers))
        for name, layers in manifest.get("heads", {}).items()
    )


def _dense_params(tensors: TensorFiles, number: int, spec: ModelSpec, place: Path) -> dict:
    shape = spec.dense[number]
    expected = {"kernel": ("linear.weight", (shape.outputs, shape.inputs))}
    if shape.bias:
        expected["bias"] = ("linear.bias", (shape.outputs,))
    params = {}
    for part, (name, size) in expected.items():
        found = tensors.shape(name) if name in tensors else "none"
        if found != size:
            raise UserError(f"{place}: tensor {name}: expected shape {size}, got {found}")
        value = np.asarray(tensors[name], np.float32)
        if not np.isfinite(value).all():
            raise UserError(f"{place}: tensor {name} holds NaN or infinity")
        params[f"dense/layers/{number}/{part}"] = value.T if part == "kernel" else value
    return params


def _own_params(folder: Path, spec: ModelSpec) -> dict:
    """What no other library has a place for: learned poolers and heads, as gemb saved them."""
    if spec.pooling not in LEARNED_POOLERS and not spec.heads:
        return {}
    place, params = folder / "gemb", {}
    tensors = TensorFiles(place)
    for path, leaf in functional(spec).shapes.items():
        if path.startswith(("pooler/", "heads/")):
            found = tensors.shape(path) if path in tensors else "none"
            if found != leaf.shape:
                raise UserError(f"{place}: tensor {path}: expected shape {leaf.shape}, got {found}")
            params[path] = np.asarray(tensors[path], np.float32)
    return params


def _check_tokenizer(folder: Path, tokenizer_json: str, spec: ModelSpec) -> None:
    from tokenizers import Tokenizer

    size = Tokenizer.from_str(tokenizer_json).get_vocab_size()
    if size > spec.text.vocab:
        raise UserError(
            f"{folder}/tokenizer.json knows {size} tokens, but the weights have only "
            f"{spec.text.vocab} rows: the tokenizer belongs to another model"
        )


def _lower_case(tokenizer_json: str) -> str:
    """A tokenizer that makes texts lower case first, as sentence-transformers then does."""
    content = json.loads(tokenizer_json)
    steps = [{"type": "Lowercase"}, *filter(None, [content.get("normalizer")])]
    content["normalizer"] = {"type": "Sequence", "normalizers": steps}
    return json.dumps(content, ensure_ascii=False)


def _without_special_tokens(tokenizer_json: str) -> str:
    """Static models see the words of a text only, as in sentence-transformers."""
    return json.dumps(json.loads(tokenizer_json) | {"post_processor": None}, ensure_ascii=False)
