"""Models of videos, made of models of pictures."""

import dataclasses

import jax
import numpy as np

from gemb.checks import UserError
from gemb.models.encoders.convolution import ConvolutionSpec
from gemb.models.encoders.video import VideoSpec
from gemb.models.functional import functional, initial_params
from gemb.models.model import Model, Tower
from gemb.models.spec import ModelSpec, StackSpec
from gemb.processors.video import VideoProcessor


def of_pictures(
    model: Model,
    *,
    frames: int = 8,
    side: int = 0,
    layers: int = 0,
    heads: int = 8,
    mlp: int = 0,
    pooling: str = "mean",
    seed: int = 0,
) -> Model:
    """A model whose documents are videos, from one whose documents are pictures.

    Each frame goes through the image encoder; then the pooler makes one vector of all frames, and
    the projection of pictures follows. Without layers, with the mean as pooler, this has no new
    weights: a picture has the vector that it had, and a video that of the mean of its frames.

    Args:
        model: a model of pictures, or of texts and pictures.
        frames: of a video.
        side: height and width of frames, for a convolutional encoder; 0 for those of pictures.
        layers: of a transformer over the frames, which sees their order; 0 for none.
        heads: its attention heads.
        mlp: the inner size of its feed-forward part; 0 for the width.
        pooling: how the vectors of the frames become one, one of POOLINGS.
        seed: of new weights.

    Raises:
        UserError: for a model without pictures as documents, or settings that do not fit it.
    """
    tower = model.document
    if tower.processor.modality != "image":
        kind = tower.processor.modality
        raise UserError(f"model: expected one whose documents are pictures, got {kind!r}")
    tower = _with_side(tower, side) if side else tower
    width = tower.spec.encoder.width
    try:
        stack = StackSpec(
            layers, width, heads, mlp or width, norm_place="pre", norm_epsilon=1e-6, final_norm=True
        )
        encoder = VideoSpec(
            tower.spec.encoder, tower.spec.pooling, frames, stack if layers else None
        )
        spec = dataclasses.replace(tower.spec, encoder=encoder, pooling=pooling)
        processor = VideoProcessor(tower.processor, frames)
        params = None if tower.params is None else _with_frames(tower.params, spec, seed)
        made = Tower(spec, params, processor, dataclasses.replace(tower.origin, kept={}))
    except ValueError as error:
        raise UserError(str(error)) from None
    query = made if model.shared else model.query
    return dataclasses.replace(model, query=query, document=made)


def _with_side(tower: Tower, side: int) -> Tower:
    """A tower with a convolutional encoder, for square pictures of another size."""
    if not isinstance(tower.spec.encoder, ConvolutionSpec):
        raise UserError("side: only a convolutional encoder reads pictures of any size")
    encoder = dataclasses.replace(tower.spec.encoder, size=(side, side))
    processor = dataclasses.replace(tower.processor, height=side, width=side, shortest=0)
    spec = dataclasses.replace(tower.spec, encoder=encoder)
    return dataclasses.replace(tower, spec=spec, processor=processor)


def _with_frames(params: dict, spec, seed: int) -> dict:
    """Parameters of an image tower by the paths of a tower of videos; the rest is new."""
    moved = {}
    for path, value in params.items():
        if path.startswith("image/"):
            moved[f"video/frame/{path.removeprefix('image/')}"] = value
        else:
            moved[f"video/{path}" if path.startswith("pooler/") else path] = value
    whole = ModelSpec.of(spec)
    missing = [path for path in functional(whole).shapes if path not in moved]
    if not missing:
        return moved
    draw = jax.jit(lambda key: {path: initial_params(whole, key)[path] for path in missing})
    return moved | {path: np.asarray(value) for path, value in draw(jax.random.key(seed)).items()}
