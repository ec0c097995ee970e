"""A model's identity: a hash of all that its vectors depend on, not a name."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np


def fingerprint(params: dict, tokenizer_json: str, **settings) -> str:
    """Hashes weights, tokenizer and settings to 32 hexadecimal digits.

    Args:
        params: {path: array}; hashed by path, shape and float32 bytes.
        tokenizer_json: the tokenizer's full definition.
        **settings: pooling, normalisation, length limit, prompts: whatever else moves a vector.

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
    digest.update(tokenizer_json.encode())
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def texts_fingerprint(texts: Sequence[str]) -> str:
    """Hashes a list of texts, order included, to 32 hexadecimal digits."""
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode(errors="surrogatepass")  # what reads the text tells of those
        digest.update(f"{len(encoded)} ".encode() + encoded)
    return digest.hexdigest()[:32]
