"""What may be compared with what: fingerprints of models, spaces of vectors, numbers of versions.

    fingerprint   a hash of all that a model's vectors depend on
    space         what makes two vectors comparable: both towers, dim, normalised, similarity
    generation    an increasing integer, one for each space in a store: retraining makes a new one
    refresh       an increasing integer within a generation: new vectors by the same model
    version       generation and refresh, written `7.3`. 7.2 and 7.3 may meet, 7 and 6 never
    release       what is published and rolled back: one version with its vectors and its index

Every refusal to compare two vectors is a `SpaceError`. Where versions are kept does not belong
here.
"""

from gemb.identity.fingerprints import (
    fingerprint,
    model_fingerprint,
    texts_fingerprint,
    tower_fingerprint,
)
from gemb.identity.spaces import (
    Alignment,
    Space,
    SpaceError,
    check_same_space,
    declare_space,
    model_space,
)
from gemb.identity.versions import Listed, Version

__all__ = [
    "Alignment",
    "Listed",
    "Space",
    "SpaceError",
    "Version",
    "check_same_space",
    "declare_space",
    "fingerprint",
    "model_fingerprint",
    "model_space",
    "texts_fingerprint",
    "tower_fingerprint",
]
