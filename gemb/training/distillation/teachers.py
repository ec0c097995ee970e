"""Teachers: they add fields to the batches of the training loop.

    live      runs embedding models in the student's step
    guide     runs a model that finds false negatives, for losses.gist
    cached    looks up vectors that `gemb teach` has computed
    vectors   looks up vectors in a file from any source
    scored    looks up a cross-encoder's scores that `gemb teach` has computed
    frozen    what frozen towers of texts and pictures say, and ConSE vectors of a classifier
    layerwise runs one model of the student's width, and teaches each layer

A teacher is an object with
    identity                      what decides its fields: fingerprints and limits
    fields(queries, documents)    texts of this host's rows -> {name: numpy arrays, rows first}
    compute(params, batch)        in the compiled step: the fields in the form that losses read
    join(...), rehearse(...)      before a run, and before a dry run; see `Teacher`
    folders(), lessons()          for `gemb teach`: the caches' folders, and what to compute
Its parameters are an argument of the step: no gradients, not in the state or checkpoints.
"""

from gemb.training.distillation.cached_models import cached
from gemb.training.distillation.cross_encoder import scored
from gemb.training.distillation.frozen import frozen
from gemb.training.distillation.layerwise_model import layerwise
from gemb.training.distillation.live_models import guide, live
from gemb.training.distillation.teacher import Teacher
from gemb.training.distillation.vector_files import vectors

__all__ = ["Teacher", "cached", "frozen", "guide", "layerwise", "live", "scored", "vectors"]
