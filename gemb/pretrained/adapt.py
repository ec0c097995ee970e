"""Turns a published model into the one to train: layers, attention, pooler, projection, LoRA."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.encoders.vision import VisionSpec
from gemb.models.functional import functional, initial_params
from gemb.models.model import LogitScale, Model, Tower
from gemb.models.spec import DenseSpec, ModelSpec, TowerSpec
from gemb.pretrained.feature_models.folder import is_feature_model, load_features
from gemb.pretrained.fetch import model_folder
from gemb.pretrained.folder import MANIFEST, config_of, family_of, read
from gemb.pretrained.router import router_places, router_steps
from gemb.pretrained.sentence_transformers import read_json, read_settings
from gemb.pretrained.vision import folder as vision
from gemb.processors.text import TextProcessor
from gemb.structs import SIDES

ATTENTION = ("causal", "bidirectional")


def load(
    model: str,
    *,
    max_length: int | None = None,
    prompts: Mapping[str, str] | None = None,
    widths: Sequence[int] = (),
    layers: Sequence[int] | None = None,
    attention: str | None = None,
    pooling: str | None = None,
    projection: Sequence[int | str] = (),
    normalize: bool | None = None,
    lora: tuple[int, float] = (0, 16.0),
    weights: bool = True,
    seed: int = 0,
) -> Model:
    """Loads a model folder, by path or by the name it was fetched under, and adapts it.

    What is not asked for stays as the folder has it.

    Args:
        model: a folder, or a name such as "all-MiniLM-L6-v2" (see `gemb fetch`).
        max_length: cut texts to this many tokens.
        prompts: {"query": ..., "document": ...}, or one of them: what the model reads before
            queries and documents when it embeds them, and in training where its tasks have no
            prompts of their own.
        widths: nested widths to record in the model.
        layers: keep these layers, in this order: [0, 2, 5] makes a student of three.
        attention: "bidirectional" turns a decoder into an encoder, "causal" back.
        pooling: a name in gemb.models.spec.POOLINGS.
        projection: output sizes of linear layers over the pooled vector, in place of the folder's
            own; the last is the size of the embedding. A name between two sizes is the activation
            there, as in (1024, "relu", 256); default "gelu".
        normalize: whether vectors are scaled to unit length.
        lora: (rank, alpha) of low-rank additions to every linear map of the stack, which are
            multiplied by alpha / rank; rank 0 for none.
        weights: False starts from random weights of the same shape.
        seed: of weights that the folder does not have.

    Returns:
        The model; of a router's folder, with both towers adapted in the same way.

    Raises:
        UserError: for a missing or broken file, an unknown architecture, weights that do not fit
            the config or the tokenizer, or a setting that the model cannot have.
    """
    changes = _Changes(
        max_length, dict(prompts or {}), tuple(widths), None if layers is None else tuple(layers),
        attention, pooling, tuple(projection), normalize, lora, seed,
    )  # fmt: skip
    if is_feature_model(folder := Path(model).expanduser()):
        if changes != _Changes(None, {}, (), None, None, None, (), None, (0, 16.0), seed):
            raise UserError(f"{folder}: a model over features is loaded as it is")
        return load_features(folder)
    made = _loaded(model, model_folder(model), changes, weights)
    return made if made.logit_scale is not None else _with_scale(made)


def _with_scale(model: Model) -> Model:
    """The model with what gemb.json says of logits."""
    given = model.manifest.get("logit_scale")
    if given is None:
        return model
    try:
        scale = LogitScale(**given)
        whole = all(isinstance(v, float) for v in (scale.log, scale.bias or 0.0))
        if not (whole and np.isfinite([scale.log, scale.bias or 0.0]).all()):
            raise ValueError("expected numbers")
    except (TypeError, ValueError) as error:
        raise UserError(f"{MANIFEST}: logit_scale: cannot be read ({error})") from None
    return dataclasses.replace(model, logit_scale=scale)


def _loaded(model: str, folder: Path, changes: "_Changes", weights: bool) -> Model:
    """The adapted towers of a folder."""
    if (place := vision.pair_place(folder)) is not None:
        pair = vision.read_pair(place, weights=weights)
        return dataclasses.replace(
            pair, **{side: _adapted(getattr(pair, side), changes) for side in SIDES}
        )
    places = router_places(folder)
    steps = {} if places else router_steps(folder)
    if steps and steps["query"] == steps["document"]:
        tower = read(model, weights=weights, steps=steps["query"])
        return Model.of(_adapted(tower, changes))
    if not places and not steps:
        return Model.of(_adapted(read(model, weights=weights), changes))
    similarity = read_settings(folder)["similarity_fn_name"] or "cosine"  # of the router alone

    def side_of(side: str) -> Tower:
        place, own = places.get(side, folder), steps.get(side)
        tower = _adapted(read(str(place), weights=weights, steps=own), changes)
        return dataclasses.replace(
            tower, spec=dataclasses.replace(tower.spec, similarity=similarity)
        )

    query, document = map(side_of, SIDES)
    return Model(query, document, manifest=read_json(folder / MANIFEST, default={}))


@dataclasses.dataclass(frozen=True)
class _Changes:
    """The settings of `load`."""

    max_length: int | None
    prompts: dict[str, str]
    widths: tuple[int, ...]
    layers: tuple[int, ...] | None
    attention: str | None
    pooling: str | None
    projection: tuple[int | str, ...]
    normalize: bool | None
    lora: tuple[int, float]
    seed: int

    def __post_init__(self):
        for side, prompt in self.prompts.items():
            if side not in SIDES or not isinstance(prompt, str):
                raise UserError(
                    f"prompts: expected texts by the names {list(SIDES)}, got {self.prompts!r}"
                )


def _adapted(tower: Tower, changes: _Changes) -> Tower:
    try:
        text = tower.spec.encoder.modality == "text"
        if not text:
            _check_not_of_texts(tower, changes)
        if changes.attention is not None:
            tower = _with_attention(tower, changes.attention)
        static = text and config_of(tower)["model_type"] == "static"
        if changes.pooling not in (None, "mean") and static:
            raise ValueError(f"pooling: a static model is a mean, not {changes.pooling!r}")
        if changes.layers is not None:
            tower = take_layers(tower, changes.layers)
        spec = _changed_spec(tower.spec, changes)
        processor = _changed_processor(tower.processor, changes)
        processor.check_encoder(spec.encoder)
    except ValueError as error:
        raise UserError(str(error)) from None
    params = tower.params
    if params is not None:
        replaced = ["dense/"] if changes.projection else []
        if changes.pooling not in (None, tower.spec.pooling):
            replaced.append("pooler/")
        params = _complete(params, spec, replaced, changes.seed)
    return dataclasses.replace(tower, spec=spec, params=params, processor=processor)


def _check_not_of_texts(tower: Tower, changes: _Changes) -> None:
    """Refuses what only encoders of texts have."""
    kind = tower.spec.encoder.modality
    for name in ("attention", "layers"):
        if getattr(changes, name) is not None:
            raise ValueError(f"{name}: only of models of texts; this one reads {kind!r}")
    if changes.lora[0] and not isinstance(tower.spec.encoder, VisionSpec):
        raise ValueError(f"lora: only of transformers of texts or pictures, not of {kind!r}")


def _changed_spec(spec: TowerSpec, changes: _Changes) -> TowerSpec:
    fields = {
        "widths": changes.widths or None,
        "pooling": changes.pooling,
        "normalize": changes.normalize,
    }
    if changes.projection:
        fields["dense"] = _projection(spec, changes.projection)
        fields["widths"] = changes.widths  # those of the folder were of its own projection
    fields = {name: value for name, value in fields.items() if value is not None}
    rank, alpha = changes.lora
    if rank:
        stack = dataclasses.replace(spec.encoder.stack, lora_rank=rank, lora_scale=alpha / rank)
        fields["encoder"] = dataclasses.replace(spec.encoder, stack=stack)
    return dataclasses.replace(spec, **fields)


def _changed_processor(processor: TextProcessor, changes: _Changes) -> TextProcessor:
    if processor.modality != "text":
        if changes.max_length is not None:
            if processor.modality != "vision_language":
                raise ValueError(f"max_length: values of {processor.modality!r} are not cut")
            processor = processor.with_limit(changes.max_length)
        return processor.with_prompts(changes.prompts)
    if processor.fill is not None and changes.max_length not in (None, processor.max_length):
        length = processor.max_length
        raise ValueError(f"max_length: the model reads its padding; each text has {length} tokens")
    prompts = processor.prompts._replace(**changes.prompts)
    length = processor.max_length if changes.max_length is None else changes.max_length
    return dataclasses.replace(processor, max_length=length, prompts=prompts)


def take_layers(tower: Tower, layers: tuple[int, ...]) -> Tower:
    """A tower with some of another's layers, in the order given.

    Raises:
        ValueError: for a layer that does not exist.
    """
    whole, family = tower.spec.encoder, family_of(tower)
    encoder = dataclasses.replace(whole, stack=whole.stack.take(layers))
    config = config_of(tower) | {family.layer_count: len(layers)}
    windows = whole.stack.windows
    kinds = config.get("layer_types")
    if not kinds and len(set(windows)) > 1:  # else their pattern is a rule of the whole stack
        kinds = ["sliding_attention" if window else "full_attention" for window in windows]
    if kinds:
        config["layer_types"] = [kinds[layer] for layer in layers]
    if own := config.get("per_layer_config"):
        by_number = {int(layer): values for layer, values in own.items()}
        kept = {str(n): by_number[old] for n, old in enumerate(layers) if old in by_number}
        config["per_layer_config"] = kept
    params = tower.params
    if params is not None:
        pattern = re.compile(r"text/stack/layers/(\d+)/(.*)")
        by_layer, params = {}, {}
        for path, value in tower.params.items():
            if match := pattern.fullmatch(path):
                by_layer.setdefault(int(match[1]), {})[match[2]] = value
            else:
                params[path] = value
        for new, old in enumerate(layers):
            params |= {f"text/stack/layers/{new}/{k}": v for k, v in by_layer[old].items()}
    if family.text_spec(config) != encoder:
        raise ValueError(
            f"layers: a {config['model_type']} config.json cannot describe {list(layers)}, so the "
            "model could not be saved: its first layer is of another kind, take it too"
        )
    return _replaced(tower, encoder, config, params)


def _replaced(tower: Tower, encoder: TextSpec, config: dict, params: dict | None) -> Tower:
    spec = dataclasses.replace(tower.spec, encoder=encoder)
    origin = dataclasses.replace(tower.origin, config=config)
    return dataclasses.replace(tower, spec=spec, params=params, origin=origin)


def _with_attention(tower: Tower, attention: str) -> Tower:
    if attention not in ATTENTION:
        raise ValueError(f"attention: expected one of {list(ATTENTION)}, got {attention!r}")
    causal = attention == "causal"
    if causal == tower.spec.encoder.stack.causal:
        return tower
    family, config = family_of(tower), config_of(tower)
    if family.causal is None:
        kind = config["model_type"]
        raise ValueError(f"attention: {kind} models are bidirectional only")
    config = config | family.causal(causal)
    return _replaced(tower, family.text_spec(config), config, tower.params)


def _projection(spec: TowerSpec, parts: Sequence[int | str]) -> tuple[DenseSpec, ...]:
    """The layers of a list of sizes, with the names of activations between them."""
    if any(isinstance(a, str) and isinstance(b, str) for a, b in itertools.pairwise(parts)):
        raise ValueError(f"projection: expected one activation between sizes, got {tuple(parts)}")
    layers, width = [], spec.encoder.width
    for number, part in enumerate(parts):
        if isinstance(part, str):
            continue
        following = parts[number + 1 : number + 2]
        last = not following
        activation = "identity" if last else "gelu"
        if following and isinstance(following[0], str):
            activation = following[0]
        layers.append(DenseSpec(width, part, activation))
        width = part
    if isinstance(parts[0], str) or isinstance(parts[-1], str):
        raise ValueError(f"projection: expected sizes first and last, got {tuple(parts)}")
    return tuple(layers)


def _complete(params: dict, spec: TowerSpec, replaced: Sequence[str], seed: int) -> dict:
    """The parameters with random ones where the spec has more than the folder."""
    params = {path: value for path, value in params.items() if not path.startswith(tuple(replaced))}
    whole = ModelSpec.of(spec)
    missing = [path for path in functional(whole).shapes if path not in params]
    if not missing:
        return params
    draw = jax.jit(lambda key: {path: initial_params(whole, key)[path] for path in missing})
    return params | {path: np.asarray(value) for path, value in draw(jax.random.key(seed)).items()}


def merge_lora(tower: Tower) -> Tower:
    """The same tower with W + scale A B in place of W, A and B."""
    stack = tower.spec.encoder.stack
    if not stack.lora_rank:
        return tower
    params = dict(tower.params)
    for path in [path for path in params if path.endswith("/lora_a")]:
        base = path.removesuffix("/lora_a")
        a, b = (np.asarray(params.pop(f"{base}/lora_{side}")) for side in "ab")
        params[f"{base}/kernel"] = np.asarray(params[f"{base}/kernel"]) + stack.lora_scale * (a @ b)
    plain = dataclasses.replace(stack, lora_rank=0, lora_scale=1.0)
    encoder = dataclasses.replace(tower.spec.encoder, stack=plain)
    return _replaced(tower, encoder, tower.origin.config, params)
