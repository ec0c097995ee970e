"""A wrapper that encodes each text only once, also under other prompts."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class Encoder(Protocol):
    """The methods of a model that evaluation and analysis use; `gemb.Embedder` has them.

    Attributes:
        dim: coordinates of a vector.
        widths: nested widths, widest first.
        fingerprint: identifies its vectors.
        similarity_name: how they are compared, see `similarity_of`; may be left out.
    """

    @property
    def dim(self) -> int: ...

    @property
    def widths(self) -> tuple[int, ...]: ...

    @property
    def fingerprint(self) -> str: ...

    def encode(self, texts: Sequence[str], *, kind: str, progress: str) -> np.ndarray:
        """[texts, dim] float32; kind is "query" or "document", progress the label of a bar."""


class EncodedOnce:
    """A model that remembers every text it has encoded.

    Args:
        encoder: the model.

    Example:
        >>> class Lengths:
        ...     def encode(self, texts, *, kind, progress):
        ...         return np.array([[len(text), 1.0] for text in texts], np.float32)
        >>> EncodedOnce(Lengths()).vectors(["ab", "a", "ab"], "document")[:, 0]
        array([2., 1., 2.], dtype=float32)
    """

    def __init__(self, encoder: Encoder):
        self.encoder = encoder
        self.prompted: dict[tuple, EncodedOnce] = {}  # the same model with other prompts
        self._known: dict[str, dict[str, np.ndarray]] = {"query": {}, "document": {}}

    def vectors(self, texts: Sequence[str], kind: str, label: str = "") -> np.ndarray:
        """The vectors of texts; only new texts are encoded.

        Args:
            texts: texts, possibly repeated.
            kind: "query" or "document".
            label: label of the progress bar; '' for none.

        Returns:
            [texts, dim] float32.
        """
        known = self._known[kind]
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            encoded = self.encoder.encode(new, kind=kind, progress=label)
            known.update(zip(new, encoded, strict=True))
        return np.stack([known[text] for text in texts])


def similarity_of(encoder: Encoder) -> str:
    """How a model's vectors are compared; an encoder that does not say is compared by cosine."""
    return getattr(encoder, "similarity_name", "cosine")


def scores_fingerprint(encoder: Encoder) -> str:
    """The identity of a model's scores: of its vectors, and of how they are compared."""
    similarity = similarity_of(encoder)
    return encoder.fingerprint + ("" if similarity == "cosine" else f" by {similarity}")


def with_prompts(encoder: Encoder, prompts: Mapping[str, str]) -> Encoder:
    """The model with other prompts; the model itself if they are equal to its own.

    Args:
        encoder: a `gemb.Embedder`, or another encoder with this method if prompts are given.
        prompts: "query" and "document", either or both.

    Returns:
        A model with the same weights and its own fingerprint.
    """
    if not prompts:
        return encoder
    return encoder.with_prompts(prompts)
