"""Teachers that run beside the student: their tokens travel in the batch, the step embeds them."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import Mesh

from gemb.models.execution import Execution
from gemb.parallel.placement import place_params
from gemb.parallel.rules import shardings
from gemb.structs import SIDES, Batch
from gemb.training.distillation.model import TeacherModel, load_teachers
from gemb.training.distillation.teacher import EmbeddingTeacher
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
    """Embedding models that run in the training step, sharded like the student, without gradient.

    Losses get "teacher_query" [batch, dim] and "teacher_document" [candidates, dim]; of several
    teachers the vectors are concatenated, see `gemb.losses.concatenate_teachers`. Each teacher
    reads the texts through its own tokenizer, behind its own prompts. Where a form of the data
    changes ids, as span corruption does, that is the student's text alone.

    Args:
        models: folders, names of fetched models, or loaded models.
        weights: of several models, how much each counts; all 1 if empty.
        query_length: tokens that queries are cut and padded to; 0 for each teacher's own limit.
        document_length: tokens that documents are cut and padded to; likewise.
        microbatches: parts of a batch that the teacher embeds one after the other.
        execution: how to compute the teachers.

    Raises:
        UserError: for a model that cannot be read, the same one twice, or weights that are not one
            above zero a model.
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
        """Tokens of each teacher, under names that no loss reads."""
        made = {}
        for number, model in enumerate(self.models):
            for side, texts in zip(SIDES, (queries, documents), strict=True):
                made[_name(number, side)] = model.inputs(side, texts)
        self.report_cuts()
        return made

    def params(self, mesh: Mesh, abstract: bool = False) -> list[dict]:
        """Of each teacher, placed by the rules that place the student's."""
        return [placed(model, mesh, abstract) for model in self.models]

    def compute(self, params: list[dict], batch: Batch) -> dict[str, jax.Array]:
        """Embeds the tokens; no gradient goes back."""
        fields, micro = (
            dict(batch.fields),
            functools.partial(embed, microbatches=self._microbatches),
        )
        for side in SIDES:
            parts = [
                model.vectors(params[number], side, fields.pop(_name(number, side)), micro)
                for number, model in enumerate(self.models)
            ]
            fields[f"teacher_{side}"] = jax.lax.stop_gradient(self.concatenated(parts))
        return fields


def placed(model: TeacherModel, mesh: Mesh, abstract: bool) -> dict:
    """A teacher's parameters, placed by the rules of the student's; or only their shapes."""
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
