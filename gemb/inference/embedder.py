"""`gemb.Embedder`: the Python door. Loads a model folder, encodes texts at any nested width."""

import functools
from collections.abc import Sequence

import numpy as np

from gemb.checks import UserError
from gemb.identity import fingerprint
from gemb.inference.compilation import use_compilation_cache
from gemb.inference.encode import encode_ids, place, program
from gemb.models.execution import Execution
from gemb.models.functional import functional, rounded_kernels
from gemb.pretrained.folder import Pretrained
from gemb.pretrained.pair import SIDES, Pair, load_any
from gemb.tokenizers.tokenizer import Tokenizer

KINDS = SIDES


class Embedder:
    """A model ready to encode.

    Args:
        pretrained: one model or two towers, as `gemb.pretrained.pair.load_any` returns.
        execution: how to compute the model.
        devices: that share the work, see `gemb.inference.encode.place`.

    Attributes:
        pretrained, execution: the same.

    Example:
        >>> embedder = Embedder.load("runs/quickstart/model")  # doctest: +SKIP
        >>> embedder.encode(["sort a list by key"], dim=96).shape  # doctest: +SKIP
        (1, 96)
    """

    def __init__(
        self,
        pretrained: Pretrained | Pair,
        execution: Execution = Execution(),
        devices: Sequence | None = None,
    ):
        self.pretrained, self.execution = pretrained, execution
        towers = {kind: getattr(pretrained, kind, pretrained) for kind in KINDS}
        self._specs = {kind: tower.spec for kind, tower in towers.items()}
        self.spec = self._specs["document"]
        self._tokenizers = {
            kind: Tokenizer(tower.tokenizer_json, tower.spec.max_length, tower.spec.prompt(kind))
            for kind, tower in towers.items()
        }

        def placed(tower: Pretrained):
            """A model's program, and its weights on the devices."""
            params = rounded_kernels(tower.params, execution)
            return program(functional(tower.spec).apply, execution), place(params, devices)

        query, document = towers["query"], towers["document"]
        self._programs = {"document": placed(document)}
        self._programs["query"] = self._programs["document"] if query is document else placed(query)

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
        return cls(load_any(str(model), max_length=max_length), execution)

    @property
    def dim(self) -> int:
        """Size of the full embedding."""
        return self.spec.dim

    @property
    def widths(self) -> tuple[int, ...]:
        """Nested widths that the model was trained for, widest first."""
        return self.spec.widths

    @functools.cached_property
    def fingerprint(self) -> str:
        """The identity of this model's vectors."""
        return model_fingerprint(self.pretrained)

    def check_dim(self, dim: int) -> int:
        """Returns `dim` if it is one of the nested widths.

        Raises:
            UserError: naming the widths that the model has.
        """
        if dim not in {*self.widths, self.dim}:
            raise UserError(
                f"dim: the model has no nested width {dim}; choose one of {list(self.widths)}"
            )
        return dim

    def encode(
        self,
        texts: Sequence[str] | str,
        *,
        dim: int | None = None,
        kind: str = "document",
        progress: str = "",
    ) -> np.ndarray:
        """Encodes texts.

        Args:
            texts: a list of strings; a single string gives a single vector.
            dim: keep this many leading coordinates, and renormalise. One of `widths`.
            kind: "query" or "document": which prompt to put in front.
            progress: label of a progress bar; '' for none.

        Returns:
            [len(texts), dim] float32, or [dim] for a single string.

        Raises:
            UserError: if dim is not one of the nested widths, or an item is not a string.
            ValueError: if kind is unknown.
        """
        dim = self.check_dim(self.dim if dim is None else dim)
        if kind not in KINDS:
            raise ValueError(f"kind: expected one of {KINDS}, got {kind!r}")
        batch = [texts] if isinstance(texts, str) else list(texts)
        tokenizer, spec = self._tokenizers[kind], self._specs[kind]
        apply, params = self._programs[kind]
        vectors = encode_ids(
            apply,
            params,
            tokenizer.encode(batch),
            max_length=spec.max_length,
            dim=self.dim,
            unpooled=0 if spec.pool_prompt else tokenizer.prompt_length,
            progress=progress,
        )
        if dim < self.dim:
            vectors = vectors[:, :dim]
            if spec.normalize:  # a text of which a static model knows nothing stays zero
                lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
                vectors = vectors / np.maximum(lengths, 1e-12)
        return vectors[0] if isinstance(texts, str) else vectors


def model_fingerprint(pretrained: Pretrained | Pair) -> str:
    """The fingerprint of a model as read: see gemb.identity."""
    if isinstance(pretrained, Pair):
        sides = {side: model_fingerprint(getattr(pretrained, side)) for side in KINDS}
        return fingerprint({}, "", **sides)
    spec = pretrained.spec
    return fingerprint(
        pretrained.params,
        pretrained.tokenizer_json,
        text=repr(spec.text),
        pooling=spec.pooling,
        pool_prompt=spec.pool_prompt,
        dense=repr(spec.dense),
        normalize=spec.normalize,
        max_length=spec.max_length,
        query_prompt=spec.query_prompt,
        document_prompt=spec.document_prompt,
    )
