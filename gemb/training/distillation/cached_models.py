"""Teachers whose vectors are read from a cache that `gemb teach` has filled."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gemb.checks import UserError
from gemb.files import cache_dir
from gemb.models.execution import Execution
from gemb.structs import SIDES
from gemb.training.distillation.cache import RowCache
from gemb.training.distillation.lesson import Lesson
from gemb.training.distillation.model import TeacherModel, load_teachers
from gemb.training.distillation.teacher import EmbeddingTeacher


def cached(
    models: Sequence,
    *,
    weights: Sequence[float] = (),
    query_length: int = 0,
    document_length: int = 0,
    folder: str = "",
    execution: Execution = Execution(),
) -> "CachedTeacher":
    """The vectors of `live`, rounded to float16, from a cache that `gemb teach` has filled.

    Args:
        models: folders, names of fetched models, or loaded models.
        weights: of several models, how much each counts; the cache does not depend on them.
        query_length: tokens that queries are cut to; 0 for each teacher's own limit.
        document_length: tokens that documents are cut to; likewise.
        folder: the cache's folder; default one in gemb's cache folder, whose name depends on the
            model's fingerprint, so a changed model gets an empty one.
        execution: how to compute the teachers.

    Raises:
        UserError: for a model that cannot be read, the same one twice, or weights that are not one
            above zero a model.
    """
    teachers = load_teachers(models, query_length, document_length, execution)
    return CachedTeacher(teachers, weights, folder)


class CachedTeacher(EmbeddingTeacher):
    """See `cached`."""

    rounding = " f16"

    def __init__(
        self, models: Sequence[TeacherModel], weights: Sequence[float] = (), folder: str = ""
    ):
        super().__init__(models, weights)
        self._own = not folder
        self._home = Path(folder).expanduser() if folder else cache_dir() / "teachers"
        self._caches: list[RowCache] = []
        self._command = ""

    def open(self, workdir: Path | None) -> None:
        """Opens the caches; an empty one is an error."""
        self._command = teach_command(workdir)
        self._caches = [self._cache(model) for model in self.models]
        for model, cache in zip(self.models, self._caches, strict=True):
            if not len(cache):
                raise UserError(
                    f"{cache.folder}: no vectors of the current teacher {model.name} "
                    f"(fingerprint {model.fingerprint}); run {self._command}"
                )

    def fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """The vectors; zeros for missing documents."""
        return {
            f"teacher_{side}": self.concatenated(
                [
                    self._rows(model, cache, side, texts)
                    for model, cache in zip(self.models, self._caches, strict=True)
                ]
            )
            for side, texts in zip(SIDES, (queries, documents), strict=True)
        }

    def example_fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """Zeros."""
        return {
            f"teacher_{side}": np.zeros((len(texts), self.dim), np.float32)
            for side, texts in zip(SIDES, (queries, documents), strict=True)
        }

    def folders(self) -> list[Path]:
        """The folders of the caches."""
        return [self._folder(model) for model in self.models]

    def lessons(self) -> list[Lesson]:
        """The work of `gemb teach`, one lesson per model."""
        return [self._lesson(model) for model in self.models]

    def _lesson(self, model: TeacherModel) -> Lesson:
        def questions(queries, documents):
            asked = [
                (side, text)
                for side, texts in zip(SIDES, (queries, documents), strict=True)
                for text in texts
                if text
            ]
            keys = [
                model.keys(side, [text for text in texts if text])
                for side, texts in zip(SIDES, (queries, documents), strict=True)
            ]
            return np.concatenate(keys), asked

        def answer(asked):
            rows = np.empty((len(asked), model.dim), np.float32)
            for side in SIDES:
                here = [place for place, (of, _) in enumerate(asked) if of == side]
                if here:
                    rows[here] = model.encode(side, [asked[place][1] for place in here])
            return rows

        return Lesson(self._cache(model), questions, answer)

    def _folder(self, model: TeacherModel) -> Path:
        name = re.sub(r"[^\w.-]+", "_", Path(model.name).name)
        return self._home / (f"{name}-{model.fingerprint[:12]}" if self._own else name)

    def _cache(self, model: TeacherModel) -> RowCache:
        return RowCache(self._folder(model), model.fingerprint, model.dim)

    def _rows(self, model: TeacherModel, cache: RowCache, side: str, texts: Sequence[str]):
        real = np.array([bool(text) for text in texts])
        rows = np.zeros((len(texts), model.dim), np.float32)
        known = [text for text in texts if text]
        try:
            found = cache.rows(model.keys(side, known))
        except KeyError as error:
            text = known[error.args[0]]
            raise UserError(
                f"{cache.folder}: the teacher {model.name} has no vector of the {side} "
                f"{text[:40]!r}; run {self._command}"
            ) from None
        if model.normalizes:  # float16 rounds unit lengths
            found /= np.linalg.norm(found, axis=1, keepdims=True)
        rows[real] = found
        return rows


def teach_command(workdir: Path | None) -> str:
    """The command that fills the cache for a run."""
    config = Path(workdir or ".") / "config.gin"
    if workdir is not None and config.exists():
        return f"`gemb teach --gin_file={config}`"
    return "`gemb teach` with the --gin_file and --gin_param of the run"
