"""One embedding teacher: its weights, tokenizers and limits, and the identity of its vectors."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from gemb.checks import UserError
from gemb.inference.embedder import model_fingerprint
from gemb.inference.encode import encode_ids, place, program
from gemb.models.execution import Execution
from gemb.models.functional import functional, initial_params, rounded_kernels
from gemb.models.spec import ModelSpec, PairSpec
from gemb.pretrained.folder import Pretrained
from gemb.pretrained.pair import SIDES, Pair, load_any
from gemb.tokenizers.tokenizer import Tokenizer


class TeacherModel:
    """An embedding model that teaches.

    Args:
        model: a folder, a fetched model's name, or a loaded model.
        query_length: tokens that its queries are cut to; 0 for the model's own limit.
        document_length: tokens that its documents are cut to; likewise.
        execution: how to compute it.

    Attributes:
        name: for messages.
        lengths: {"query", "document"}: tokens that texts are cut to.
        face: the model's functions, see `gemb.models.functional.functional`.
        params: {path: array}.
        rounding: of its arithmetic, '' for none.
        seen, cut: texts so far, and those that were longer than the model reads.
        told: whether the user has been told of those.

    Raises:
        UserError: for a model that cannot be read, or a length beyond its positions.
    """

    def __init__(
        self,
        model: str | Pretrained | Pair,
        query_length: int = 0,
        document_length: int = 0,
        execution: Execution = Execution(),
    ):
        loaded = load_any(str(model)) if isinstance(model, str | Path) else model
        if loaded.params is None:  # a model from scratch: random weights, always the same
            draw = jax.jit(functools.partial(initial_params, loaded.spec))
            params = jax.device_get(draw(jax.random.key(0)))
            loaded = dataclasses.replace(loaded, params=params)
        self.name = str(model) if isinstance(model, str | Path) else str(loaded.folder or "scratch")
        self._pretrained, self._execution = loaded, execution
        self.rounding = f" {execution.rounding}" if execution.rounding else ""
        self.face, self.params = functional(loaded.spec), loaded.params
        self.lengths, self._specs, self._tokenizers, self._longer = {}, {}, {}, {}
        for side, length in zip(SIDES, (query_length, document_length), strict=True):
            tower = getattr(loaded, side, loaded)
            spec = self._specs[side] = tower.spec
            most, length = spec.text.max_length, length or spec.max_length
            if most and length > most:
                raise UserError(
                    f"{side}_length: {length} exceeds the {most} positions of the teacher "
                    f"{self.name}"
                )
            self.lengths[side] = length
            prompt = spec.prompt(side)
            self._tokenizers[side] = Tokenizer(tower.tokenizer_json, length, prompt)
            self._longer[side] = Tokenizer(tower.tokenizer_json, length + 1, prompt)
        self.seen, self.cut, self.told = 0, 0, False

    @functools.cached_property
    def fingerprint(self) -> str:
        """The identity of the model's vectors."""
        return model_fingerprint(self._pretrained)

    @property
    def spec(self) -> ModelSpec | PairSpec:
        """What the model is, without its numbers."""
        return self._pretrained.spec

    @property
    def dim(self) -> int:
        """Size of a vector."""
        return self.spec.dim

    @property
    def normalizes(self) -> bool:
        """Whether its vectors are of unit length."""
        return all(spec.normalize for spec in self._specs.values())

    def unpooled(self, side: str) -> int:
        """Leading tokens that the pooler does not see."""
        return 0 if self._specs[side].pool_prompt else self._tokenizers[side].prompt_length

    def ids(self, side: str, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts behind the teacher's own prompt; counts how many it cuts."""
        ids = self._tokenizers[side].encode(texts)
        full = [
            text for text, row in zip(texts, ids, strict=True) if len(row) == self.lengths[side]
        ]
        self.cut += sum(len(row) > self.lengths[side] for row in self._longer[side].encode(full))
        self.seen += sum(map(bool, texts))
        return ids

    def keys(self, side: str, texts: Sequence[str]) -> np.ndarray:
        """[texts] uint64, equal where the teacher's input, tower and precision are.

        Two of a million texts share a key with a probability of 3e-8.
        """
        prompt = self._specs[side].prompt(side)
        tower = "" if isinstance(self._pretrained, Pretrained) or self._pretrained.shared else side
        start = f"{tower}{self.lengths[side]}{self.rounding} {len(prompt)} {prompt}".encode()
        return text_keys(texts, start)

    def encode(self, side: str, texts: Sequence[str], progress: str = "") -> np.ndarray:
        """[texts, dim] float32: the teacher's vectors."""
        programs, params = self._placed
        return encode_ids(
            programs[side],
            params,
            self.ids(side, texts),
            max_length=self.lengths[side],
            dim=self.dim,
            unpooled=self.unpooled(side),
            progress=progress,
        )

    def vectors(self, params: dict, side: str, tokens, embed: Callable) -> jax.Array:
        """[rows, dim] inside a compiled step, a microbatch at a time.

        Args:
            params: {path: array}, placed.
            side: "query" or "document".
            tokens: Tokens of [rows, length].
            embed: (apply, tokens) -> [rows, dim], which cuts the rows into microbatches.
        """
        apply = self.face.query if side == "query" else self.face.apply
        return embed(lambda part, key: apply(params, part, self._execution, None), tokens)

    def every_layer(self, params: dict, tokens) -> tuple[jax.Array, jax.Array]:
        """Likewise the vectors, and the token vectors of each layer, of one tower."""
        return self.face.every_layer(params, tokens, self._execution)

    @functools.cached_property
    def _placed(self) -> tuple[dict[str, Callable], dict]:
        """A program for each side, and the weights on the device."""
        sides = zip(SIDES, (self.face.query, self.face.apply), strict=True)
        programs = {side: program(apply, self._execution) for side, apply in sides}
        return programs, place(rounded_kernels(self.params, self._execution))


def text_keys(texts: Sequence[str], start: bytes = b"") -> np.ndarray:
    """[texts] uint64: a hash of each text and of what stands before it.

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
    """The teachers of a run, no two the same.

    Raises:
        UserError: if there is none, or two have one fingerprint.
    """
    if isinstance(models, str) or not len(models):
        raise UserError(f"models: expected a list of one or more teachers, got {models!r}")
    teachers = [TeacherModel(m, query_length, document_length, execution) for m in models]
    seen = {}
    for teacher in teachers if len(teachers) > 1 else ():
        other = seen.setdefault(teacher.fingerprint, teacher)
        if other is not teacher:
            raise UserError(
                f"models: {teacher.name} and {other.name} are one model (fingerprint "
                f"{teacher.fingerprint}); name it once"
            )
    return teachers
