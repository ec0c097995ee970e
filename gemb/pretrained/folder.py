"""Reads a sentence-transformers (or plain Hugging Face) folder as a tower."""

import dataclasses
import sys
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.models.functional import functional
from gemb.models.model import Origin, Tower
from gemb.models.poolers import LEARNED_POOLERS
from gemb.models.spec import DenseSpec, ModelSpec, TowerSpec
from gemb.pretrained import convolution
from gemb.pretrained.families import FAMILIES, bert, static
from gemb.pretrained.families.family import Family
from gemb.pretrained.families.static import TABLE, static_table
from gemb.pretrained.fetch import model_folder
from gemb.pretrained.keys import Rule, read_keys, warn_unknown, whole
from gemb.pretrained.modules import SETTINGS
from gemb.pretrained.sentence_transformers import Modules, read_json, read_modules
from gemb.pretrained.vision import folder as vision
from gemb.pretrained.vision import gemma, language
from gemb.pretrained.weights import TensorFiles, params_from_tensors
from gemb.processors.text import TextProcessor, from_folder
from gemb.structs import Prompts

MANIFEST = "gemb.json"
_MANIFEST_KEYS = {
    "max_length": whole(None).or_null(),
    "widths": Rule(
        "a list of whole numbers above 0",
        lambda value: isinstance(value, list) and all(type(w) is int and w > 0 for w in value),
    ),
    "heads": Rule(
        "projections by name",
        lambda value: isinstance(value, dict) and all(map(_is_projection, value.values())),
    ),
}
_UNLIMITED = 512  # tokens of a model that has no limit of its own, as T5
_BEYOND = 10**20  # such numbers of tokenizer_config.json mean that there is no limit
_STATIC = 1_000_000  # of a static model, which sentence-transformers never cuts by itself


def _is_projection(layers) -> bool:
    """Whether a head of gemb.json is layers of (inputs, outputs, activation, bias)."""
    kinds = [int, int, str, bool]
    return isinstance(layers, list) and all(
        isinstance(layer, list) and [type(value) for value in layer] == kinds for layer in layers
    )


def read(model: str, *, weights: bool = True, steps: list[dict] | None = None) -> Tower:
    """Reads a model folder as it is, by path or by the name it was fetched under.

    Args:
        model: a folder, or a name such as "all-MiniLM-L6-v2" (see `gemb fetch`).
        weights: False reads the shape and the tokenizer only.
        steps: what counts instead of modules.json, for a side of a router.

    Raises:
        UserError: for a missing or broken file, an unknown architecture, or weights that do not
            fit the config or the tokenizer.
    """
    folder = model_folder(model)
    if convolution.is_convolution(folder):
        return convolution.read_tower(folder, weights=weights)
    if language.is_vision_language(folder):
        return language.read_tower(
            folder, lambda part: read(str(part), weights=weights), weights=weights
        )
    if vision.is_vision(folder):
        return vision.read_tower(folder, weights=weights)
    modules = read_modules(folder, steps)
    manifest = read_json(folder / MANIFEST, default={})
    read_keys(manifest, _MANIFEST_KEYS, folder / MANIFEST)
    table = static_table(TensorFiles(modules.encoder), modules.encoder) if modules.static else None
    config = _config(modules, table)
    spec = _tower_spec(folder, config, modules, manifest)
    processor = _processor(folder, spec, modules, manifest)
    params, kept = _weights(folder, config, spec, modules, table) if weights else (None, {})
    settings = read_json(folder / SETTINGS, default={})
    tower = Tower(spec, params, processor, Origin(folder, config, kept, manifest, settings))
    if gemma.reads_pictures(modules.encoder):
        return gemma.with_pictures(tower, modules.encoder, weights=weights)
    return tower


def config_of(tower: Tower) -> dict:
    """The config.json of a tower: the one that it was read with, or one that gives its shape."""
    if tower.origin.config:
        return tower.origin.config
    encoder = tower.spec.encoder
    return (bert if encoder.stack.layers else static).config_of(encoder)


def family_of(tower: Tower) -> Family:
    """The family whose config.json and tensor names a tower is saved with."""
    return FAMILIES[config_of(tower)["model_type"]]


def _weights(
    folder: Path, config: dict, spec: TowerSpec, modules: Modules, table: dict | None
) -> tuple[dict, dict]:
    """(parameters, published tensors that no embedding needs)."""
    family = FAMILIES[config["model_type"]]
    tensors = TensorFiles(modules.encoder) if table is None else table
    layers = spec.encoder.stack.layers
    if layers > len(tensors):  # found here in no time; building so many layers may take hours
        raise UserError(
            f"{modules.encoder}/config.json: {family.layer_count}: {layers} layers, and the "
            f"weights hold only {len(tensors)} tensors"
        )
    params, kept = params_from_tensors(tensors, family, spec, modules.encoder)
    for number, place in enumerate(modules.dense_folders):
        params |= _dense_params(TensorFiles(place), number, spec, place)
    return params | _own_params(folder, spec), kept


def _processor(folder: Path, spec: TowerSpec, modules: Modules, manifest: dict) -> TextProcessor:
    made = from_folder(
        modules.encoder,
        _length(folder, modules, manifest, spec.encoder.max_length),
        rows=spec.encoder.vocab,
        lower_case=modules.lower_case,
        static=modules.static,
    )
    prompts = Prompts(modules.prompts["query"], modules.prompts["document"], modules.pool_prompt)
    made = dataclasses.replace(made, prompts=prompts)
    try:
        made.check_encoder(spec.encoder)
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from None
    return made


def _config(modules: Modules, table: dict | None) -> dict:
    """config.json; for a static model, which has none, what the shape of its table says."""
    if table is not None:
        vocab, width = table[TABLE].shape
        return {"model_type": "static", "vocab_size": vocab, "hidden_size": width}
    file = modules.encoder / "config.json"
    config = read_json(file)
    config = gemma.text_config(config, file)
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f"{file}: model_type {kind!r} is not supported; known: {', '.join(FAMILIES)}"
        )
    if kind == "gemma" and "hidden_act" in modules.config:
        raise UserError(f"{file}: config_args: hidden_act is not supported for gemma")
    config = FAMILIES[kind].respelled(config) | modules.config
    warn_unknown(config, FAMILIES[kind].table, file)
    return config


def _tower_spec(folder: Path, config: dict, modules: Modules, manifest: dict) -> TowerSpec:
    family = FAMILIES[config["model_type"]]
    try:
        static = "mean" if modules.static else None
        return TowerSpec(
            family.text_spec(config, modules.encoder / "config.json"),
            pooling=static or modules.pooling or _plain_pooling(config),
            dense=modules.dense,
            heads=_heads(manifest),
            normalize=modules.normalize,
            widths=tuple(manifest.get("widths", ())),
            similarity=modules.similarity,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}: a configuration that cannot be read ({error})") from None


def _plain_pooling(config: dict) -> str:
    """How sentence-transformers pools the vectors of a folder that names no pooler."""
    names = config.get("architectures") or [""]
    causal = config.get("is_causal", True) and str(names[0]).endswith("ForCausalLM")
    return "lasttoken" if causal else "mean"


def _length(folder: Path, modules: Modules, manifest: dict, limit: int) -> int:
    """Tokens that a text is cut to: what is said, up to the encoder's limit (0 for none)."""
    said = modules.max_length or manifest.get("max_length")
    if modules.static and not said:
        file = modules.encoder / "tokenizer.json"
        truncation = read_json(file, default={}).get("truncation") or {}
        return truncation.get("max_length") or _STATIC
    length = said or min(modules.tokenizer_length or _BEYOND, limit or _BEYOND)
    if length >= _BEYOND:
        print(
            f"warning: {folder}: it names no number of tokens that texts are cut to, so gemb cuts "
            f"them to {_UNLIMITED}; set max_seq_length in sentence_bert_config.json",
            file=sys.stderr,
        )
        return _UNLIMITED
    return int(length)


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
    if leftover := sorted(set(tensors) - {name for name, _ in expected.values()}):
        raise UserError(f"{place}: tensors left over: {', '.join(leftover[:5])}")
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
