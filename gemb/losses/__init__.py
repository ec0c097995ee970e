"""Losses as pure functions: arrays in, the loss of each query out, in nats.

Every loss is loss(query, document, positive, *, options, fields) -> [batch]: unit-length rows, the
index of each query's positive among the candidates, the loss's own numbers, and in `Fields` all
else that is known of the batch (masks, ids, weights, what teachers say). It computes in float32
(float64 for float64 rows), holds no parameters and logs nothing; only `Ring` needs a mesh. A row
whose query or positive is masked costs exactly 0 and sends no gradient.
"""

from gemb.losses.classification import nested_classification
from gemb.losses.compose import evaluate, weighted_sum
from gemb.losses.contrastive.compatibility import backward_compatible
from gemb.losses.contrastive.forms import Blockwise, Ring
from gemb.losses.contrastive.info_nce import info_nce
from gemb.losses.contrastive.joint import gist, joint_info_nce
from gemb.losses.contrastive.pairwise import multi_positive, sigmoid, triplet
from gemb.losses.contrastive.sampled import generalized_bce, sampled_softmax
from gemb.losses.distillation.embeddings import concatenate_teachers, embedding_distance
from gemb.losses.distillation.jasper import jasper, jasper_cosine, relative_similarity, similarity
from gemb.losses.distillation.layerwise import hidden_state_distance, layerwise_distance
from gemb.losses.distillation.scores import margin_mse, score_kl, score_mse
from gemb.losses.fields import NO_FIELDS, Fields
from gemb.losses.graded import cosent, cosine_regression
from gemb.losses.matryoshka import matryoshka, matryoshka_2d
from gemb.losses.regularizers import alignment, global_orthogonal, spread_out, uniformity

__all__ = [
    "NO_FIELDS",
    "Blockwise",
    "Fields",
    "Ring",
    "alignment",
    "backward_compatible",
    "concatenate_teachers",
    "cosent",
    "cosine_regression",
    "embedding_distance",
    "evaluate",
    "generalized_bce",
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
    "sampled_softmax",
    "score_kl",
    "score_mse",
    "sigmoid",
    "similarity",
    "spread_out",
    "triplet",
    "uniformity",
    "weighted_sum",
]
