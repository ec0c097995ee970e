"""Objectives: how a batch becomes the embeddings and fields that a loss reads.

    pairs             embeds queries and documents, gradient-cached in microbatches
    head_only         trains the last linear layer on the vectors of its encoder, which does not run
    frozen_towers     trains the projection of pictures on features that frozen towers gave once
    layerwise         also compares the vectors of every layer with a teacher's
    earlier_layers    also embeds at earlier layers (2-D Matryoshka)
    classification    trains class heads with the encoder (MRL, MRL-E)

An objective has one signature, see `gemb.training.objectives.objective`. gin binds the functions.
"""

from gemb.training.objectives.classification import classification, with_classes
from gemb.training.objectives.earlier_layers import earlier_layers
from gemb.training.objectives.frozen import frozen_towers
from gemb.training.objectives.head_only import head_only
from gemb.training.objectives.layerwise import layerwise
from gemb.training.objectives.objective import Encoding, Objective, Outputs
from gemb.training.objectives.pairs import pairs

__all__ = [
    "Encoding",
    "Objective",
    "Outputs",
    "classification",
    "earlier_layers",
    "frozen_towers",
    "head_only",
    "layerwise",
    "pairs",
    "with_classes",
]
