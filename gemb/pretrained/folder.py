"""Reads a sentence-transformers (or plain Hugging Face) folder as a tower."""

import dataclasses
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.models.functional import functional
from gemb.models.model import Origin, Tower
from gemb.models.poolers import LEARNED_POOLERS
from gemb.models.spec import DenseSpec, ModelSpec, TowerSpec
from gemb.pretrained.families import FAMILIES, bert, static
from gemb.pretrained.families.family import Family
from gemb.pretrained.fetch import model_folder
from gemb.pretrained.modules import SETTINGS
from gemb.pretrained.sentence_transformers import Modules, read_json, read_modules
from gemb.pretrained.weights import TensorFiles, params_from_tensors
from gemb.processors.text import TextProcessor, from_folder
from gemb.structs import Prompts

MANIFEST = "gemb.json"
_UNLIMITED = 512  # tokens of a model that has no limit of its own, as T5


def read(model: str, *, weights: bool = True) -> Tower:
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
    spec = _tower_spec(folder, config, modules, manifest)
    processor = _processor(folder, spec, modules, manifest)
    params, kept = _weights(folder, config, spec, modules) if weights else (None, {})
    settings = read_json(folder / SETTINGS, default={})
    return Tower(spec, params, processor, Origin(folder, config, kept, manifest, settings))


def config_of(tower: Tower) -> dict:
    """The config.json of a tower: the one that it was read with, or one that gives its shape."""
    if tower.origin.config:
        return tower.origin.config
    encoder = tower.spec.encoder
    return (bert if encoder.stack.layers else static).config_of(encoder)


def family_of(tower: Tower) -> Family:
    """The family whose config.json and tensor names a tower is saved with."""
    return FAMILIES[config_of(tower)["model_type"]]


def _weights(folder: Path, config: dict, spec: TowerSpec, modules: Modules) -> tuple[dict, dict]:
    """(parameters, published tensors that no embedding needs)."""
    family = FAMILIES[config["model_type"]]
    tensors = TensorFiles(modules.encoder)
    params, kept = params_from_tensors(tensors, family, spec, modules.encoder)
    for number, place in enumerate(modules.dense_folders):
        params |= _dense_params(TensorFiles(place), number, spec, place)
    return params | _own_params(folder, spec), kept


def _processor(folder: Path, spec: TowerSpec, modules: Modules, manifest: dict) -> TextProcessor:
    limit = spec.encoder.max_length or _UNLIMITED
    made = from_folder(
        modules.encoder,
        _length(folder, modules, manifest, limit),
        lower_case=modules.lower_case,
        special=not modules.static,  # static models see the words of a text only
    )
    prompts = Prompts(
        modules.prompts.get("query") or "",
        modules.prompts.get("document") or "",
        modules.pool_prompt,
    )
    made = dataclasses.replace(made, prompts=prompts)
    try:
        made.check_encoder(spec.encoder)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from None
    return made


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


def _tower_spec(folder: Path, config: dict, modules: Modules, manifest: dict) -> TowerSpec:
    family = FAMILIES[config["model_type"]]
    try:
        static = "mean" if modules.static else None
        return TowerSpec(
            family.text_spec(config),
            pooling=static or modules.pooling or family.pooling,
            dense=modules.dense,
            heads=_heads(manifest),
            normalize=modules.normalize,
            widths=_widths(manifest),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: a configuration that cannot be read ({error})") from None


def _length(folder: Path, modules: Modules, manifest: dict, limit: int) -> int:
    """Tokens that a text is cut to; a tokenizer's word counts up to the positions there are."""
    said = modules.max_length or manifest.get("max_length")
    for length, kind in ((said, int | None), (modules.tokenizer_length, int | float | None)):
        if not isinstance(length, kind):
            raise UserError(f"{folder}: a length limit that cannot be read ({length!r})")
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


def _dense_params(tensors: TensorFiles, number: int, spec: TowerSpec, place: Path) -> dict:
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


def _own_params(folder: Path, spec: TowerSpec) -> dict:
    """What no other library has a place for: learned poolers and heads, as gemb saved them."""
    if spec.pooling not in LEARNED_POOLERS and not spec.heads:
        return {}
    place, params = folder / "gemb", {}
    tensors = TensorFiles(place)
    for path, leaf in functional(ModelSpec.of(spec)).shapes.items():
        if path.startswith(("pooler/", "heads/")):
            found = tensors.shape(path) if path in tensors else "none"
            if found != leaf.shape:
                raise UserError(f"{place}: tensor {path}: expected shape {leaf.shape}, got {found}")
            params[path] = np.asarray(tensors[path], np.float32)
    return params
