"""Folders of convolutional image encoders, in gemb's own format.

config.json               {"model_type": "efficientnet_lite", the fields of ConvolutionSpec,
                          "tower": of its TowerSpec, "processor": of its ImageProcessor}
preprocessor_config.json  the same processor, for transformers
model.safetensors         parameters by gemb's own paths; a classifier's under "classifier/"
classes.jsonl             of a classifier: {"id", "lemmas", "definition"} of each class, in order
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import save_tensors
from gemb.models.encoders.convolution import Blocks, ConvolutionSpec
from gemb.models.functional import functional
from gemb.models.model import Origin, Tower
from gemb.models.spec import DenseSpec, ModelSpec, TowerSpec
from gemb.pretrained.convert.efficientnet import Converted
from gemb.pretrained.modules import WEIGHTS
from gemb.pretrained.sentence_transformers import read_json
from gemb.pretrained.weights import TensorFiles
from gemb.processors.image import ImageProcessor

MODEL_TYPE = "efficientnet_lite"
CLASSES = "classes.jsonl"
CLASSIFIER = "classifier/"
_TOWER = ("dense", "normalize", "widths", "similarity")


def processor_of(spec: ConvolutionSpec) -> ImageProcessor:
    """As EfficientNet-Lite was trained: (value - 127) / 128, bicubic, the middle cut out."""
    height, width = spec.size
    return ImageProcessor(
        height,
        width,
        resize="crop",
        method="bicubic",
        scale=1.0,
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
    )


def write_classifier(converted: Converted, classes: Sequence[dict], folder: Path) -> None:
    """Writes a converted classifier into an existing folder.

    Args:
        converted: from `gemb.pretrained.convert.efficientnet`.
        classes: {"id", "lemmas", "definition"} of each class.
        folder: where.

    Raises:
        UserError: if the classes are not as many as the classifier's.
    """
    count = len(converted.classifier["bias"])
    if len(classes) != count:
        raise UserError(f"{len(classes)} descriptions for {count} classes")
    tower = Tower(
        TowerSpec(converted.spec, normalize=False), converted.params, processor_of(converted.spec)
    )
    kept = {f"{CLASSIFIER}{name}": value for name, value in converted.classifier.items()}
    save_tower(dataclasses.replace(tower, origin=Origin(kept=kept)), folder)
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in classes)
    (folder / CLASSES).write_text("".join(lines), encoding="utf-8")


def save_tower(tower: Tower, folder: Path, manifest: dict | None = None) -> None:
    """Writes a tower with a convolutional encoder into an existing folder.

    Args:
        tower: what to write; a classifier among its kept tensors goes with it.
        folder: where.
        manifest: the content of gemb.json, if there is one.
    """
    spec = tower.spec
    encoder = dataclasses.asdict(spec.encoder)
    own = {name: getattr(spec, name) for name in _TOWER}
    own["dense"] = [dataclasses.asdict(layer) for layer in spec.dense]
    seen = dataclasses.asdict(tower.processor)
    config = {"model_type": MODEL_TYPE, **encoder, "tower": own, "processor": seen}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tower.processor.save(folder, tower.origin.folder)
    params = {path: np.asarray(value, np.float32) for path, value in tower.params.items()}
    save_tensors(folder / WEIGHTS, params | tower.origin.kept)
    if tower.origin.folder and (tower.origin.folder / CLASSES).is_file():
        text = (tower.origin.folder / CLASSES).read_text(encoding="utf-8")
        (folder / CLASSES).write_text(text, encoding="utf-8")
    if manifest is not None:
        (folder / "gemb.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def is_convolution(folder: Path) -> bool:
    """Whether a folder holds a convolutional image encoder."""
    config = folder / "config.json"
    return config.is_file() and read_json(config).get("model_type") == MODEL_TYPE


def read_tower(folder: Path, *, weights: bool = True) -> Tower:
    """Reads what `save_tower` wrote.

    Raises:
        UserError: for a missing or broken file, or weights that do not fit the config.
    """
    config = read_json(folder / "config.json")
    spec, processor = _parts(dict(config), folder / "config.json")
    params, kept = None, {}
    if weights:
        tensors = TensorFiles(folder)
        kept = {name: np.asarray(tensors[name]) for name in tensors if name.startswith(CLASSIFIER)}
        params = {}
        for path, leaf in functional(ModelSpec.of(spec)).shapes.items():
            found = tensors.shape(path) if path in tensors else "none"
            if found != leaf.shape:
                raise UserError(
                    f"{folder}: tensor {path}: expected shape {leaf.shape}, got {found}"
                )
            params[path] = np.asarray(tensors[path], np.float32)
            if not np.isfinite(params[path]).all():
                raise UserError(f"{folder}: tensor {path} holds NaN or infinity")
        if left := sorted(set(tensors) - set(params) - set(kept)):
            raise UserError(f"{folder}: tensors left over: {', '.join(left[:5])}")
    manifest = read_json(folder / "gemb.json", default={})
    try:
        return Tower(spec, params, processor, Origin(folder, config, kept, manifest))
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from None


def read_classes(folder: Path) -> list[dict]:
    """The classes of a classifier's folder: {"id", "lemmas", "definition"} in order.

    Raises:
        UserError: if the folder describes none, or a line is broken.
    """
    path = folder / CLASSES
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        whole = all(row["lemmas"] and isinstance(row["definition"], str) for row in rows)
        if not rows or not whole:
            raise ValueError('expected "lemmas" and "definition" in each line')
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    return rows


def _parts(config: dict, place: Path) -> tuple[TowerSpec, ImageProcessor]:
    try:
        processor = ImageProcessor(**config.pop("processor"))
        own = config.pop("tower")
        config.pop("model_type")
        config["blocks"] = tuple(Blocks(**part) for part in config["blocks"])
        config["size"] = tuple(config["size"])
        own = own | {"dense": tuple(DenseSpec(**layer) for layer in own["dense"])}
        own["widths"] = tuple(own["widths"])
        return TowerSpec(ConvolutionSpec(**config), **own), processor
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{place}: a configuration that cannot be read ({error})") from None
