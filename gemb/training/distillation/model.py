"""One embedding teacher: its weights, processors, length limits and fingerprint."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from gemb.checks import UserError
from gemb.identity import model_fingerprint
from gemb.inference.encode import encode_examples, place, program
from gemb.models.execution import Execution
from gemb.models.functional import functional, initial_params, kernels_for_encoding
from gemb.models.model import Model
from gemb.models.spec import ModelSpec
from gemb.pretrained.adapt import load
from gemb.processors.processor import Example
from gemb.structs import SIDES, Inputs, Processors


class TeacherModel:
    """An embedding model that teaches.

    Args:
        model: a folder, a fetched model's name, or a loaded model.
        query_length: tokens that queries are cut to; 0 for the model's own limit.
        document_length: tokens that documents are cut to; likewise.
        execution: how to compute it.

    Attributes:
        name: the name used in messages.
        model: the loaded model.
        lengths: {"query", "document"}: tokens that texts are cut to.
        functional: the model's functions, see `gemb.models.functional.functional`.
        params: {path: array}.
        rounding: the rounding of its arithmetic, '' for none.
        seen, cut: texts so far, and how many of them were longer than the model reads.
        warned: whether the user was warned about cut texts.

    Raises:
        UserError: for a model that cannot be read, or a length beyond its positions.
    """

    def __init__(
        self,
        model: str | Model,
        query_length: int = 0,
        document_length: int = 0,
        execution: Execution = Execution(),
    ):
        loaded = load(str(model)) if isinstance(model, str | Path) else model
        if loaded.params is None:  # a model from scratch: random weights from a fixed seed
            draw = jax.jit(functools.partial(initial_params, loaded.spec))
            loaded = loaded.with_params(jax.device_get(draw(jax.random.key(0))))
        self.name = str(model) if isinstance(model, str | Path) else str(loaded.folder or "scratch")
        self.model, self._execution = loaded, execution
        self.rounding = f" {execution.rounding}" if execution.rounding else ""
        self.functional, self.params = functional(loaded.spec), loaded.params
        self.lengths, self._processors = {}, {}
        for side, length in zip(SIDES, (query_length, document_length), strict=True):
            tower = getattr(loaded, side)
            processor = tower.processor.with_limit(length) if length else tower.processor
            try:
                processor.check_encoder(tower.spec.encoder)
            except ValueError as error:
                raise UserError(f"{side}_length: the teacher {self.name}: {error}") from None
            self.lengths[side], self._processors[side] = processor.limit, processor
        self.seen, self.cut, self.warned = 0, 0, False

    @functools.cached_property
    def fingerprint(self) -> str:
        """The identity of the model's vectors."""
        return model_fingerprint(self.model)

    @property
    def spec(self) -> ModelSpec:
        """The model's spec, without its parameters."""
        return self.model.spec

    @property
    def processors(self) -> Processors:
        """The model's processors, with the teacher's lengths."""
        return Processors(**self._processors)

    @property
    def dim(self) -> int:
        """Coordinates per vector."""
        return self.spec.dim

    @property
    def normalizes(self) -> bool:
        """Whether its vectors have unit length."""
        return self.spec.normalize

    def examples(self, side: str, values: Sequence) -> list[Example]:
        """Prepares values for the teacher, with its own prompt; counts the values that it cuts."""
        made = self._processors[side].prepare(values, side)
        self.cut += self._processors[side].count_cut(made, side)
        self.seen += sum(example.value != "" for example in made)
        return made

    def inputs(self, side: str, values: Sequence) -> Inputs:
        """Inputs of the values, padded to the teacher's length."""
        return self._processors[side].collate(self.examples(side, values), self.lengths[side])

    def keys(self, side: str, texts: Sequence[str]) -> np.ndarray:
        """[texts] uint64: equal keys mean equal input, tower and precision.

        The probability that any two of a million texts share a key is 3e-8.
        """
        prompt = self._processors[side].prompt(side)
        tower = "" if self.model.shared else side
        start = f"{tower}{self.lengths[side]}{self.rounding} {len(prompt)} {prompt}".encode()
        return text_keys(texts, start)

    def encode(self, side: str, values: Sequence, progress: str = "") -> np.ndarray:
        """[values, dim] float32: the teacher's vectors."""
        programs, params = self._placed
        return encode_examples(
            programs[side],
            params,
            self.examples(side, values),
            self._processors[side],
            dim=self.dim,
            progress=progress,
        )

    def vectors(self, params: dict, side: str, inputs: Inputs, embed: Callable) -> jax.Array:
        """[rows, dim] embeddings inside a compiled step, one microbatch at a time.

        Args:
            params: {path: array}, placed.
            side: "query" or "document".
            inputs: Inputs of `rows` rows.
            embed: (apply, inputs) -> [rows, dim], which cuts the rows into microbatches.
        """
        apply = getattr(self.functional, side).embed
        return embed(lambda part, key: apply(params, part, self._execution, None), inputs)

    def every_layer(self, params: dict, inputs: Inputs) -> tuple[jax.Array, jax.Array]:
        """The embeddings and the vectors of each layer, from the documents' tower."""
        return self.functional.document.every_layer(params, inputs, self._execution)

    @functools.cached_property
    def _placed(self) -> tuple[dict[str, Callable], dict]:
        """One compiled program per side, and the weights on the device."""
        programs = {
            side: program(getattr(self.functional, side).embed, self._execution) for side in SIDES
        }
        return programs, place(kernels_for_encoding(self.params, self._execution))


def text_keys(texts: Sequence[str], start: bytes = b"") -> np.ndarray:
    """[texts] uint64: a hash of each text together with its prefix.

    Example:
        >>> a, b, c = text_keys(["x", "x", "y"])
        >>> bool(a == b), bool(a == c)
        (True, False)
    """
    first, found = hashlib.blake2b(start, digest_size=8), bytearray()
    for text in texts:
        digest = first.copy()
        digest.update(text.encode())
        found += digest.digest()
    return np.frombuffer(bytes(found), np.uint64)


def load_teachers(
    models: Sequence, query_length: int, document_length: int, execution: Execution
) -> list[TeacherModel]:
    """Loads the teachers of a run; all must be different models.

    Raises:
        UserError: if the list is empty, or two teachers have the same fingerprint.
    """
    if isinstance(models, str) or not len(models):
        raise UserError(f"models: expected a list of one or more teachers, got {models!r}")
    teachers = [TeacherModel(m, query_length, document_length, execution) for m in models]
    seen = {}
    for teacher in teachers if len(teachers) > 1 else ():
        other = seen.setdefault(teacher.fingerprint, teacher)
        if other is not teacher:
            raise UserError(
                f"models: {teacher.name} and {other.name} are the same model (fingerprint "
                f"{teacher.fingerprint}); list it once"
            )
    return teachers
