"""What a model's prefixes are held against: PCA and random projections of its vectors.

A model whose vectors are turned is one more model to evaluate: at full width the same cosines, at a
narrower one those of the projection. Plain truncation is the model itself.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from gemb.checks import UserError
from gemb.evaluation.encoding import EncodedOnce, Encoder, with_prompts
from gemb.evaluation.kind import spaced
from gemb.evaluation.tasks import KINDS, Task
from gemb.search import principal_axes

METHODS = ("pca", "random")
_FITTED = 5_000  # texts that principal axes are found from


class Turned:
    """A model whose vectors are multiplied by an orthogonal matrix; an `Encoder` itself.

    Args:
        once: the model, and what it has encoded: shared by all that are turned from it.
        axes: [dim, dim] orthogonal; None leaves the vectors as they are.
    """

    def __init__(self, once: EncodedOnce, axes: np.ndarray | None = None):
        self._once, self._axes = once, axes
        self.dim, self.widths = once.encoder.dim, once.encoder.widths

    @property
    def fingerprint(self) -> str:
        """Of the model and the matrix."""
        base = self._once.encoder.fingerprint
        if self._axes is None:
            return base
        return hashlib.sha256(base.encode() + self._axes.tobytes()).hexdigest()[:32]

    def encode(self, texts: Sequence[str], *, kind: str, progress: str = "") -> np.ndarray:
        """[texts, dim] float32, each text encoded once by the model."""
        vectors = self._once.vectors(texts, kind, progress)
        return vectors if self._axes is None else vectors @ self._axes

    def with_prompts(self, prompts: Mapping[str, str]) -> "Turned":
        """The same matrix behind the model under other prompts."""
        key = tuple(sorted(prompts.items()))
        once = self._once.prompted.get(key)
        if once is None:
            once = EncodedOnce(with_prompts(self._once.encoder, prompts))
            self._once.prompted[key] = once
        return Turned(once, self._axes)


def reduced(
    encoder: Encoder, tasks: Sequence[Task], methods: Sequence[str], *, seed: int = 0
) -> dict[str, Encoder]:
    """A model and what its prefixes are held against; each text is encoded once for all of them.

    Args:
        encoder: the model.
        tasks: whose documents the principal axes are found from, without their labels.
        methods: among METHODS: "pca" turns vectors onto the principal axes of those documents,
            "random" onto random directions.
        seed: of the random directions.

    Returns:
        "" -> the model, then method -> the model turned.

    Raises:
        UserError: an unknown method.

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
            texts = _documents(tasks)
            axes = principal_axes(once.vectors(texts, "document", "principal axes"))
        else:
            drawn = np.random.default_rng(seed).normal(size=(encoder.dim, encoder.dim))
            axes = np.linalg.qr(drawn)[0].astype(np.float32)
        made[method] = Turned(once, axes)
    return made


def with_reductions(
    encoders: Mapping[str, Encoder], tasks: Sequence[Task], methods: Sequence[str]
) -> tuple[dict[str, Encoder], list[tuple[str, str]]]:
    """Models by name with what they are held against, and the pairs worth a comparison.

    Args:
        encoders: name -> model.
        tasks: as for `reduced`.
        methods: among METHODS; none leaves the models as they are.

    Returns:
        The models, "NAME METHOD" behind each; every two of the given, and each with its own.
    """
    pairs, made = list(combinations(encoders, 2)), {}
    if not methods:
        return dict(encoders), pairs
    for name, encoder in encoders.items():
        for method, turned in reduced(encoder, tasks, methods).items():
            made[f"{name} {method}".strip()] = turned
            pairs += [(name, f"{name} {method}")] if method else []
    return made, pairs


def _documents(tasks: Sequence[Task]) -> list[str]:
    """Documents of all tasks, without repeats, evenly spaced."""
    texts = {
        text: None
        for task in tasks
        for found, side in KINDS[task.kind].texts(task.data).values()
        if side == "document"
        for text in found
    }
    texts = list(texts)
    return [texts[row] for row in spaced(len(texts), _FITTED)]
