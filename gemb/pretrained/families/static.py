"""Static models: a table of token vectors and their mean, no transformer at all."""

from collections.abc import Mapping

import numpy as np

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.scratch import static_text
from gemb.pretrained.families.family import Family, Tensor
from gemb.pretrained.keys import whole

TABLE = "embedding.weight"
_MODEL2VEC = ("embeddings", "mapping", "weights")
KEYS = {"vocab_size": whole(), "hidden_size": whole()}


def text_spec(config: dict) -> TextSpec:
    """Reads the shape: vocab_size and hidden_size."""
    return static_text(config["vocab_size"], config["hidden_size"])


def tensors(spec: TextSpec) -> dict[str, Tensor]:
    """Parameter path -> published tensor, as sentence-transformers' StaticEmbedding names it."""
    return {"text/token/table": Tensor(TABLE)}


def static_table(tensors: Mapping[str, np.ndarray], folder) -> dict[str, np.ndarray]:
    """The table of token vectors, of sentence-transformers' file or of model2vec's.

    model2vec writes `embeddings`, `mapping` (token id -> row) and `weights` (of each token id), the
    last two where rows are shared or weighted. The table then has one row for each token id.

    Raises:
        UserError: if there is neither, or they do not fit each other.
    """
    if TABLE in tensors:
        return {name: tensors[name] for name in tensors}
    if "embeddings" not in tensors:
        raise UserError(f"{folder}: tensor {TABLE} (or embeddings, of model2vec) is missing")
    if unknown := sorted(set(tensors) - set(_MODEL2VEC)):
        raise UserError(f"{folder}: {len(unknown)} tensors left over: {', '.join(unknown[:5])}")
    table = np.asarray(tensors["embeddings"])
    if "mapping" in tensors:
        rows = np.asarray(tensors["mapping"])
        if rows.ndim != 1 or rows.dtype.kind not in "iu" or not _inside(rows, len(table)):
            raise UserError(f"{folder}: mapping: expected rows of the {len(table)} embeddings")
        table = table[rows]
    if "weights" in tensors:
        weights = np.asarray(tensors["weights"])
        if weights.shape != (len(table),):
            raise UserError(
                f"{folder}: weights: expected {len(table)} numbers, got {weights.shape}"
            )
        # computed in float32 and rounded again, as sentence-transformers does
        wide = table.astype(np.float32) * weights.astype(np.float32)[:, None]
        table = wide.astype(table.dtype)
    return {TABLE: table}


def _inside(rows: np.ndarray, count: int) -> bool:
    return bool(((rows >= -count) & (rows < count)).all())


def config_of(spec: TextSpec) -> dict:
    """What a config.json would say, for models with no published weights."""
    return {"model_type": "static", "vocab_size": spec.vocab, "hidden_size": spec.width}


FAMILIES = {"static": Family(text_spec, (tensors,), keys=KEYS)}
