"""The head alone, trained on vectors that its encoder gave once."""

import dataclasses

import numpy as np

from gemb.checks import UserError
from gemb.pretrained.folder import Pretrained
from gemb.pretrained.pair import Pair
from gemb.training.distillation.teacher import Teacher


def head_of(model: Pretrained | Pair, teacher: Teacher | None) -> str:
    """The start of the paths of a model's last linear layer, where the teacher is all before it.

    Args:
        model: the student.
        teacher: whose vectors the layer is to read.

    Raises:
        UserError: unless the model is the teacher and one linear layer without a bias behind it.
    """
    dense = () if isinstance(model, Pair) else model.spec.dense
    if not dense or dense[-1].bias or dense[-1].activation != "identity" or model.spec.heads:
        raise UserError(
            "head_only: the model does not end in one linear layer without a bias, such as "
            "students.reduced gives it"
        )
    if teacher is None or not teacher.dim or len(teacher.models) != 1:
        raise UserError("head_only: expected a teacher of vectors of one model, the one before")
    before, head = teacher.models[0], f"dense/layers/{len(dense) - 1}/"
    own = {path: value for path, value in (model.params or {}).items() if not path.startswith(head)}
    bare = dataclasses.replace(model.spec, dense=dense[:-1], widths=())
    same = (
        dataclasses.replace(before.spec, widths=()) == bare and own.keys() == before.params.keys()
    )
    if not (same and all(np.array_equal(own[path], before.params[path]) for path in own)):
        raise UserError(
            f"head_only: the teacher {before.name} is not what stands before the model's last layer"
        )
    return head
