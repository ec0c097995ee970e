"""Teachers: what adds a teacher's fields to the batches of the one training loop.

    live      runs embedding models in the student's step
    guide     runs a model that finds false negatives, for losses.gist
    cached    looks their vectors up, as `gemb teach` left them
    vectors   looks up a file of vectors, whoever made it
    scored    looks up a cross-encoder's scores, as `gemb teach` left them
    layerwise runs one model of the student's shape, and teaches each layer

A teacher is an object with
    identity                      of what decides its fields: fingerprints and limits
    fields(queries, documents)    texts of this host's rows -> {name: numpy arrays, rows first}
    compute(params, batch)        in the compiled step: the batch's fields as losses want them
    join(...), rehearse(...)      before a run, and before a dry run; see `Teacher`
    folders(), lessons()          of those that `gemb teach` prepares: where, and what to answer
Its parameters are an argument of the step: no gradient, not in the state, not in checkpoints.
"""

from gemb.training.distillation.cached_models import cached
from gemb.training.distillation.cross_encoder import scored
from gemb.training.distillation.layerwise_model import layerwise
from gemb.training.distillation.live_models import guide, live
from gemb.training.distillation.teacher import Teacher
from gemb.training.distillation.vector_files import vectors

__all__ = ["Teacher", "cached", "guide", "layerwise", "live", "scored", "vectors"]
