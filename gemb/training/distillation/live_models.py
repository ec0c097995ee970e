"""Teachers that run in the student's step: the batch holds their inputs, the step embeds them."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from gemb.checks import UserError
from gemb.models.execution import Execution
from gemb.models.model import Model
from gemb.models.spec import ModelSpec
from gemb.parallel.placement import place_params
from gemb.parallel.rules import shardings
from gemb.structs import SIDES, Batch
from gemb.training.distillation.model import TeacherModel, load_teachers
from gemb.training.distillation.teacher import EmbeddingTeacher, check_loss
from gemb.training.objectives.objective import embed


def live(
    models: Sequence,
    *,
    weights: Sequence[float] = (),
    query_length: int = 0,
    document_length: int = 0,
    microbatches: int = 1,
    execution: Execution = Execution(),
) -> "LiveTeacher":
    """Embedding models that run in the training step, sharded like the student, without gradients.

    Losses get "teacher_query" [batch, dim] and "teacher_document" [candidates, dim]; for several
    teachers the vectors are concatenated, see `gemb.losses.concatenate_teachers`. Each teacher
    reads the texts with its own tokenizer and prompts. If the data's form changes ids, as span
    corruption does, only the student's ids are changed.

    Args:
        models: folders, names of fetched models, or loaded models.
        weights: for several models, how much each counts; all 1 if empty.
        query_length: tokens that queries are cut and padded to; 0 for each teacher's own limit.
        document_length: tokens that documents are cut and padded to; likewise.
        microbatches: parts of a batch that the teacher embeds one after the other.
        execution: how to compute the teachers.

    Raises:
        UserError: for a model that cannot be read, a repeated model, or weights that are not one
            number above 0 per model.
    """
    teachers = load_teachers(models, query_length, document_length, execution)
    return LiveTeacher(teachers, weights, microbatches)


class LiveTeacher(EmbeddingTeacher):
    """See `live`."""

    def __init__(
        self,
        models: Sequence[TeacherModel],
        weights: Sequence[float] = (),
        microbatches: int = 1,
    ):
        super().__init__(models, weights)
        self._microbatches = microbatches

    def fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """The tokens of each teacher, under names that no loss reads."""
        made = {}
        for number, model in enumerate(self.models):
            for side, texts in zip(SIDES, (queries, documents), strict=True):
                made[_name(number, side)] = model.inputs(side, texts)
        self.report_cuts()
        return made

    def params(self, mesh: Mesh, abstract: bool = False) -> list[dict]:
        """The parameters of each teacher, sharded by the student's rules."""
        return [placed(model, mesh, abstract) for model in self.models]

    def compute(self, params: list[dict], batch: Batch) -> dict[str, jax.Array]:
        """Embeds the tokens, without gradient."""
        fields, micro = (
            dict(batch.fields),
            functools.partial(embed, microbatches=self._microbatches),
        )
        for side in SIDES:
            parts = [
                model.vectors(params[number], side, fields.pop(_name(number, side)), micro)
                for number, model in enumerate(self.models)
            ]
            fields[f"{self.role}_{side}"] = jax.lax.stop_gradient(self.concatenated(parts))
        return fields


def guide(
    model: str | Model,
    *,
    query_length: int = 0,
    document_length: int = 0,
    microbatches: int = 1,
    execution: Execution = Execution(),
) -> "GuideTeacher":
    """A model whose scores find false negatives for `losses.gist`.

    It runs in the training step, sharded like the student, without gradient. Losses get
    "guide_query" and "guide_document".

    Args:
        model: a folder, a fetched model's name, or a loaded model, with vectors of unit length.
        query_length: tokens that queries are cut and padded to; 0 for the guide's own limit.
        document_length: tokens that documents are cut and padded to; likewise.
        microbatches: parts of a batch that the guide embeds one after the other.
        execution: how to compute the guide.

    Raises:
        UserError: for a model that cannot be read.

    Reference: Solatorio, GISTEmbed, 2024, arXiv 2402.16829.
    """
    models = load_teachers([model], query_length, document_length, execution)
    return GuideTeacher(models, (), microbatches)


class GuideTeacher(LiveTeacher):
    """See `guide`."""

    role = "guide"

    def check(self, spec: ModelSpec, loss: Callable) -> None:
        """Checks that the guide's scores are cosines and that the loss reads them.

        Raises:
            UserError: if the guide's vectors are not of unit length, or the loss reads none.
        """
        if not self.normalizes:
            raise UserError(
                f"teacher: the vectors of the guide {self.models[0].name} are not of unit length"
            )
        check_loss(loss, spec.dim, self.taught())


def placed(model: TeacherModel, mesh: Mesh, abstract: bool) -> dict:
    """A teacher's parameters, sharded by the student's rules; or only their shapes."""
    functional = model.functional
    places = shardings(functional.logical_axes, functional.shapes, mesh)
    if not abstract:
        return place_params(model.params, places)
    return {
        path: jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=places[path])
        for path, shape in functional.shapes.items()
    }


def _name(number: int, side: str) -> str:
    return f"teacher_{number}_{side}_inputs"
