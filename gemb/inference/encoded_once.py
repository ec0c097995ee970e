"""A model that encodes each text once, and the same model under other prompts."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np


class Encoder(Protocol):
    """What evaluation and analysis need of a model; `gemb.Embedder` is one.

    Attributes:
        dim: size of a vector.
        widths: nested widths, widest first.
        fingerprint: the identity of its vectors.
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
        self.prompted: dict[tuple, EncodedOnce] = {}  # the same model under other prompts
        self._known: dict[str, dict[str, np.ndarray]] = {"query": {}, "document": {}}

    def vectors(self, texts: Sequence[str], kind: str, label: str = "") -> np.ndarray:
        """Encodes what is new among some texts.

        Args:
            texts: texts, repeated as they like.
            kind: "query" or "document".
            label: of the progress bar; '' for none.

        Returns:
            [texts, dim] float32.
        """
        known = self._known[kind]
        new = [text for text in dict.fromkeys(texts) if text not in known]
        if new:
            encoded = self.encoder.encode(new, kind=kind, progress=label)
            known.update(zip(new, encoded, strict=True))
        return np.stack([known[text] for text in texts])


def with_prompts(encoder: Encoder, prompts: Mapping[str, str]) -> Encoder:
    """The model under other prompts; itself where they are its own already.

    Args:
        encoder: a `gemb.Embedder`, or an encoder with a method of this name, if there are prompts.
        prompts: "query" and "document", either or both.

    Returns:
        A model with a fingerprint of its own, of the same weights.
    """
    if not prompts:
        return encoder
    return encoder.with_prompts(prompts)
