"""EmbeddingGemma 2 folders to towers of texts and pictures, and back.

config.json             "model_type": "embedding_gemma2": text_config, vision_config, audio_config
model.safetensors       language_model., vision_tower., embed_vision., audio_tower., embed_audio.
processor_config.json   how pictures are read, and settings of sounds and videos

gemb reads texts and pictures; the audio encoder is kept and written back. A folder without
vision_config is one of texts.
"""

import dataclasses
import shutil
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import write_json
from gemb.models.encoders.vision import VisionSpec
from gemb.models.model import Origin, Tower
from gemb.models.spec import TowerSpec
from gemb.pretrained.families import gemma4
from gemb.pretrained.families.config_keys import COMMON
from gemb.pretrained.families.family import Tensor
from gemb.pretrained.keys import ANY, Rule, only, read_json, read_keys, shown, warn_unknown, whole
from gemb.pretrained.module_keys import TEXT_ONLY
from gemb.pretrained.text_settings import TEMPLATE, check_template, reads_messages
from gemb.pretrained.vision import language
from gemb.pretrained.vision.preprocessing import processor_of
from gemb.pretrained.weights import (
    TensorFiles,
    parameter,
    params_from_tensors,
    tensors_from_params,
)
from gemb.processors.image import PREPROCESSOR
from gemb.processors.patches import CellProcessor

MODEL_TYPE, TEXT_TYPE, VISION_TYPE = "embedding_gemma2", "embedding_gemma2_text", "gemma4_vision"
PROCESSOR, TOKENIZER = "processor_config.json", "tokenizer_config.json"
_PROJECTION = "embed_vision.embedding_projection.weight"
_TABLE = "patch_embedder.position_embedding_table"
_AUDIO = ("audio_tower.", "embed_audio.")
_KERNEL = "vision_language/pool/project/kernel"
_OBJECT = Rule("an object", lambda value: isinstance(value, dict), {})
KEYS = COMMON | {
    "text_config": _OBJECT,
    "vision_config": _OBJECT.or_null(),
    "audio_config": _OBJECT.or_null(),
    "boi_token_id": whole(255_999),
    "eoi_token_id": whole(258_882),
    "image_token_id": whole(258_880),
    **dict.fromkeys(
        ("audio_token_id", "boa_token_id", "eoa_token_id", "eoa_token_index", "video_token_id",
         "vision_soft_tokens_per_image"), ANY,
    ),
}  # fmt: skip


def text_config(config: dict, file: Path) -> dict:
    """The config.json of the text transformer in a folder's; that of any other model unchanged.

    Raises:
        UserError: for a text transformer of another kind.
    """
    if config.get("model_type") != MODEL_TYPE:
        return config
    warn_unknown(config, KEYS, file)
    own = read_keys(config, KEYS, file)["text_config"]
    return _of_kind(own, TEXT_TYPE, f"{file}: text_config")


def _of_kind(config: dict, kind: str, place: str) -> dict:
    found = config.get("model_type", kind)
    if found != kind:
        raise UserError(f"{place}: model_type: expected {kind!r}, got {shown(found)}")
    return config | {"model_type": kind}


def reads_pictures(folder: Path) -> bool:
    """Whether a folder holds such a model with an image encoder."""
    file = folder / "config.json"
    config = read_json(file) if file.is_file() else {}
    return config.get("model_type") == MODEL_TYPE and bool(config.get("vision_config"))


def with_pictures(text: Tower, folder: Path, *, weights: bool = True) -> Tower:
    """The tower of a folder's texts and pictures.

    Args:
        text: the tower of its texts.
        folder: of config.json and the weights.
        weights: whether to read weights.

    Raises:
        UserError: for a missing or broken file, or weights that do not fit the config.
    """
    config, file = read_json(folder / "config.json"), folder / "config.json"
    values = read_keys(config, KEYS, file)
    place = f"{file}: vision_config"
    own = _of_kind(values["vision_config"], VISION_TYPE, place)
    picture = text.processor.tokenizer().token(values["image_token_id"])
    check_template(folder, {"type": "image"}, picture or "")
    warn_unknown(own, gemma4.VISION.table, place)
    spec = TowerSpec(_vision_spec(own, place), normalize=False)
    params, kept, pool = None, {}, None
    if weights:
        params, kept, kernel = _weights(folder, spec, text.spec.encoder.stack.width)
        pool = {_KERNEL: kernel}
    processor = _processor(folder)
    around = _around(text, values, folder)
    image = Tower(spec, params, processor, Origin(folder, own))
    made = language.joined(text, image, processor.cells, "linear", around=around, given=pool)
    origin = dataclasses.replace(
        made.origin,
        folder=text.origin.folder,
        config=config,
        kept=kept,
        manifest=text.origin.manifest,
        settings=text.origin.settings,
    )
    return dataclasses.replace(made, origin=origin)


def _weights(folder: Path, spec: TowerSpec, width: int) -> tuple[dict, dict, np.ndarray]:
    """(parameters of the image encoder, tensors of the audio encoder, the pool's kernel)."""
    files, layers = TensorFiles(folder), spec.encoder.stack.layers
    if layers > len(files):  # found here in no time; building so many may take hours
        raise UserError(
            f"{folder}: vision_config: num_hidden_layers: {layers} layers, and the weights hold "
            f"only {len(files)} tensors"
        )
    tensors = {name.removeprefix("model."): files[name] for name in files if _is_other(name)}
    seen = {name: v for name, v in tensors.items() if name.startswith(gemma4.VISION_START)}
    flat = {name: _flat(name, np.asarray(value)) for name, value in seen.items()}
    params, _ = params_from_tensors(flat, gemma4.VISION, spec, folder)
    kept = {name: value for name, value in tensors.items() if name.startswith(_AUDIO)}
    if left := sorted(set(tensors) - set(seen) - set(kept) - {_PROJECTION}):
        raise UserError(f"{folder}: tensors left over: {', '.join(left[:5])}")
    if _PROJECTION not in tensors:
        raise UserError(f"{folder}: tensor {_PROJECTION} is missing")
    tensor, value = Tensor(_PROJECTION, transposed=True), np.asarray(tensors[_PROJECTION])
    shape = (spec.encoder.width, width)
    return params, kept, parameter(value, tensor, shape, f"{folder}: tensor {_PROJECTION}")


def _around(text: Tower, config: dict, folder: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids before and after the visual tokens; transformers asks the tokenizer for them."""
    tokenizer = text.processor.tokenizer()
    before, after = tokenizer.around
    edges = []
    for role in ("boi", "eoi"):
        found, token = config[f"{role}_token_id"], _named(folder, f"{role}_token")
        if token is not None:
            found = tokenizer.token_id(token)
        if found is None:
            raise UserError(
                f"{folder / TOKENIZER}: {role}_token: {shown(token)} is not a token of "
                "tokenizer.json"
            )
        edges.append(found)
    return (*before, edges[0]), (edges[1], *after)


def _named(folder: Path, name: str) -> str | None:
    """A token by the name that tokenizer_config.json gives it; None where it gives none."""
    options = read_json(folder / TOKENIZER, default={})
    places = [options] + [
        part
        for key in ("model_specific_special_tokens", "extra_special_tokens")
        if isinstance(part := options.get(key), dict)
    ]
    found = next((place[name] for place in places if place.get(name) is not None), None)
    found = found.get("content") if isinstance(found, dict) else found
    if found is not None and not isinstance(found, str):
        raise UserError(f"{folder / TOKENIZER}: {name}: expected a text, got {shown(found)}")
    return found


def _is_other(name: str) -> bool:
    """Whether a tensor is not one of the text transformer."""
    return name.removeprefix("model.").startswith(gemma4.OTHERS)


def _vision_spec(config: dict, place: str) -> VisionSpec:
    try:
        return gemma4.VISION.text_spec(config, place)
    except ValueError as error:
        raise UserError(f"{place}: {error}") from None


def _flat(name: str, value: np.ndarray) -> np.ndarray:
    """A tensor with the axes of its parameter: columns, then rows."""
    if name.endswith(_TABLE) and value.ndim == 3:
        return value.reshape(-1, value.shape[-1])
    return value


def _processor(folder: Path) -> CellProcessor:
    """The processor of pictures, from the file that transformers prefers."""
    file = folder / PROCESSOR
    whole_file = read_json(file, default={})
    read_keys(whole_file, {"processor_class": only("EmbeddingGemma2Processor")}, file)
    content, place = whole_file.get("image_processor"), f"{file}: image_processor"
    if content is None:
        file = folder / PREPROCESSOR
        if not file.exists():
            raise UserError(f"{file}: no such file; it says how pictures are read")
        content, place = read_json(file), str(file)
    if not isinstance(content, dict):
        raise UserError(f"{place}: expected an object, got {shown(content)}")
    processor = processor_of(content, place)
    if not isinstance(processor, CellProcessor):
        raise UserError(f"{place}: image_processor_type: expected Gemma4ImageProcessor")
    return processor


def is_published(tower: Tower) -> bool:
    """Whether a tower has the shape that its config.json gives, so that others can read it."""
    config, encoder = tower.origin.config, tower.spec.encoder
    if config.get("model_type") != MODEL_TYPE or encoder.pool != "linear":
        return False
    text, image = language.parts_of(tower)
    try:
        said = _vision_spec(image.origin.config, "vision_config")
        texts = gemma4.TEXT.text_spec(text.origin.config)
        values = read_keys(config, KEYS, "config.json")
        around = _around(text, values, tower.origin.folder or Path())
    except UserError:
        return False
    return (texts, said, *around) == (encoder.text, encoder.image, encoder.before, encoder.after)


def config_of(tower: Tower, text: dict, dtype: str) -> dict:
    """config.json.

    Args:
        tower: what is saved.
        text: the config.json of its text transformer.
        dtype: of the weights.
    """
    inner = {name: value for name, value in text.items() if name != "torch_dtype"}
    own = tower.origin.config
    config = {name: value for name, value in own.items() if name not in ("dtype", "torch_dtype")}
    parts = {"text_config": inner, "vision_config": tower.origin.parts["image"].config}
    if "matryoshka_dimensions" in inner:  # servers look for it outside
        config["matryoshka_dimensions"] = inner.pop("matryoshka_dimensions")
    return config | parts | {"dtype": dtype}


def tensors_of(tower: Tower, dtype: str) -> dict[str, np.ndarray]:
    """The tensors by the names and in the shapes that transformers has."""
    text, image = language.parts_of(tower)
    kind = np.dtype(dtype)
    tensors = {name: np.asarray(value).astype(kind) for name, value in tower.origin.kept.items()}
    own = tensors_from_params(text.params, text.origin.kept, gemma4.TEXT, text.spec, kind)
    tensors |= {f"{gemma4.TEXT_START}{name}": value for name, value in own.items()}
    own = tensors_from_params(image.params, {}, gemma4.VISION, image.spec, kind)
    own[_TABLE] = own[_TABLE].reshape(2, -1, image.spec.encoder.width)
    tensors |= {f"{gemma4.VISION_START}{name}": value for name, value in own.items()}
    kernel = np.asarray(tower.params[_KERNEL], np.float32).T
    return tensors | {_PROJECTION: np.ascontiguousarray(kernel.astype(kind))}


def save_settings(tower: Tower, folder: Path) -> dict:
    """Writes the files of pictures, and those of the base model that only other libraries read.

    Returns:
        What sentence_bert_config.json says of the kinds of values.
    """
    base, processor = tower.origin.folder, tower.processor.image
    processor.save(folder)
    kinds = ["text", "image"]
    if base is not None and (base / PROCESSOR).is_file():
        content = read_json(base / PROCESSOR) | {"image_processor": processor.config()}
        write_json(folder / PROCESSOR, content)
        kinds += ["audio", "video"] if tower.origin.kept else ["video"]
    modalities = dict.fromkeys(kinds, TEXT_ONLY["text"])
    if base is not None and (base / TEMPLATE).is_file() and reads_messages(base):
        shutil.copy(base / TEMPLATE, folder / TEMPLATE)
        modalities["message"] = TEXT_ONLY["text"] | {"format": "structured"}
    return {
        "transformer_task": "feature-extraction",
        "modality_config": modalities,
        "module_output_name": "token_embeddings",
    }
