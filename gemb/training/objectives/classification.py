"""Trains class heads over nested widths with the encoder (MRL and MRL-E)."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from gemb.checks import UserError, check
from gemb.models.functional import initial_params
from gemb.models.model import Model
from gemb.models.spec import DenseSpec, ModelSpec
from gemb.structs import Batch
from gemb.training.objectives.objective import Encoding, Objective, Outputs, side_key

HEAD = "classes"  # the name of a head; MRL has one for each width, "classes_384" and so on


class Classification(Objective):
    """See `classification`."""

    def __init__(self, widths: tuple[int, ...]):
        self._widths = widths

    def trained(self, model, teacher) -> str:
        """Trains all parameters; the model must have class heads.

        Raises:
            UserError: if the model has no class heads.
        """
        del teacher
        heads = dict(model.document.spec.heads)
        for name in self._names():
            if not model.shared or name not in heads:
                raise UserError(
                    "objective: classification needs a model of one tower with class heads, such "
                    "as objectives.with_classes makes"
                )
        return ""

    def outputs(
        self, encoding: Encoding, params: dict, batch: Batch, key: jax.Array | None
    ) -> Outputs:
        """The pooled vectors, the rows of the classifiers, and the labels."""
        encoding.check_whole("the objective classification embeds whole batches; it must be 1")
        given = batch.fields or {}
        check("labels" in given, "labels: the data has none; use the form forms.Labelled")
        pooled = encoding.model.document.pooled(
            params, batch.query, encoding.execution, side_key(key, 0)
        )
        kernels = [params[f"heads/{name}/layers/0/kernel"].T for name in self._names()]
        fields = {"query_mask": batch.query_mask}
        if self._widths:
            widths = zip(kernels, self._widths, strict=True)
            fields["classifiers"] = [kernel[:, :width] for kernel, width in widths]
        return Outputs(pooled.astype(jnp.float32), kernels[0], given["labels"], fields)

    def watch(self, outputs: Outputs, batch: Batch) -> dict[str, jax.Array]:
        """Logs the accuracy at full width."""
        scores = outputs.query @ outputs.document.T
        right = (jnp.argmax(scores, axis=1) == outputs.positive) & batch.query_mask
        return {"accuracy": right.sum() / jnp.maximum(batch.query_mask.sum(), 1)}

    def _names(self) -> list[str]:
        return [f"{HEAD}_{width}" for width in self._widths] or [HEAD]


def classification(widths: Sequence[int] = ()) -> Objective:
    """Classifies texts by heads that are trained with the encoder; for `nested_classification`.

    The data's form is `forms.Labelled`, the model comes from `with_classes`.

    Args:
        widths: one classifier for each of these nested widths (MRL); empty for a single one whose
            leading coordinates serve every width (MRL-E).

    Reference: Kusupati et al., Matryoshka Representation Learning, 2022, arXiv 2205.13147.
    """
    return Classification(tuple(widths))


def with_classes(model: Model, classes: int, *, widths: Sequence[int] = (), seed: int = 0) -> Model:
    """A model with random class heads over its pooled vector.

    Args:
        model: of one tower.
        classes: how many.
        widths: as in `classification`.
        seed: of the heads' weights.

    Raises:
        UserError: for a model with two towers.
    """
    if not model.shared:
        raise UserError("model: class heads are for models of one tower")
    tower = model.document
    layer = DenseSpec(tower.spec.encoder.width, classes, bias=False)
    names = [f"{HEAD}_{width}" for width in widths] or [HEAD]
    heads = tuple((name, (layer,)) for name in names)
    spec = dataclasses.replace(tower.spec, heads=(*tower.spec.heads, *heads))
    params = tower.params
    if params is not None:
        drawn = jax.jit(lambda key: initial_params(ModelSpec.of(spec), key))(jax.random.key(seed))
        starts = tuple(f"heads/{name}/" for name in names)
        own = {path: value for path, value in drawn.items() if path.startswith(starts)}
        params = params | jax.device_get(own)
    return model.with_tower(dataclasses.replace(tower, spec=spec, params=params))
