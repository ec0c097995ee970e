"""Trains what follows a frozen image encoder, next to a frozen text encoder."""

import dataclasses

import jax
import jax.numpy as jnp

from gemb.checks import UserError
from gemb.structs import Batch, Clips, Visual
from gemb.training.objectives.objective import Encoding, Objective, Outputs, batch_fields

FEATURES = "document_features"
FRAMES = "document_frames"
_POOL = "vision_language/pool/"


class FrozenTowers(Objective):
    """See `frozen_towers`."""

    runs_encoder = False

    def trained(self, model, teacher) -> str | tuple[str, ...]:
        """The paths of the documents' projection, and of what looks at parts or frames together.

        Raises:
            UserError: unless the teacher is `frozen` and of the same model.
        """
        if not hasattr(teacher, "backbone"):  # else the teacher has looked at the model
            raise UserError("objective: frozen_towers needs the teacher frozen")
        parts = ("dense/", "pooler/", "video/position/", "video/time/")
        return _POOL if model.shared else tuple(f"document/{part}" for part in parts)

    def outputs(
        self, encoding: Encoding, params: dict, batch: Batch, key: jax.Array | None
    ) -> Outputs:
        """The text side's vectors, and those of pictures or videos, from their features."""
        encoding.check_whole("with the objective frozen_towers no encoder runs; it must be 1")
        fields = batch_fields(batch)
        features, rate = fields.pop(FEATURES), encoding.execution.dropout
        if key is not None and rate:
            keep = jax.random.bernoulli(key, 1 - rate, features.shape)
            features = features * keep / (1 - rate)
        apply, execution = encoding.model.document, encoding.execution
        frames = fields.pop(FRAMES, None)
        if frames is not None:
            document = apply.embed(params, Clips(features, frames), execution, key)
        elif features.ndim == 2:
            document = apply.project(params, features, execution)
        else:
            inputs = Visual(features, jnp.ones(features.shape[:2], bool))
            params = {  # no time for gradients that are not used
                path: value if path.startswith(_POOL) else jax.lax.stop_gradient(value)
                for path, value in params.items()
            }
            document = apply.embed(params, inputs, dataclasses.replace(execution, dropout=0.0))
        return Outputs(fields["teacher_query"], document, batch.positive, fields)


def frozen_towers() -> Objective:
    """Trains the projection of the documents' tower on features that the teacher `frozen` has.

    In a tower of videos its pooler and its transformer over frames are trained too. No image
    encoder runs and no picture is decoded, so that a head is trained in seconds. The execution
    setting `dropout` applies to the features. The queries' tower stays bit for bit as it is. Of a
    model that reads pictures through the transformer of its texts, the pool before that transformer
    is trained; then only the transformer runs, and texts keep their vectors.
    """
    return FrozenTowers()
