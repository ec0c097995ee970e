"""Models that read texts and pictures through one transformer: made of two, saved, loaded.

config.json                 "model_type": "gemb_vision_language", the projection pool
model.safetensors           its weights
text/                       the text model, which sentence-transformers loads
image/                      the image encoder
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from gemb.checks import UserError
from gemb.files import save_tensors
from gemb.identity import tower_fingerprint
from gemb.models.encoders.vision_language import POOLS, VisionLanguageSpec
from gemb.models.functional import functional, initial_params
from gemb.models.model import Model, Origin, Tower
from gemb.models.spec import ModelSpec, TowerSpec
from gemb.pretrained.keys import Rule, one_of, read_json, read_keys, whole
from gemb.pretrained.modules import WEIGHTS
from gemb.pretrained.weights import TensorFiles
from gemb.processors.vision_language import VisionLanguageProcessor

MODEL_TYPE = "gemb_vision_language"
PARTS = ("text", "image")
_IDS = Rule(
    "a list of ids",
    lambda value: isinstance(value, list) and all(type(i) is int and i >= 0 for i in value),
)
_KEYS = {"tokens": whole(), "pool": one_of(*POOLS), "before": _IDS, "after": _IDS}
_POOL = "vision_language/pool/"


def vision_language(
    text: Model, image: Model, *, tokens: int = 16, pool: str = "attention", seed: int = 0
) -> Model:
    """A model whose pictures go through the transformer of its texts.

    Texts keep their vectors to the bit until that transformer is trained; to train pictures alone,
    freeze it: `optimizers.adamw.frozen = 'vision_language/text/|^dense/|^pooler/'`.

    Args:
        text: the model whose queries are texts: its text encoder, pooler and projection are taken.
        image: the model whose documents are pictures: its image encoder is taken.
        tokens: visual tokens of a picture.
        pool: "attention", learned; "adaptive", without parameters; or "linear", a visual token
            for each vector of the image encoder, at most `tokens`.
        seed: of the pool's weights.

    Raises:
        UserError: for models of other kinds, or more tokens than the text model has positions.
    """
    if text.query.processor.modality != "text":
        raise UserError("text: expected a model whose queries are texts")
    if image.document.processor.modality != "image":
        raise UserError("image: expected a model whose documents are pictures")
    if text.query.processor.fill is not None:
        raise UserError("text: an encoder of texts that reads its padding (SigLIP) cannot do this")
    return Model.of(joined(text.query, image.document, tokens, pool, seed=seed))


def is_vision_language(folder: Path) -> bool:
    """Whether a folder holds such a model."""
    config = folder / "config.json"
    return config.is_file() and read_json(config).get("model_type") == MODEL_TYPE


def read_tower(folder: Path, read: Callable[[Path], Tower], *, weights: bool = True) -> Tower:
    """Reads what `save_tower` wrote.

    Args:
        folder: the model's.
        read: reads the tower of a part's folder.
        weights: whether to read weights.

    Raises:
        UserError: for a missing or broken file, or weights that do not fit the config.
    """
    file = folder / "config.json"
    config = read_json(file)
    values = read_keys(config, _KEYS, file)
    text, image = (read(folder / part) for part in PARTS)
    own = TensorFiles(folder) if weights else {}
    given = {path: np.asarray(own[path], np.float32) for path in own}
    around = text.processor.tokenizer().around
    around = values.get("before", around[0]), values.get("after", around[1])
    made = joined(text, image, values["tokens"], values["pool"], around=around, given=given)
    expected = {p for p in functional(ModelSpec.of(made.spec)).shapes if p.startswith(_POOL)}
    if weights and set(given) != expected:
        names = ", ".join(sorted(set(given) ^ expected)[:5])
        raise UserError(f"{folder}: tensors missing or left over: {names}")
    for path, value in given.items():
        shape = functional(ModelSpec.of(made.spec)).shapes[path].shape
        if value.shape != shape or not np.isfinite(value).all():
            raise UserError(f"{folder}: tensor {path}: expected finite {shape}, got {value.shape}")
    manifest = read_json(folder / "gemb.json", default={})
    return dataclasses.replace(
        made, origin=dataclasses.replace(made.origin, folder=folder, manifest=manifest)
    )


def save_tower(
    tower: Tower, folder: Path, save: Callable[[Tower, Path], object], training: dict
) -> str:
    """Writes a tower into an existing folder.

    Args:
        tower: what to write.
        folder: where.
        save: writes the tower of a part into its folder.
        training: a summary of how it was made, kept in gemb.json.

    Returns:
        Its fingerprint.
    """
    for part, own in zip(PARTS, parts_of(tower), strict=True):
        (folder / part).mkdir()
        save(own, folder / part)
    spec, identity = tower.spec, tower_fingerprint(tower)
    config = {name: getattr(spec.encoder, name) for name in _KEYS}
    manifest = {"fingerprint": identity, "dim": spec.dim, "widths": spec.widths}
    for name, content in {
        "config.json": {"model_type": MODEL_TYPE} | config,
        "gemb.json": manifest | {"training": training},
    }.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    pool = {path: value for path, value in tower.params.items() if path.startswith(_POOL)}
    tensors = {path: np.asarray(value, np.float32) for path, value in pool.items()}
    save_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    return identity


def parts_of(tower: Tower) -> tuple[Tower, Tower]:
    """The text model and the image encoder in a tower, as towers of their own."""
    spec, params = tower.spec, tower.params
    origins = {part: tower.origin.parts.get(part, Origin()) for part in PARTS}
    text = dataclasses.replace(spec, encoder=spec.encoder.text)
    image = TowerSpec(spec.encoder.image, normalize=False)
    own: list[dict | None] = [None, None]
    if params is not None:
        start = "vision_language/"
        own = [
            {
                path.removeprefix(start): value
                for path, value in params.items()
                if path.startswith(f"{start}{part}/") or (part == "text" and start not in path)
            }
            for part in PARTS
        ]
    return (
        Tower(text, own[0], tower.processor.text, origins["text"]),
        Tower(image, own[1], tower.processor.image, origins["image"]),
    )


def joined(
    text: Tower,
    image: Tower,
    tokens: int,
    pool: str,
    *,
    around: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
    given: dict | None = None,
    seed: int = 0,
) -> Tower:
    """One tower of two.

    Args:
        text, image: the towers of texts and of pictures.
        tokens, pool: as of `VisionLanguageSpec`.
        around: ids before and after the visual tokens; default those around every text.
        given: the pool's parameters; None draws them.
        seed: of those drawn.

    Raises:
        UserError: for parts that do not fit.
    """
    before, after = text.processor.tokenizer().around if around is None else around
    try:
        encoder = VisionLanguageSpec(
            text.spec.encoder, image.spec.encoder, tokens, pool, tuple(before), tuple(after)
        )
        spec = dataclasses.replace(text.spec, encoder=encoder)
        processor = VisionLanguageProcessor(text.processor, image.processor)
        origin = Origin(parts={"text": text.origin, "image": image.origin})
        params = None
        if text.params is not None and image.params is not None:
            params = {
                path if path.startswith(("dense/", "heads/", "pooler/")) else _within(path): value
                for path, value in text.params.items()
            }
            pictures = {p: v for p, v in image.params.items() if p.startswith("image/")}
            params |= {_within(path): value for path, value in pictures.items()}
            params |= _drawn(spec, seed) if given is None else given
        return Tower(spec, params, processor, origin)
    except ValueError as error:
        raise UserError(str(error)) from None


def _within(path: str) -> str:
    return f"vision_language/{path}"


def _drawn(spec: TowerSpec, seed: int) -> dict[str, np.ndarray]:
    """Random parameters of the pool."""
    whole_spec = ModelSpec.of(spec)
    paths = [path for path in functional(whole_spec).shapes if path.startswith(_POOL)]
    draw = jax.jit(lambda key: {path: initial_params(whole_spec, key)[path] for path in paths})
    return {path: np.asarray(value) for path, value in draw(jax.random.key(seed)).items()}
