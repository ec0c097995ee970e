"""Losses as pure functions: arrays in, the loss of each query out, in nats.

Every loss is called as loss(query, document, positive, *, options and fields); the fields (ids,
masks, weights, teachers) are those of gemb.structs.Batch and gemb.losses.inputs.FIELDS. Losses hold
no parameters, name no mesh (but for the ring form) and log nothing.
"""

from gemb.losses.classification import nested_classification
from gemb.losses.compose import call, evaluate, weighted_sum
from gemb.losses.contrastive import info_nce, ring_info_nce
from gemb.losses.distillation import concatenate_teachers, embedding_distance
from gemb.losses.graded import cosent, cosine_regression
from gemb.losses.jasper import jasper, jasper_cosine, relative_similarity, similarity
from gemb.losses.joint import gist, joint_info_nce
from gemb.losses.layerwise import hidden_state_distance, layerwise_distance
from gemb.losses.matryoshka import matryoshka, matryoshka_2d
from gemb.losses.pairwise import multi_positive, sigmoid, triplet
from gemb.losses.regularizers import alignment, global_orthogonal, spread_out, uniformity
from gemb.losses.score_distillation import margin_mse, score_kl, score_mse

__all__ = [
    "alignment",
    "call",
    "concatenate_teachers",
    "cosent",
    "cosine_regression",
    "embedding_distance",
    "evaluate",
    "gist",
    "global_orthogonal",
    "hidden_state_distance",
    "info_nce",
    "jasper",
    "jasper_cosine",
    "joint_info_nce",
    "layerwise_distance",
    "margin_mse",
    "matryoshka",
    "matryoshka_2d",
    "multi_positive",
    "nested_classification",
    "relative_similarity",
    "ring_info_nce",
    "score_kl",
    "score_mse",
    "sigmoid",
    "similarity",
    "spread_out",
    "triplet",
    "uniformity",
    "weighted_sum",
]
