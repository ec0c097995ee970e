"""What frozen towers say of texts, pictures and videos, computed once: for heads alone."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from gemb.checks import UserError
from gemb.data.preprocess.texts import texts_of
from gemb.data.sources.records import digest, kept
from gemb.identity import fingerprint, tower_fingerprint
from gemb.inference.encode import encode_examples, outputs, place, program
from gemb.models.encoders.video import VideoSpec
from gemb.models.encoders.vision_language import counted_parts
from gemb.models.functional import functional
from gemb.models.model import Model
from gemb.models.spec import ModelSpec, TowerSpec
from gemb.pretrained.convolution import CLASSIFIER, read_classes
from gemb.pretrained.vision.language import parts_of
from gemb.structs import Image, Video
from gemb.training.distillation.conse import class_vectors, conse
from gemb.training.distillation.teacher import Teacher
from gemb.training.objectives.frozen import FEATURES, FRAMES, FrozenTowers

_CHUNKS = {"image": 256, "video": 32}  # values decoded at a time


def frozen(*, caption_weight: float = 1.0, class_weight: float = 0.0) -> "FrozenTeacher":
    """The vectors of a frozen text tower, and of a frozen image encoder before its head.

    They are computed once for each value and kept in the cache folder. As the teacher's vector of
    a picture, losses get unit(caption_weight caption + class_weight classes): the vector of its
    caption, and the ConSE vector of what the image encoder's own classifier sees, which needs no
    caption. Used with the objective `frozen_towers`, which is this teacher's default.

    Args:
        caption_weight: of the caption's vector.
        class_weight: of the classes; above 0 the pictures' folder must hold a classifier.

    Raises:
        UserError: for weights that are not 0 or above. An experiment raises it for a model that
            does not have towers of texts and of pictures or videos.
    """
    return FrozenTeacher(caption_weight, class_weight)


class FrozenTeacher(Teacher):
    """See `frozen`."""

    normalizes = True

    def __init__(self, caption_weight: float, class_weight: float):
        if min(caption_weight, class_weight) < 0 or caption_weight + class_weight <= 0:
            raise UserError(
                f"caption_weight, class_weight: expected 0 or above and not both 0, got "
                f"{caption_weight} and {class_weight}"
            )
        self._weights = (caption_weight, class_weight)
        self._classes: list[dict] = []
        self.objective = FrozenTowers()
        self._rows: dict[bytes, int] = {}
        self._features = self._targets = np.zeros((0, 0), np.float32)
        self._frames: np.ndarray | None = None
        self._texts: dict[str, np.ndarray] = {}

    def attach(self, model: Model) -> None:
        """Takes the towers of the experiment's model: texts are queries, the others documents.

        Of a model that reads both through one transformer, these are its two parts.

        Raises:
            UserError: for a model that is not of this kind, or one whose folder lacks classes.
        """
        if model.document.params is None or model.query.params is None:
            raise UserError("teacher: frozen needs a model with weights")
        joined = model.document.spec.encoder.modality == "vision_language"
        if joined:
            self._text, self._image = parts_of(model.document)
            if model.document.spec.encoder.pool != "attention":
                raise UserError("teacher: frozen needs the pool 'attention'; others learn nothing")
            if getattr(self._image.spec.encoder, "flexible", False):
                raise UserError("teacher: frozen needs an image encoder of pictures of one size")
        else:
            self._text, self._image = model.query, model.document
        kinds = self._text.processor.modality, self._image.processor.modality
        videos = kinds == ("text", "video") and not joined
        if not (kinds == ("text", "image") or videos) or model.shared != joined:
            raise UserError(
                "teacher: frozen needs two towers, texts as queries and pictures or videos as "
                "documents, or one that reads texts and pictures"
            )
        if not joined and not self._image.spec.dense:
            raise UserError("teacher: frozen needs a projection behind the image encoder")
        self.model, self.dim = model, model.spec.dim
        if self._weights[1]:
            origin = self._image.origin
            if f"{CLASSIFIER}kernel" not in origin.kept or origin.folder is None:
                raise UserError("class_weight: the image encoder's folder holds no classifier")
            self._classes = read_classes(origin.folder)

    @property
    def backbone(self) -> str:
        """The fingerprint of the image encoder alone."""
        tower, spec = self._image, self._frozen_spec
        start = f"{spec.encoder.modality}/"
        params = {path: value for path, value in self._params.items() if path.startswith(start)}
        definition, settings = tower.processor.identity()
        return fingerprint(params, definition, encoder=repr(spec.encoder), **settings)

    @property
    def _frozen_spec(self) -> TowerSpec:
        """The image tower without what looks at frames together."""
        spec = self._image.spec
        if isinstance(spec.encoder, VideoSpec):
            return dataclasses.replace(spec, encoder=dataclasses.replace(spec.encoder, time=None))
        return spec

    @property
    def _params(self) -> dict:
        """The parameters that `_frozen_spec` has."""
        shapes = functional(ModelSpec.of(self._frozen_spec)).shapes
        return {path: self._image.params[path] for path in shapes}

    @property
    def identity(self) -> str:
        """Both towers, and the weights of the targets."""
        return f"frozen {tower_fingerprint(self._text)} {self.backbone} {self._weights}"

    def join(self, spec: ModelSpec, loss: Callable, batches, mesh: Mesh, workdir: Path) -> Any:
        """Computes what is not in the cache, then as every teacher."""
        self.check(spec, loss)
        self._collect(batches)
        batches.annotate_with(self.fields, self.identity)
        return self.params(mesh)

    def fields(self, queries: Sequence[Any], documents: Sequence[Any]) -> dict[str, Any]:
        """Vectors of captions and pictures, and the features of pictures."""
        rows = [self._rows[value.content()] for value in documents]
        query = np.stack([self._texts[text] for text in queries])
        caption, classes = self._weights
        target = caption * query
        if classes:
            target = target + classes * self._targets[rows]
        target /= np.linalg.norm(target, axis=1, keepdims=True)
        return {
            "teacher_query": query,
            "teacher_document": target,
            FEATURES: self._features[rows],
            **({} if self._frames is None else {FRAMES: self._frames[rows]}),
        }

    def example_fields(self, queries: Sequence[Any], documents: Sequence[Any]) -> dict[str, Any]:
        """Ones of the same shapes."""
        sizes = {
            "teacher_query": (len(queries), self.dim),
            "teacher_document": (len(documents), self.dim),
            FEATURES: (len(documents), *self._shape),
        }
        made = {name: np.ones(shape, np.float32) for name, shape in sizes.items()}
        if self._kind == "video":
            made[FRAMES] = np.ones((len(documents), self._shape[0]), bool)
        return made

    def _collect(self, batches) -> None:
        images: dict[bytes, tuple[Any, int, str]] = {}
        captions: dict[str, None] = {}
        for part in batches.parts:
            column = next(name for name in part.task.form.columns if name in _CHUNKS)
            for row in range(len(part.selection)):
                record = part.selection[row]
                captions |= dict.fromkeys(texts_of(record, "captions"))
                images.setdefault(record[column].content(), (part.selection, row, column))
        self._rows = {key: row for row, key in enumerate(images)}
        name = digest(self.backbone, *self._part_names, *(key.hex() for key in images))
        self._features, notes = kept("features", name, lambda: self._encode(images))
        if self._kind == "video":
            self._frames = np.arange(self._shape[0]) < np.array(notes["frames"])[:, None]
        vectors = self._encode_texts(list(captions))
        self._texts = dict(zip(captions, vectors, strict=True))
        if self._classes:
            tensors, pooled = self._image.origin.kept, self._features
            pooled = pooled.mean(1) if pooled.ndim == 3 else pooled
            logits = pooled @ tensors[f"{CLASSIFIER}kernel"] + tensors[f"{CLASSIFIER}bias"]
            self._targets = conse(logits, class_vectors(self._classes, self._encode_texts))

    def _encode(self, images: dict[bytes, tuple[Any, int, str]]) -> tuple[np.ndarray, dict]:
        """[images, ...] features, and how many frames each video has.

        They are read and decoded a part at a time.
        """
        processor, shape = self._image.processor, self._shape
        functions = functional(ModelSpec.of(self._frozen_spec)).document
        run = program(functions.pooled if len(shape) == 1 else functions.hidden)
        params = place(self._params)
        made, frames = np.empty((len(images), *shape), np.float32), []
        places, chunk = list(images.values()), _CHUNKS[self._kind]
        starts = range(0, len(places), chunk)
        for start in tqdm(starts, "features of pictures", unit="part", file=sys.stderr):
            chosen = places[start : start + chunk]
            values: list[Image | Video] = [records[row][column] for records, row, column in chosen]
            examples = processor.prepare(values, "document")
            for rows, output in outputs(run, params, examples, processor):
                made[start + rows] = output[:, self._counted] if self.model.shared else output
            frames += (
                [len(example.content) for example in examples] if self._kind == "video" else []
            )
        return made, {"frames": frames}

    @property
    def _kind(self) -> str:
        return self._image.processor.modality

    @property
    def _shape(self) -> tuple[int, ...]:
        """(width,) of a picture's pooled features, (parts or frames, width) of others."""
        encoder = self._image.spec.encoder
        if self.model.shared:
            return int(self._counted.sum()), encoder.width
        if isinstance(encoder, VideoSpec):
            return encoder.frames, encoder.width
        return (encoder.width,)

    @functools.cached_property
    def _counted(self) -> np.ndarray:
        """[positions] bool: which of the image encoder's vectors are parts of a picture."""
        processor = self._image.processor
        empty = processor.collate([None], processor.limit)
        real = empty._replace(mask=np.ones_like(empty.mask))
        return counted_parts(self._image.spec.encoder, real)[0]

    @property
    def _part_names(self) -> tuple[str, ...]:
        """Of features of parts, a word of the cache's name; pooled ones have none."""
        return ("parts",) if self.model.shared else ()

    def _encode_texts(self, texts: list[str]) -> np.ndarray:
        tower = self._text
        run = program(functional(ModelSpec.of(tower.spec)).query.embed)
        examples = tower.processor.prepare(texts, "query")
        params = place(tower.params)
        return encode_examples(
            run, params, examples, tower.processor, dim=self.dim, progress="captions"
        )
