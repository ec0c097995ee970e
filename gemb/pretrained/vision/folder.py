"""Folders of image encoders, and of pairs of a text and an image encoder, to towers and back.

A pair is read as a model whose queries are texts and whose documents are pictures. It is written in
the layout that transformers and sentence-transformers read, as long as its shape is the published
one, and so is an image encoder alone; a vision transformer of any other shape in gemb's own:

    config.json                 "model_type": "gemb_vision", the encoder, the tower
    model.safetensors           parameters by their paths
    preprocessor_config.json    how pictures are read
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import save_tensors
from gemb.identity import model_fingerprint, tower_fingerprint
from gemb.models.encoders.convolution import Blocks, ConvolutionSpec
from gemb.models.encoders.video import VideoSpec
from gemb.models.encoders.vision import VisionSpec, resized_positions
from gemb.models.functional import functional
from gemb.models.model import LogitScale, Model, Origin, Tower
from gemb.models.spec import DenseSpec, ModelSpec, Rotary, StackSpec, TowerSpec
from gemb.pretrained.families.config_keys import COMMON
from gemb.pretrained.families.vision import PAIRS, TEXT, VISION, flat, half_spec, unflat
from gemb.pretrained.keys import ANY, Rule, read_json, read_keys, shown, warn_unknown, whole
from gemb.pretrained.modules import TYPES, WEIGHTS
from gemb.pretrained.vision.preprocessing import read_processor
from gemb.pretrained.weights import TensorFiles, params_from_tensors, tensors_from_params
from gemb.processors.image import PREPROCESSOR, ImageProcessor
from gemb.processors.patches import PatchProcessor
from gemb.processors.text import TextProcessor, from_folder
from gemb.processors.video import VideoProcessor

MODEL_TYPE = "gemb_vision"
_TOWER = ("pooling", "normalize", "widths", "similarity")
_OBJECT = Rule("an object", lambda value: isinstance(value, dict), {})
_PAIR_KEYS = COMMON | {
    "text_config": _OBJECT,
    "vision_config": _OBJECT,
    "projection_dim": whole(512),
    "text_config_dict": _OBJECT.or_null(),
    "vision_config_dict": _OBJECT.or_null(),
    **dict.fromkeys(
        ("logit_scale_init_value", "initializer_factor"),
        ANY,
    ),
}
_PROJECTIONS = ("text_projection.weight", "visual_projection.weight")
_CLASSES = {"clip": "CLIPModel", "siglip": "SiglipModel", "siglip2": "Siglip2Model"}
_SIGLIP_TEXTS = ("siglip_text_model", "siglip2_text_model")
_KEPT = ("logit_scale", "logit_bias")


def pair_place(folder: Path) -> Path | None:
    """Where the pair of a folder is; None for a folder that holds none."""
    modules = folder / "modules.json"
    if modules.is_file():
        steps = read_json(modules, kind=list)
        first = steps[0] if steps and isinstance(steps[0], dict) else {}
        if str(first.get("type", "")).endswith("CLIPModel"):
            folder = folder / str(first.get("path", ""))
    return folder if _kind(folder) in PAIRS else None


def is_vision(folder: Path) -> bool:
    """Whether a folder holds one image encoder that is a vision transformer."""
    return _kind(folder) in {MODEL_TYPE, *VISION}


def _kind(folder: Path) -> object:
    file = folder / "config.json"
    kind = read_json(file).get("model_type") if file.is_file() else None
    return kind if isinstance(kind, str) else None


def read_pair(folder: Path, *, weights: bool = True) -> Model:
    """Reads a pair: queries are texts, documents pictures.

    Raises:
        UserError: for a missing or broken file, or weights that do not fit the config.
    """
    file = folder / "config.json"
    config = read_json(file)
    warn_unknown(config, _PAIR_KEYS, file)
    values = read_keys(config, _PAIR_KEYS, file)
    manifest = read_json(folder / "gemb.json", default={})
    tensors = TensorFiles(folder) if weights else {}
    kept = {name: np.asarray(tensors[name]) for name in _KEPT if name in tensors}
    halves = []
    for kind, half in zip(PAIRS[config["model_type"]], ("text", "vision"), strict=True):
        own = values[f"{half}_config"] | {"model_type": kind}
        if kind.startswith("clip") and values.get(f"{half}_config_dict"):
            own = values[f"{half}_config_dict"] | {"model_type": kind}  # as transformers has it
        place = f"{file}: {half}_config"
        warn_unknown(own, (TEXT | VISION)[kind].table, place)
        spec = half_spec(own, kind, _projected(kind, own, values), place)
        spec = dataclasses.replace(spec, widths=tuple(manifest.get("widths", ())))
        params = _half_params(tensors, kind, half, spec, folder) if weights else None
        processor = _texts(folder, spec, own) if half == "text" else _pictures(folder)
        origin = Origin(folder, own, kept if half == "vision" else {}, manifest)
        halves.append(_tower(spec, params, processor, origin))
    return Model(*halves, manifest=manifest, logit_scale=_scale(kept))


def _scale(kept: dict[str, np.ndarray]) -> LogitScale | None:
    """How the published model makes logits; both numbers are arrays of one element."""
    if "logit_scale" not in kept:
        return None
    numbers = {
        name: float(np.asarray(value, np.float32).ravel()[0]) for name, value in kept.items()
    }
    return LogitScale(numbers["logit_scale"], numbers.get("logit_bias"))


def _projected(kind: str, own: dict, values: dict) -> int | None:
    """The size of the projection of a half; None where there is none."""
    if kind.startswith("clip"):
        return values["projection_dim"]
    if kind in _SIGLIP_TEXTS:
        return own.get("projection_size") or own.get("hidden_size", 768)
    return None


def _half_params(tensors, kind: str, half: str, spec: TowerSpec, folder: Path) -> dict:
    """The parameters of a half, of the tensors of a pair."""
    start = f"{half}_model."
    own = {
        name.removeprefix(start): flat(name, np.asarray(tensors[name]))
        for name in tensors
        if name.startswith(start)
    }
    other = {"text": "vision_model.", "vision": "text_model."}[half]
    dense = _dense_names(kind)
    for name in tensors:
        known = name.startswith((start, other)) or name in (*_PROJECTIONS, *_KEPT)
        if not known:
            raise UserError(f"{folder}: tensors left over: {name}")
    projection = {}
    for path, (name, transposed) in dense.items():
        source = own.pop(name, None) if name in own else tensors.get(name)
        value = np.asarray(source, np.float32) if source is not None else None
        expected = functional(ModelSpec.of(spec)).shapes[path].shape
        value = value.T if value is not None and transposed else value
        if value is None or value.shape != expected or not np.isfinite(value).all():
            found = "none" if value is None else value.shape
            raise UserError(f"{folder}: tensor {name}: expected finite {expected}, got {found}")
        projection[path] = np.ascontiguousarray(value)
    family = (TEXT | VISION)[kind]
    return params_from_tensors(own, family, spec, folder)[0] | projection


def _dense_names(kind: str) -> dict[str, tuple[str, bool]]:
    """Parameter of the projection -> (published tensor, whether it is transposed)."""
    if kind in _SIGLIP_TEXTS:
        layer = "dense/layers/0"
        return {f"{layer}/kernel": ("head.weight", True), f"{layer}/bias": ("head.bias", False)}
    names = dict(zip(PAIRS["clip"], _PROJECTIONS, strict=True))
    return {"dense/layers/0/kernel": (names[kind], True)} if kind in names else {}


def _texts(folder: Path, spec: TowerSpec, config: dict) -> TextProcessor:
    length = spec.encoder.positions
    siglip = config["model_type"] in _SIGLIP_TEXTS
    if siglip and not (folder / "tokenizer.json").exists():
        raise UserError(
            f"{folder / 'tokenizer.json'}: no such file; without it gemb does not know how SigLIP "
            "writes its texts"
        )
    processor = from_folder(folder, length, rows=spec.encoder.vocab)
    if not siglip:
        return processor
    file = folder / "tokenizer_config.json"
    named = read_json(file, default={}).get("pad_token")
    named = named.get("content") if isinstance(named, dict) else named
    fill = config.get("pad_token_id", 1) if named is None else processor.tokenizer().token_id(named)
    if not isinstance(fill, int):
        raise UserError(f"{file}: pad_token: {shown(named)} is not a token of tokenizer.json")
    return dataclasses.replace(processor, fill=fill)


def _pictures(folder: Path) -> ImageProcessor | PatchProcessor:
    if not (folder / PREPROCESSOR).exists():
        raise UserError(f"{folder / PREPROCESSOR}: no such file; it says how pictures are read")
    return read_processor(folder)


def _tower(spec: TowerSpec, params, processor, origin: Origin) -> Tower:
    try:
        return Tower(spec, params, processor, origin)
    except ValueError as error:
        raise UserError(f"{origin.folder}: {error}") from None


def read_tower(folder: Path, *, weights: bool = True) -> Tower:
    """Reads a folder of one image encoder, published or gemb's own.

    Raises:
        UserError: for a missing or broken file, or weights that do not fit the config.
    """
    file = folder / "config.json"
    config = read_json(file)
    kind, manifest = config["model_type"], read_json(folder / "gemb.json", default={})
    processor = _pictures(folder)
    if kind == MODEL_TYPE:
        spec = _own_spec(config, file)
        if isinstance(spec.encoder, VideoSpec):
            processor = VideoProcessor(processor, config["encoder"]["count"])
        params = _own_params(TensorFiles(folder), spec, folder) if weights else None
        return _tower(spec, params, processor, Origin(folder, config, {}, manifest))
    family = VISION[kind]
    warn_unknown(config, family.table, file)
    spec = half_spec(config, kind, None, file)
    params, kept = None, {}
    if weights:
        files = TensorFiles(folder)
        tensors = {name: flat(name, np.asarray(files[name])) for name in files}
        params, kept = params_from_tensors(tensors, family, spec, folder)
    spec = dataclasses.replace(spec, widths=tuple(manifest.get("widths", ())))
    if isinstance(processor, ImageProcessor) and kind.startswith("dinov"):
        spec, params = with_size(spec, params, (processor.height, processor.width))
    return _tower(spec, params, processor, Origin(folder, config, kept, manifest))


def with_size(spec: TowerSpec, params: dict | None, size: tuple[int, int]):
    """A tower's spec and parameters for pictures of another size.

    The table of positions is resized as transformers does: bicubic, without antialias.

    Returns:
        (spec, parameters).

    Raises:
        UserError: for a size that the patch does not divide.
    """
    old = spec.encoder
    try:
        encoder = dataclasses.replace(old, size=size)
    except ValueError as error:
        raise UserError(str(error)) from None
    path = "image/position/table"
    if params is not None and path in params:
        leading = int(old.first and old.first_position)
        table = resized_positions(params[path], old.grid, encoder.grid, leading)
        params = params | {path: table}
    return dataclasses.replace(spec, encoder=encoder), params


def _own_spec(config: dict, file: Path) -> TowerSpec:
    try:
        encoder, tower = dict(config["encoder"]), dict(config["tower"])
        tower["widths"] = tuple(tower["widths"])
        tower["dense"] = tuple(DenseSpec(**layer) for layer in tower["dense"])
        tower["heads"] = tuple(
            (name, tuple(DenseSpec(**layer) for layer in layers)) for name, layers in tower["heads"]
        )
        if "frame" not in encoder:
            return TowerSpec(_vision_spec(encoder), **tower)
        encoder.pop("count")
        time = encoder.pop("time")
        frame = dict(encoder["frame"])
        frame = _convolution_spec(frame) if "blocks" in frame else _vision_spec(frame)
        encoder |= {"frame": frame, "time": time and _stack_spec(time)}
        return TowerSpec(VideoSpec(**encoder), **tower)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file}: a configuration that cannot be read ({error})") from None


def _vision_spec(values: dict) -> VisionSpec:
    values = dict(values)
    return VisionSpec(stack=_stack_spec(values.pop("stack")), **values)


def _convolution_spec(values: dict) -> ConvolutionSpec:
    blocks = tuple(Blocks(**part) for part in values["blocks"])
    return ConvolutionSpec(**values | {"blocks": blocks, "size": tuple(values["size"])})


def _stack_spec(values: dict) -> StackSpec:
    turns = (
        turn and Rotary(**{k: tuple(v) if isinstance(v, list) else v for k, v in turn.items()})
        for turn in values["rotary"]
    )
    heads = tuple(map(tuple, values.get("layer_heads", ())))
    lists = {"rotary": tuple(turns), "windows": tuple(values["windows"]), "layer_heads": heads}
    return StackSpec(**values | lists)


def _own_params(tensors: TensorFiles, spec: TowerSpec, folder: Path) -> dict:
    params = {}
    for path, leaf in functional(ModelSpec.of(spec)).shapes.items():
        found = tensors.shape(path) if path in tensors else "none"
        if found != leaf.shape:
            raise UserError(f"{folder}: tensor {path}: expected shape {leaf.shape}, got {found}")
        params[path] = np.asarray(tensors[path], np.float32)
        if not np.isfinite(params[path]).all():
            raise UserError(f"{folder}: tensor {path} holds NaN or infinity")
    if left := sorted(set(tensors) - set(params)):
        raise UserError(f"{folder}: tensors left over: {', '.join(left[:5])}")
    return params


def save_tower(tower: Tower, folder: Path, training: dict, dtype: str) -> str:
    """Writes an image tower into an existing folder, as transformers reads it or in gemb's layout.

    Returns:
        Its fingerprint.

    Raises:
        UserError: for another dtype than float32.
    """
    if dtype != "float32":
        raise UserError(f"dtype: image encoders are saved in float32, not in {dtype}")
    spec, identity = tower.spec, tower_fingerprint(tower)
    manifest = {"fingerprint": identity, "dim": spec.dim, "widths": spec.widths}
    _write(folder / "gemb.json", manifest | {"training": training})
    tower.processor.save(folder)
    if (published := _published_config(tower)) is not None:
        _write(folder / "config.json", published)
        save_tensors(folder / WEIGHTS, published_tensors(tower), {"format": "pt"})
        return identity
    own = {name: getattr(spec, name) for name in _TOWER}
    own["dense"] = [dataclasses.asdict(layer) for layer in spec.dense]
    own["heads"] = [
        [name, [dataclasses.asdict(layer) for layer in layers]] for name, layers in spec.heads
    ]
    encoder = dataclasses.asdict(spec.encoder)
    if isinstance(spec.encoder, VideoSpec):
        encoder["count"] = tower.processor.count
    config = {"model_type": MODEL_TYPE, "encoder": encoder, "tower": own}
    _write(folder / "config.json", config)
    params = {path: np.asarray(value, np.float32) for path, value in tower.params.items()}
    save_tensors(folder / WEIGHTS, params, {"format": "pt"})
    return identity


def _published_config(tower: Tower) -> dict | None:
    """The config.json by which transformers reads a tower; None for one of another shape."""
    given, encoder = tower.origin.config, tower.spec.encoder
    kind = given.get("model_type")
    halves = {half for pair in PAIRS.values() for half in pair}
    square = isinstance(encoder, VisionSpec) and encoder.size[0] == encoder.size[1]
    if kind not in VISION or kind in halves or not square:
        return None
    config = given | {"image_size": encoder.size[0], "dtype": "float32"}
    said = half_spec(config, kind, None, "config.json")
    same = dataclasses.replace(said, widths=tower.spec.widths) == tower.spec
    return config if same else None


def published_tensors(tower: Tower) -> dict[str, np.ndarray]:
    """The tensors of an image encoder by the names and in the shapes that transformers has."""
    family = VISION[tower.origin.config["model_type"]]
    own = tensors_from_params(tower.params, tower.origin.kept, family, tower.spec)
    return {name: unflat(name, value, tower.spec.encoder.patch) for name, value in own.items()}


def is_published_pair(model: Model) -> bool:
    """Whether a model has the shape of a pair that other libraries read."""
    kinds = tuple(tower.origin.config.get("model_type") for tower in (model.query, model.document))
    if model.shared or kinds not in PAIRS.values():
        return False
    for kind, tower in zip(kinds, (model.query, model.document), strict=True):
        dim = tower.spec.dim if tower.spec.dense else None
        said = half_spec(tower.origin.config, kind, dim, "config.json")
        if dataclasses.replace(said, widths=tower.spec.widths) != tower.spec:
            return False
    texts = model.query.processor
    return texts.max_length == model.query.spec.encoder.positions and not any(texts.prompts[:2])


def save_pair(model: Model, folder: Path, training: dict, dtype: str) -> str:
    """Writes a pair into an existing folder as transformers and sentence-transformers read it.

    Returns:
        Its fingerprint.

    Raises:
        UserError: for another dtype than float32.
    """
    if dtype != "float32":
        raise UserError(f"dtype: image encoders are saved in float32, not in {dtype}")
    name, tensors = pair_tensors(model)
    halves = {"text": model.query, "vision": model.document}
    identity = model_fingerprint(model)
    config = {"architectures": [_CLASSES[name]], "model_type": name, "dtype": "float32"}
    config |= {f"{half}_config": tower.origin.config for half, tower in halves.items()}
    if name == "clip":
        config["projection_dim"] = model.spec.dim
        modules = [{"idx": 0, "name": "0", "path": "", "type": f"{TYPES}CLIPModel"}]
        _write(folder / "modules.json", modules)
    _write(folder / "config.json", config)
    manifest = {"fingerprint": identity, "dim": model.spec.dim, "widths": model.spec.widths}
    _write(folder / "gemb.json", manifest | {"training": training})
    model.query.processor.save(folder, model.query.origin.folder)
    model.document.processor.save(folder)
    save_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    return identity


def pair_tensors(model: Model) -> tuple[str, dict[str, np.ndarray]]:
    """The kind of a pair, and its tensors by the names and in the shapes that transformers has."""
    kinds = tuple(tower.origin.config["model_type"] for tower in (model.query, model.document))
    name = next(name for name, halves in PAIRS.items() if halves == kinds)
    halves = dict(zip(("text", "vision"), (model.query, model.document), strict=True))
    tensors = dict(model.document.origin.kept)
    for (half, tower), kind in zip(halves.items(), kinds, strict=True):
        family = (TEXT | VISION)[kind]
        own = tensors_from_params(tower.params, {}, family, tower.spec)
        patch = 0 if name == "siglip2" else getattr(tower.spec.encoder, "patch", 0)
        for path, (theirs, transposed) in _dense_names(kind).items():
            value = np.asarray(tower.params[path], np.float32)
            value = np.ascontiguousarray(value.T if transposed else value)
            (tensors if theirs in _PROJECTIONS else own)[theirs] = value
        tensors |= {f"{half}_model.{key}": unflat(key, value, patch) for key, value in own.items()}
    defaults = {"logit_scale": np.log(np.float32(1 / 0.07))}
    if name != "clip":
        defaults = {"logit_scale": np.zeros(1, np.float32), "logit_bias": np.zeros(1, np.float32)}
    if model.logit_scale is not None:
        learned = {"logit_scale": model.logit_scale.log, "logit_bias": model.logit_scale.bias}
        for tensor, value in defaults.items():
            if learned[tensor] is not None:
                tensors[tensor] = np.full(np.shape(value), learned[tensor], np.float32)
    return name, defaults | tensors


def _write(file: Path, content) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
