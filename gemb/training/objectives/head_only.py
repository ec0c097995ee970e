"""Trains only the last linear layer, on vectors that its encoder computed before."""

import dataclasses

import jax
import numpy as np

from gemb.checks import UserError
from gemb.structs import Batch
from gemb.training.objectives.objective import Encoding, Objective, Outputs, batch_fields


class HeadOnly(Objective):
    """See `head_only`."""

    runs_encoder = False

    def trained(self, model, teacher) -> str:
        """The paths of the layer's parameters.

        Raises:
            UserError: unless the model is the teacher followed by one linear layer without a bias.
        """
        whole = model.shared and not model.temperature  # only the layer is trained
        dense = model.document.spec.dense if whole else ()
        heads = model.document.spec.heads
        if not dense or dense[-1].bias or dense[-1].activation != "identity" or heads:
            raise UserError(
                "objective: head_only needs a model that ends in one linear layer without a bias, "
                "such as students.reduced makes"
            )
        teaches = teacher is not None and teacher.role == "teacher" and teacher.dim
        if not teaches or len(teacher.models) != 1:
            raise UserError(
                "objective: head_only needs a teacher with the vectors of one model: the model "
                "without its last layer"
            )
        head, before = f"dense/layers/{len(dense) - 1}/", teacher.models[0]
        if not _is_model_without(model.document, head, before):
            raise UserError(
                f"objective: the teacher {before.name} does not match the model without its last "
                "layer, which head_only trains"
            )
        return head

    def outputs(
        self, encoding: Encoding, params: dict, batch: Batch, key: jax.Array | None
    ) -> Outputs:
        """The layer's outputs for the teacher's vectors."""
        del key
        encoding.check_whole("with the objective head_only no encoder runs; it must be 1")
        fields = batch_fields(batch)
        query, document = (
            functions.head(params, fields[name], encoding.execution)
            for functions, name in (
                (encoding.model.query, "teacher_query"),
                (encoding.model.document, "teacher_document"),
            )
        )
        return Outputs(query, document, batch.positive, fields)


def head_only() -> Objective:
    """Trains the last linear layer, which reads the teacher's vectors instead of its encoder's.

    The teacher must be the model without that layer. No encoder runs, so thousands of texts
    fit into a step. For a model made by `gemb.training.distillation.students.reduced`.
    """
    return HeadOnly()


def _is_model_without(tower, head: str, before) -> bool:
    """Whether the teacher is the tower without the layer whose paths start with `head`."""
    own = {path: value for path, value in (tower.params or {}).items() if not path.startswith(head)}
    bare = dataclasses.replace(tower.spec, dense=tower.spec.dense[:-1], widths=())
    return (
        before.spec.shared
        and before.model.document.processor == tower.processor
        and dataclasses.replace(before.spec.document, widths=()) == bare
        and own.keys() == before.params.keys()
        and all(np.array_equal(own[path], before.params[path]) for path in own)
    )
