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
from gemb.inference.encode import encode_examples, place, program
from gemb.models.encoders.video import VideoSpec
from gemb.models.functional import functional
from gemb.models.model import Model
from gemb.models.spec import ModelSpec, TowerSpec
from gemb.pretrained.convolution import CLASSIFIER, read_classes
from gemb.structs import Image, Video
from gemb.training.distillation.conse import class_vectors, conse
from gemb.training.distillation.teacher import Teacher
from gemb.training.objectives.frozen import FEATURES, FRAMES, FrozenTowers

_CHUNKS = {"image": 256, "video": 32}  # values decoded at a time


def frozen(*, caption_weight: float = 1.0, class_weight: float = 0.0) -> "FrozenTeacher":
    """The vectors of a frozen text tower, and of a frozen image encoder before its head.

    Of a video they are the vectors of its frames, before these look at each other. They are
    computed once for each value and kept in the cache folder. As the teacher's vector of a picture,
    losses get unit(caption_weight caption + class_weight classes): the vector of its caption, and
    the ConSE vector of what the image encoder's own classifier sees, which needs no caption. Used
    with the objective `frozen_towers`, which is this teacher's default.

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

        Raises:
            UserError: for a model that is not of this kind, or one whose folder lacks classes.
        """
        if model.shared or model.document.params is None or model.query.params is None:
            raise UserError("teacher: frozen needs a model of two towers with weights")
        kinds = (model.query.processor.modality, model.document.processor.modality)
        if kinds not in (("text", "image"), ("text", "video")):
            raise UserError(
                "teacher: frozen needs texts as queries, and pictures or videos as documents"
            )
        if not model.document.spec.dense:
            raise UserError("teacher: frozen needs a projection behind the image encoder")
        self.model, self.dim = model, model.spec.dim
        if self._weights[1]:
            kept_tensors = model.document.origin.kept
            if f"{CLASSIFIER}kernel" not in kept_tensors or model.document.origin.folder is None:
                raise UserError("class_weight: the image encoder's folder holds no classifier")
            self._classes = read_classes(model.document.origin.folder)

    @property
    def backbone(self) -> str:
        """The fingerprint of the image encoder alone."""
        tower, spec = self.model.document, self._frozen_spec
        shapes, start = functional(ModelSpec.of(spec)).shapes, f"{spec.encoder.modality}/"
        params = {path: tower.params[path] for path in shapes if path.startswith(start)}
        definition, settings = tower.processor.identity()
        return fingerprint(params, definition, encoder=repr(spec.encoder), **settings)

    @property
    def _frozen_spec(self) -> TowerSpec:
        """The documents' tower without what looks at frames together."""
        spec = self.model.document.spec
        if isinstance(spec.encoder, VideoSpec):
            return dataclasses.replace(spec, encoder=dataclasses.replace(spec.encoder, time=None))
        return spec

    @property
    def identity(self) -> str:
        """Both towers, and the weights of the targets."""
        return f"frozen {tower_fingerprint(self.model.query)} {self.backbone} {self._weights}"

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
        encoder = self.model.document.spec.encoder
        frames = (encoder.frames,) if isinstance(encoder, VideoSpec) else ()
        sizes = {
            "teacher_query": (len(queries), self.dim),
            "teacher_document": (len(documents), self.dim),
            FEATURES: (len(documents), *frames, encoder.width),
        }
        made = {name: np.ones(shape, np.float32) for name, shape in sizes.items()}
        return made | ({FRAMES: np.ones((len(documents), *frames), bool)} if frames else {})

    def _collect(self, batches) -> None:
        kind = self.model.document.processor.modality
        images: dict[bytes, tuple[Any, int, str]] = {}
        captions: dict[str, None] = {}
        for part in batches.parts:
            column = next(name for name in part.task.form.columns if name in _CHUNKS)
            for row in range(len(part.selection)):
                record = part.selection[row]
                captions |= dict.fromkeys(texts_of(record, "captions"))
                images.setdefault(record[column].content(), (part.selection, row, column))
        self._rows = {key: row for row, key in enumerate(images)}
        name = digest(self.backbone, *(key.hex() for key in images))
        self._features, notes = kept("features", name, lambda: self._encode(images))
        if kind == "video":
            encoder = self.model.document.spec.encoder
            self._frames = np.arange(encoder.frames) < np.array(notes["frames"])[:, None]
            self._features = self._features.reshape(-1, encoder.frames, encoder.width)
        vectors = self._encode_texts(list(captions))
        self._texts = dict(zip(captions, vectors, strict=True))
        if self._classes:
            tensors = self.model.document.origin.kept
            logits = self._features @ tensors[f"{CLASSIFIER}kernel"] + tensors[f"{CLASSIFIER}bias"]
            self._targets = conse(logits, class_vectors(self._classes, self._encode_texts))

    def _encode(self, images: dict[bytes, tuple[Any, int, str]]) -> tuple[np.ndarray, dict]:
        """[images, width] features, of videos [videos, frames width] and how many frames each has.

        They are read and decoded a part at a time.
        """
        tower, spec = self.model.document, self._frozen_spec
        kind, functions = tower.processor.modality, functional(ModelSpec.of(spec)).document
        run = program(functions.pooled if kind == "image" else _joined(functions.hidden))
        params = place({path: tower.params[path] for path in functional(ModelSpec.of(spec)).shapes})
        width = spec.encoder.width * (1 if kind == "image" else spec.encoder.frames)
        made, frames = np.empty((len(images), width), np.float32), []
        places, chunk = list(images.values()), _CHUNKS[kind]
        starts = range(0, len(places), chunk)
        for start in tqdm(starts, "features of pictures", unit="part", file=sys.stderr):
            chosen = places[start : start + chunk]
            values: list[Image | Video] = [records[row][column] for records, row, column in chosen]
            examples = tower.processor.prepare(values, "document")
            made[start : start + len(chosen)] = encode_examples(
                run, params, examples, tower.processor, dim=width
            )
            frames += [len(example.content) for example in examples] if kind == "video" else []
        return made, {"frames": frames}

    def _encode_texts(self, texts: list[str]) -> np.ndarray:
        tower = self.model.query
        run = program(functional(ModelSpec.of(tower.spec)).query.embed)
        examples = tower.processor.prepare(texts, "query")
        params = place(tower.params)
        return encode_examples(
            run, params, examples, tower.processor, dim=self.dim, progress="captions"
        )


@functools.cache
def _joined(hidden: Callable) -> Callable:
    """The encoder's output with all positions of a row in one: [rows, positions width]."""

    def apply(params, inputs, execution):
        made = hidden(params, inputs, execution)
        return made.reshape(made.shape[0], -1)

    return apply
