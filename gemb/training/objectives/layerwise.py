"""Compares the vectors of every layer of the model with a teacher's."""

import jax

from gemb import losses
from gemb.checks import check
from gemb.structs import SIDES, Batch
from gemb.training.objectives.objective import Encoding, Objective, Outputs, batch_fields, side_key

STATES = "teacher_states"  # the batch's field: {side: [layers, rows, positions, width]}


class Layerwise(Objective):
    """See `layerwise`."""

    def outputs(
        self, encoding: Encoding, params: dict, batch: Batch, key: jax.Array | None
    ) -> Outputs:
        """The embeddings, and the distance of the layers from the teacher's."""
        encoding.check_whole("the objective layerwise embeds whole batches; it must be 1")
        fields = batch_fields(batch)
        check(STATES in fields, "objective: layerwise needs the teacher teachers.layerwise")
        goals = fields.pop(STATES)
        made = []
        for number, side in enumerate(SIDES):
            functions, inputs = getattr(encoding.model, side), getattr(batch, side)
            vectors, states = functions.every_layer(
                params, inputs, encoding.execution, side_key(key, number)
            )
            fields[f"{side}_layerwise"] = losses.hidden_state_distance(
                states, goals[side], inputs.real
            )
            made.append(vectors)
        return Outputs(*made, batch.positive, fields)


def layerwise() -> Objective:
    """Embeds both sides and compares all layers with those of `teachers.layerwise`, which selects
    this objective."""
    return Layerwise()
