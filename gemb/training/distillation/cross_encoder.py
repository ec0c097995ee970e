"""A cross-encoder's scores of each query with its positive and its own hard negatives."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from gemb.checks import UserError
from gemb.files import cache_dir
from gemb.inference.cross_encoder import CrossEncoder, cross_encoder_fingerprint
from gemb.losses.candidates import negatives_of
from gemb.models.spec import ModelSpec
from gemb.pretrained.fetch import model_folder
from gemb.structs import Batch
from gemb.training.distillation.cache import RowCache
from gemb.training.distillation.cached_models import teach_command
from gemb.training.distillation.lesson import Lesson
from gemb.training.distillation.model import text_keys
from gemb.training.distillation.teacher import ROWS, Teacher, check_loss

_OWN = "teacher_own_scores"


def scored(
    model: str, *, max_length: int = 256, scale: float = 1.0, folder: str = ""
) -> "ScoreTeacher":
    """A cross-encoder, from a cache that `gemb teach` has filled.

    Losses get "teacher_scores" [batch, candidates]: the scores of each query's positive and own
    hard negatives, 0 for all others. So bind `own_only = True` where a loss looks at others too
    (`score_kl`, `score_mse`); `margin_mse` does not. `gemb teach` needs torch and transformers.

    Args:
        model: a folder or a fetched model's name, of a sequence classifier with one output.
        max_length: tokens that query and document together are cut to.
        scale: what the raw scores are multiplied by. A ms-marco model's span about 20, cosines 2,
            so `margin_mse` wants 0.1, and `score_kl` a `teacher_temperature`.
        folder: the cache's folder; default one in gemb's cache folder.

    Raises:
        UserError: for a model that cannot be found.
    """
    return ScoreTeacher(model, max_length, scale, folder)


class ScoreTeacher(Teacher):
    """See `scored`."""

    def __init__(self, model: str, max_length: int, scale: float, folder: str):
        self._name, self._max_length, self._scale = model, max_length, scale
        self._folder = folder
        self._cache, self._command = None, ""

    @functools.cached_property
    def fingerprint(self) -> str:
        """Fingerprint of weights, tokenizer, config and length limit."""
        return cross_encoder_fingerprint(model_folder(self._name), self._max_length)

    @property
    def folder(self) -> Path:
        """The folder of the cache."""
        if self._folder:
            return Path(self._folder).expanduser()
        name = model_folder(self._name).name
        return cache_dir() / "teachers" / f"{name}-{self.fingerprint[:12]}"

    @property
    def identity(self) -> str:
        """The fingerprint and the scale as text."""
        return f"{self.fingerprint} {self._scale}"

    def check(self, spec: ModelSpec, loss: Callable) -> None:
        """Whether the loss reads scores."""
        scores = jax.ShapeDtypeStruct((ROWS, ROWS), jnp.float32)
        check_loss(loss, spec.dim, {"teacher_scores": scores})

    def join(self, spec, loss: Callable, batches, mesh: Mesh, workdir: Path | None) -> Any:
        """As for any teacher; the data must have hard negatives."""
        if not any(part.rows.negatives for part in batches.parts):
            raise UserError(
                "teacher: without hard negatives a query has only one candidate to rank; bind "
                " forms.Pairs.negatives, or pipeline.pairs.negatives"
            )
        return super().join(spec, loss, batches, mesh, workdir)

    def open(self, workdir: Path | None) -> None:
        """Opens the cache; an empty one is an error."""
        self._command = teach_command(workdir)
        self._cache = RowCache(self.folder, self.fingerprint, 1)
        if not len(self._cache):
            raise UserError(
                f"{self.folder}: there are no scores of the current {self._name}; run "
                f"{self._command}"
            )

    def fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """[rows, 1 + negatives] float32: the score of the positive, then of the row's negatives."""
        own = own_documents(queries, documents)
        pairs = [(q, d) for q, row in zip(queries, own, strict=True) for d in row]
        real = np.array([bool(document) for _, document in pairs])
        known = [pair for pair in pairs if pair[1]]
        scores = np.zeros(len(pairs), np.float32)
        try:
            scores[real] = self._cache.rows(_keys(known))[:, 0] * self._scale
        except KeyError as error:
            query, document = known[error.args[0]]
            raise UserError(
                f"{self.folder}: {self._name} has not scored the query {query[:30]!r} with "
                f"{document[:30]!r}; run {self._command}"
            ) from None
        return {_OWN: scores.reshape(len(queries), -1)}

    def example_fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """Zeros."""
        return {_OWN: np.zeros((len(queries), len(documents) // len(queries)), np.float32)}

    def compute(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """Puts each row's scores at the positions of its documents."""
        fields = dict(batch.fields)
        own = fields.pop(_OWN)
        candidates = batch.document_mask.shape[0]
        columns = batch.positive[:, None]
        if candidates > own.shape[0]:
            columns = jnp.concatenate([columns, negatives_of(batch.positive, candidates)], axis=1)
        scores = jnp.zeros((own.shape[0], candidates), own.dtype)
        rows = jnp.arange(own.shape[0])[:, None]
        return fields | {"teacher_scores": scores.at[rows, columns].set(own)}

    def folders(self) -> list[Path]:
        """The folder of the cache."""
        return [self.folder]

    def lessons(self) -> list[Lesson]:
        """The work of `gemb teach`."""

        def questions(queries, documents):
            own = own_documents(queries, documents)
            pairs = [(q, d) for q, row in zip(queries, own, strict=True) for d in row if d]
            return _keys(pairs), pairs

        encoder = CrossEncoder(self._name, batch=32, max_length=self._max_length)

        def answer(pairs):
            return encoder.scores(pairs)[:, None]

        return [Lesson(RowCache(self.folder, self.fingerprint, 1), questions, answer)]


def own_documents(queries: Sequence[str], documents: Sequence[str]) -> list[list[str]]:
    """Selects each query's positive and its own negatives from a batch's documents.

    Example:
        >>> own_documents(["a", "b"], ["a+", "b+", "a-", "b-"])
        [['a+', 'a-'], ['b+', 'b-']]
    """
    rows = len(queries)
    count = len(documents) // rows - 1
    return [
        [documents[row], *documents[rows + row * count : rows + (row + 1) * count]]
        for row in range(rows)
    ]


def _keys(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    return text_keys([f"{len(query)} {query}{document}" for query, document in pairs])
