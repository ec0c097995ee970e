"""Trains what follows a frozen image encoder, next to a frozen text encoder."""

import jax

from gemb.checks import UserError
from gemb.structs import Batch, Clips
from gemb.training.objectives.objective import Encoding, Objective, Outputs, batch_fields

FEATURES = "document_features"
FRAMES = "document_frames"


class FrozenTowers(Objective):
    """See `frozen_towers`."""

    runs_encoder = False

    def trained(self, model, teacher) -> tuple[str, ...]:
        """The paths of the documents' projection, and of what looks at frames together.

        Raises:
            UserError: unless the teacher is `frozen` and of the same model.
        """
        del model  # the teacher has looked at it
        if not hasattr(teacher, "backbone"):
            raise UserError("objective: frozen_towers needs the teacher frozen")
        parts = ("dense/", "pooler/", "video/position/", "video/time/")
        return tuple(f"document/{part}" for part in parts)

    def outputs(
        self, encoding: Encoding, params: dict, batch: Batch, key: jax.Array | None
    ) -> Outputs:
        """The text tower's vectors, and the embeddings of the pictures' or frames' features."""
        encoding.check_whole("with the objective frozen_towers no encoder runs; it must be 1")
        fields = batch_fields(batch)
        features, rate = fields.pop(FEATURES), encoding.execution.dropout
        if key is not None and rate:
            keep = jax.random.bernoulli(key, 1 - rate, features.shape)
            features = features * keep / (1 - rate)
        model, frames = encoding.model.document, fields.pop(FRAMES, None)
        if frames is None:
            document = model.project(params, features, encoding.execution)
        else:
            document = model.embed(params, Clips(features, frames), encoding.execution, key)
        return Outputs(fields["teacher_query"], document, batch.positive, fields)


def frozen_towers() -> Objective:
    """Trains the projection of the documents' tower on features that the teacher `frozen` has.

    In a tower of videos its pooler and its transformer over frames are trained too. No image
    encoder runs and no picture is decoded, so that a head is trained in seconds. The execution
    setting `dropout` applies to the features. The queries' tower stays bit for bit as it is.
    """
    return FrozenTowers()
