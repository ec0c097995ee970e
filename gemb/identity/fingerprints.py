"""Fingerprints: hashes of all that a model's vectors depend on."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np

from gemb.structs import SIDES


def fingerprint(params: dict, definition: str, **settings) -> str:
    """Hashes weights, a processor's definition and settings to 32 hexadecimal digits.

    Args:
        params: {path: array}; hashed by path, shape and float32 bytes.
        definition: the processor's definition, such as the text of a tokenizer.json.
        **settings: pooling, normalisation, length limit, prompts: whatever else changes a vector.

    Returns:
        The first 128 bits of a SHA-256, in hexadecimal.

    Example:
        >>> a = fingerprint({"w": np.zeros(2)}, "{}", pooling="mean")
        >>> b = fingerprint({"w": np.zeros(2)}, "{}", pooling="cls")
        >>> len(a), a == b
        (32, False)
    """
    digest = hashlib.sha256()
    for path in sorted(params):
        value = np.ascontiguousarray(np.asarray(params[path], np.float32))
        digest.update(f"{path} {value.shape}".encode())
        digest.update(value.data)
    digest.update(definition.encode())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def model_fingerprint(model) -> str:
    """The fingerprint of a `gemb.models.model.Model`: of its towers, or of its one tower."""
    if model.shared:
        return tower_fingerprint(model.document)
    return fingerprint({}, "", **{side: tower_fingerprint(getattr(model, side)) for side in SIDES})


def tower_fingerprint(tower) -> str:
    """The fingerprint of a `gemb.models.model.Tower`: its weights, processor and settings."""
    spec = tower.spec
    definition, settings = tower.processor.identity()
    return fingerprint(
        tower.params,
        definition,
        pooling=spec.pooling,
        dense=repr(spec.dense),
        normalize=spec.normalize,
        **{spec.encoder.modality: repr(spec.encoder)},
        **settings,
    )


def texts_fingerprint(texts: Sequence[str]) -> str:
    """Hashes a list of texts, order included, to 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode(errors="surrogatepass")  # such texts are refused where they are read
        digest.update(f"{len(encoded)} ".encode() + encoded)
    return digest.hexdigest()[:32]
