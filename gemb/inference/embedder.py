"""`gemb.Embedder`: loads a model folder and encodes at any nested width."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.files import local_folder
from gemb.identity import model_fingerprint
from gemb.inference.compilation import use_compilation_cache
from gemb.inference.encode import encode_examples, place, program
from gemb.metrics.similarity import similarities
from gemb.models.execution import Execution
from gemb.models.functional import functional, kernels_for_encoding
from gemb.models.model import Model, Tower
from gemb.models.spec import ModelSpec
from gemb.pretrained import saving
from gemb.pretrained.adapt import load
from gemb.pretrained.folder import MANIFEST
from gemb.processors.processor import Example, Processor
from gemb.structs import SIDES, Image, Video

# what reads a kind of value: a picture is also a video of one frame
_MODALITIES = ((str, ("text",)), (Image, ("image", "video")), (Video, ("video",)))
_AT_ONCE = 512  # pictures decoded before they are encoded


class Embedder:
    """A model that is ready to encode.

    Args:
        model: from `gemb.pretrained.adapt.load`.
        execution: execution settings.
        devices: the devices that share the work, see `gemb.inference.encode.place`.

    Attributes:
        model, execution: as given.

    Example:
        >>> embedder = Embedder.load("runs/quickstart/model")  # doctest: +SKIP
        >>> embedder.encode(["sort a list by key"], dim=96).shape  # doctest: +SKIP
        (1, 96)
    """

    def __init__(
        self,
        model: Model,
        execution: Execution = Execution(),
        devices: Sequence | None = None,
    ):
        self.model, self.execution = model, execution

        def placed(tower: Tower):
            """The compiled function of a tower, and its weights on the devices."""
            params = kernels_for_encoding(tower.params, execution)
            apply = functional(ModelSpec.of(tower.spec)).document.embed
            return program(apply, execution), place(params, devices)

        made = {start: placed(tower) for start, tower in model.towers.items()}
        self._programs = {side: made.get(f"{side}/", made.get("")) for side in SIDES}

    @classmethod
    def load(
        cls, model: str, max_length: int | None = None, execution: Execution = Execution()
    ) -> "Embedder":
        """Loads a folder that gemb or sentence-transformers wrote, or a fetched model by name.

        Args:
            model: path or name.
            max_length: cut texts to this many tokens instead of to the folder's limit.
            execution: how to compute the model, e.g. Execution(dtype="bfloat16") on a GPU.

        Raises:
            UserError: for a missing, broken or unsupported model.
        """
        use_compilation_cache()
        return cls(load(str(model), max_length=max_length), execution)

    @property
    def spec(self) -> ModelSpec:
        """The model's spec, without its parameters."""
        return self.model.spec

    @property
    def dim(self) -> int:
        """Coordinates of the full embedding."""
        return self.spec.dim

    @property
    def widths(self) -> tuple[int, ...]:
        """Nested widths that the model was trained for, widest first."""
        return self.spec.widths

    @property
    def similarity_name(self) -> str:
        """How the model's vectors are compared: "cosine", "dot", "euclidean" or "manhattan"."""
        return self.spec.similarity

    @property
    def normalized(self) -> bool:
        """Whether every vector has unit length."""
        return self.spec.normalize

    @functools.cached_property
    def fingerprint(self) -> str:
        """The identity of this model's vectors."""
        return model_fingerprint(self.model)

    def with_prompts(self, prompts: Mapping[str, str]) -> "Embedder":
        """The same model with other prompts, which has its own fingerprint.

        Args:
            prompts: "query" and "document", either or both.
        """
        model = self.model.with_prompts(prompts)
        unchanged = model.processors == self.model.processors
        return self if unchanged else Embedder(model, self.execution)

    def check_dim(self, dim: int) -> int:
        """Returns `dim` if it is one of the nested widths.

        Raises:
            UserError: with the widths of the model.
        """
        if dim not in {*self.widths, self.dim}:
            raise UserError(
                f"dim: the model has no nested width {dim}; choose one of {list(self.widths)}"
            )
        return dim

    def encode(
        self,
        texts: Sequence | str | Image | Video,
        *,
        dim: int | None = None,
        kind: str = "document",
        progress: str = "",
    ) -> np.ndarray:
        """Encodes texts, `gemb.Image` values, or other values that the model's processors read.

        Args:
            texts: a list of values; a single one gives a single vector.
            dim: keep this many leading coordinates and renormalise; one of `widths`.
            kind: "query" or "document": the side that encodes, with its own prompt. Where the sides
                read different kinds of values, each value goes to the side that reads it.
            progress: label of a progress bar; '' for none.

        Returns:
            [len(texts), dim] float32, or [dim] for a single value.

        Raises:
            UserError: if dim is not one of the nested widths, or an item cannot be read.
            ValueError: if kind is unknown.
        """
        dim = self.check_dim(self.dim if dim is None else dim)
        if kind not in SIDES:
            raise ValueError(f"kind: expected one of {SIDES}, got {kind!r}")
        single = isinstance(texts, str | Image | Video)
        values = [texts] if single else list(texts)
        vectors = np.empty((len(values), dim), np.float32)
        for side, rows in self._by_side(values, kind).items():
            tower, (apply, params) = getattr(self.model, side), self._programs[side]
            for own in _parts(tower.processor, values, rows):
                made = encode_examples(
                    apply,
                    params,
                    _prepared(tower.processor, values, own, side),
                    tower.processor,
                    dim=self.dim,
                    progress=progress,
                )
                vectors[own] = self.narrowed(made, dim, side)
        return vectors[0] if single else vectors

    def _by_side(self, values: list, kind: str) -> dict[str, list[int]]:
        """The rows that each side encodes: all by `kind`, unless the sides read different kinds."""
        reads = {getattr(self.model, side).processor.modality: side for side in SIDES}
        if len(reads) < 2:
            return {kind: list(range(len(values)))}
        sides: dict[str, list[int]] = {}
        for row, value in enumerate(values):
            named = next((names for kind, names in _MODALITIES if isinstance(value, kind)), ())
            modality = next((name for name in named if name in reads), None)
            if modality is None:
                raise UserError(
                    f"values[{row}]: the model reads {' and '.join(sorted(reads))}, not "
                    f"{type(value).__name__}"
                )
            sides.setdefault(reads[modality], []).append(row)
        return sides

    def narrowed(self, vectors: np.ndarray, dim: int, kind: str = "document") -> np.ndarray:
        """Full vectors at a nested width: cut, and of unit length again where the model's are."""
        if dim == self.dim:
            return vectors
        vectors = vectors[:, :dim]
        if getattr(self.model, kind).spec.normalize:
            # a text of which a static model knows nothing stays zero
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = vectors / np.maximum(lengths, 1e-12)
        return vectors

    def program(self, kind: str) -> tuple[Callable, dict]:
        """The compiled (params, Inputs) -> [rows, dim] of a side's tower, and its params."""
        return self._programs[kind]

    def params(self, kind: str) -> dict:
        """{path: array} of a side's tower, on the devices that encode."""
        return self._programs[kind][1]

    def encode_query(
        self, texts: Sequence | str | Image | Video, *, dim: int | None = None, progress: str = ""
    ) -> np.ndarray:
        """Encodes queries, see `encode`."""
        return self.encode(texts, dim=dim, kind="query", progress=progress)

    def encode_document(
        self, texts: Sequence | str | Image | Video, *, dim: int | None = None, progress: str = ""
    ) -> np.ndarray:
        """Encodes documents, see `encode`."""
        return self.encode(texts, dim=dim, kind="document", progress=progress)

    def similarity(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """The model's similarity of each row of one array with each row of another.

        Args:
            left: [m, dim], or [dim] for one vector.
            right: [n, dim], or [dim].

        Returns:
            [m, n] float32, higher is nearer; by cosine a row of zeros has 0 with everything. See
            `gemb.metrics.similarity` and `similarity_name`.

        Raises:
            ValueError: if the widths differ.
        """
        return similarities(np.atleast_2d(left), np.atleast_2d(right), self.similarity_name)

    def save(self, folder: str | Path) -> str:
        """Saves the model so that gemb and sentence-transformers load it.

        Args:
            folder: the folder to write; an existing model folder is replaced as a whole.

        Returns:
            The fingerprint of the saved model.

        Raises:
            UserError: if the folder holds something else or cannot be written.
        """
        place = local_folder("folder", folder)
        other = place.exists() and not (place / MANIFEST).exists()
        if other and (not place.is_dir() or any(place.iterdir())):
            raise UserError(f"folder: {place} is not a model folder; choose another")
        return saving.save(self.model, place)


def _parts(processor: Processor, values: list, rows: list[int]) -> Iterator[list[int]]:
    """The rows that are prepared together: all texts, or a part of what fills the memory."""
    texts = [row for row in rows if isinstance(values[row], str)]
    if texts and processor.modality in ("text", "vision_language"):
        yield texts
        rows = [row for row in rows if not isinstance(values[row], str)]
    yield from (rows[start : start + _AT_ONCE] for start in range(0, len(rows), _AT_ONCE))


def _prepared(processor: Processor, values: list, rows: list[int], side: str) -> list[Example]:
    """Some of the values, prepared; an error names a value by its place among all."""
    try:
        return processor.prepare([values[row] for row in rows], side)
    except UserError as error:
        named = re.match(r"values\[(\d+)\]", str(error))
        if named is None:
            raise
        place = rows[int(named[1])]
        raise UserError(f"values[{place}]{str(error)[named.end() :]}") from None
