"""A text model as a function, for columns of texts; its vectors are kept on disk."""

import jax
import numpy as np

from gemb.files import atomic_file, cache_dir
from gemb.identity import texts_fingerprint, tower_fingerprint
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec
from gemb.pretrained.folder import read
from gemb.processors.columns import FrozenTexts

_ROWS = 64


def frozen_texts(model: str) -> FrozenTexts:
    """The documents' side of a text model with one tower, as a function of texts.

    The vectors of a list of texts are kept in the cache folder, under the model's fingerprint.

    Args:
        model: a folder, or a fetched model's name.

    Raises:
        UserError: for a missing or broken model.
    """
    tower = read(model)
    apply = jax.jit(functional(ModelSpec.of(tower.spec)).document.embed)
    params, identity = jax.device_put(tower.params), tower_fingerprint(tower)

    def encode(texts: list[str]) -> np.ndarray:
        path = cache_dir() / "frozen" / f"{identity}-{texts_fingerprint(texts)}.npy"
        if path.exists():
            return np.load(path)
        examples = tower.processor.prepare(texts, "document")
        order = np.argsort([-example.size for example in examples], kind="stable")
        vectors = np.empty((len(texts), tower.spec.dim), np.float32)
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            size = tower.processor.bucket(examples[rows[0]].size)
            inputs = tower.processor.collate([examples[row] for row in rows], size, _ROWS)
            vectors[rows] = np.asarray(apply(params, inputs))[: len(rows)]
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as temporary, open(temporary, "wb") as file:
            np.save(file, vectors)
        return vectors

    return FrozenTexts(encode, tower.spec.dim, identity)
