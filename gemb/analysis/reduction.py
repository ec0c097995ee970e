"""Baselines for nested prefixes: PCA and random projections of a model's vectors.

A model with rotated vectors is evaluated like any other: it has the same cosines at full width and
those of the projection at a narrower one. The model itself gives plain truncation.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from gemb.checks import UserError
from gemb.inference.encoded_once import EncodedOnce, Encoder, with_prompts
from gemb.search import principal_axes

METHODS = ("pca", "random")


class Turned:
    """A model whose vectors are multiplied by an orthogonal matrix; it is an `Encoder` too.

    Args:
        once: the model and its encoded texts, shared by all rotations of it.
        axes: [dim, dim] orthogonal; None does not change the vectors.
    """

    def __init__(self, once: EncodedOnce, axes: np.ndarray | None = None):
        self._once, self._axes = once, axes
        self.dim, self.widths = once.encoder.dim, once.encoder.widths

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the model and the matrix."""
        base = self._once.encoder.fingerprint
        if self._axes is None:
            return base
        return hashlib.sha256(base.encode() + self._axes.tobytes()).hexdigest()[:32]

    def encode(self, texts: Sequence[str], *, kind: str, progress: str = "") -> np.ndarray:
        """[texts, dim] float32, each text encoded once by the model."""
        vectors = self._once.vectors(texts, kind, progress)
        return vectors if self._axes is None else vectors @ self._axes

    def with_prompts(self, prompts: Mapping[str, str]) -> "Turned":
        """The same rotation of the model with other prompts."""
        key = tuple(sorted(prompts.items()))
        once = self._once.prompted.get(key)
        if once is None:
            once = EncodedOnce(with_prompts(self._once.encoder, prompts))
            self._once.prompted[key] = once
        return Turned(once, self._axes)


def reduced(
    encoder: Encoder, documents: Sequence[str], methods: Sequence[str], *, seed: int = 0
) -> dict[str, Encoder]:
    """A model and its baselines; each text is encoded only once for all of them.

    Args:
        encoder: the model.
        documents: texts that determine the principal axes, for example
            `gemb.evaluation.tasks.sample_documents`.
        methods: of METHODS: "pca" rotates vectors onto the principal axes of those documents,
            "random" onto random directions.
        seed: seed of the random directions.

    Returns:
        "" -> the model, then method -> the rotated model.

    Raises:
        UserError: for an unknown method.

    Reference: Raunak, Gupta and Metze, Effective dimensionality reduction for word embeddings,
        2019, for PCA; Johnson and Lindenstrauss, 1984, for random directions.
    """
    once = EncodedOnce(encoder)
    made: dict[str, Encoder] = {"": Turned(once)}
    for method in methods:
        if method not in METHODS:
            known = ", ".join(METHODS)
            raise UserError(f"--reductions: unknown {method!r}; known are {known}")
        if method == "pca":
            axes = principal_axes(once.vectors(documents, "document", "principal axes"))
        else:
            drawn = np.random.default_rng(seed).normal(size=(encoder.dim, encoder.dim))
            axes = np.linalg.qr(drawn)[0].astype(np.float32)
        made[method] = Turned(once, axes)
    return made


def with_reductions(
    encoders: Mapping[str, Encoder], documents: Sequence[str], methods: Sequence[str]
) -> tuple[dict[str, Encoder], list[tuple[str, str]]]:
    """Models by name with their baselines, and the pairs to compare.

    Args:
        encoders: name -> model.
        documents: as for `reduced`.
        methods: of METHODS; empty for no baselines.

    Returns:
        The models, each followed by its "NAME METHOD"; and pairs: all pairs of the given models,
        and each model with its own baselines.
    """
    pairs, made = list(combinations(encoders, 2)), {}
    if not methods:
        return dict(encoders), pairs
    for name, encoder in encoders.items():
        for method, turned in reduced(encoder, documents, methods).items():
            made[f"{name} {method}".strip()] = turned
            pairs += [(name, f"{name} {method}")] if method else []
    return made, pairs
