"""A teacher for every layer: compares the student's token vectors with the teacher's."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from gemb.checks import UserError
from gemb.models.execution import Execution
from gemb.models.model import Model
from gemb.models.spec import ModelSpec
from gemb.structs import SIDES, Batch
from gemb.training.distillation.live_models import placed
from gemb.training.distillation.model import TeacherModel
from gemb.training.distillation.teacher import ROWS, EmbeddingTeacher
from gemb.training.objectives.layerwise import STATES, Layerwise


def layerwise(
    model: str | Model,
    *,
    layers: Sequence[int] = (),
    execution: Execution = Execution(),
) -> "LayerwiseTeacher":
    """A deeper model with the student's width, which teaches each of the student's layers.

    The token vectors of all layers carry far more information than the embedding: a
    student made of some of its teacher's layers (`adapt.load.layers`) recovers from few texts.
    The teacher runs in the training step, sharded like the student, without gradient, and reads the
    student's own tokens, prompts included. Losses get "teacher_query" and "teacher_document", the
    teacher's embeddings, and what `gemb.losses.layerwise_distance` reads.

    Args:
        model: a folder, a fetched model's name, or a loaded model, with the student's tokenizer.
        layers: for each of the student's layers, the teacher's layer (counted from 1) whose token
            vectors it should match, for example (2, 4, 6); empty for evenly spaced layers.
        execution: how to compute the teacher.

    Raises:
        UserError: for a model that cannot be read, or one of two towers.

    Reference: Sun et al., "Patient Knowledge Distillation for BERT Model Compression", 2019,
        arXiv 1908.09355; Jiao et al., "TinyBERT", 2020, arXiv 1909.10351.
    """
    return LayerwiseTeacher(TeacherModel(model, execution=execution), layers)


class LayerwiseTeacher(EmbeddingTeacher):
    """See `layerwise`."""

    objective = Layerwise()

    def __init__(self, model: TeacherModel, layers: Sequence[int]):
        super().__init__([model])
        self._layers = tuple(layers)
        if not model.spec.shared:
            raise UserError(
                f"teacher: {model.name} has two towers; layerwise teaching needs one shared tower"
            )

    @property
    def identity(self) -> str:
        """Identity of the model and of the layers that teach."""
        return f"{super().identity} layers {self._layers}"

    def fields(self, queries: Sequence[str], documents: Sequence[str]) -> dict[str, Any]:
        """No fields: the teacher reads the student's tokens."""
        return {}

    def params(self, mesh: Mesh, abstract: bool = False) -> dict:
        """The parameters, sharded by the student's rules."""
        return placed(self.models[0], mesh, abstract)

    def compute(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        """Embeddings and the token vectors of the teaching layers, without gradient."""
        fields, goals = dict(batch.fields or {}), {}
        for side in SIDES:
            vectors, states = self.models[0].every_layer(params, getattr(batch, side))
            fields[f"teacher_{side}"] = vectors
            # slices instead of a gather, so that the compiler keeps no other layer
            goals[side] = jnp.stack([states[i - 1] for i in self._layers])
        fields[STATES] = goals
        return jax.lax.stop_gradient(fields)

    def check(self, spec: ModelSpec, loss: Callable) -> None:
        """Checks that the student's layers and vectors can be compared with the teacher's.

        Raises:
            UserError: if the student has two towers, another width or vocabulary than the teacher,
                or another number of layers than teach it; or as of any teacher.
        """
        teacher, name = self.models[0].spec, self.models[0].name
        if not spec.shared:
            raise UserError(
                "teacher: the student has two towers; layerwise teaching needs one shared tower"
            )
        student, teacher = spec.encoder, teacher.encoder
        for what, own, its in (
            ("tokens", student.vocab, teacher.vocab),
            ("width", student.width, teacher.width),
        ):
            if own != its:
                raise UserError(f"teacher: {name} has {what} {its}, but the student has {own}")
        count, most = student.stack.layers, teacher.stack.layers
        self._layers = self._layers or tuple(
            -(-most * number // count) for number in range(1, count + 1)
        )
        if len(self._layers) != count or not all(1 <= layer <= most for layer in self._layers):
            raise UserError(
                f"teacher: layers: expected one of {name}'s {most}, counted from 1, for each of "
                f"the student's {count}, got {self._layers}"
            )
        super().check(spec, loss)

    def taught(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Example fields for the loss: the teacher's vectors and the distance of the layers."""
        rows = jax.ShapeDtypeStruct((ROWS,), jnp.float32)
        return super().taught() | {"query_layerwise": rows, "document_layerwise": rows}
