"""A model at one width, as refresh and release use it: its space, its vectors, what they read."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gemb.checks import UserError
from gemb.identity import Alignment, Space, model_space
from gemb.inference.embedder import Embedder
from gemb.inference.encoded_once import similarity_of
from gemb.metrics.similarity import check_product
from gemb.pretrained.fetch import model_folder


class Encoding(Protocol):
    """What refresh and release need of a model.

    Attributes:
        space: of its vectors.
        alignment: with the model whose space it declares; None for its own.
        fingerprint: of the model.
        folder: that it was read from; None for one that is not kept with the vectors.
        dim: size of a vector.
        widths: nested widths up to dim.
    """

    space: Space
    alignment: Alignment | None
    fingerprint: str
    folder: Path | None
    dim: int
    widths: tuple[int, ...]

    def encode(self, texts: Sequence[str], *, kind: str) -> np.ndarray:
        """[texts, dim] float32; kind is "query" or "document"."""

    def full(self, texts: Sequence[str], *, kind: str) -> np.ndarray:
        """The same at the model's full width; asked only where there is a folder."""

    def contents(self, texts: Sequence[str], kind: str) -> list[bytes]:
        """All that the vectors of texts depend on, but the model: after prompt and cut."""


class ModelEncoding:
    """A model folder at one width. Texts of a model over features are records as JSON.

    Args:
        model: folder or name.
        dim: nested width to keep; 0 for the full one.

    Raises:
        UserError: for a missing or broken model, or a width that it does not have.
    """

    def __init__(self, model: str, dim: int = 0):
        self._embedder = Embedder.load(model)
        self._records = self._embedder.model.processors.query.modality == "features"
        self.dim = self._embedder.check_dim(dim or self._embedder.dim)
        similarity = check_product(similarity_of(self._embedder), model)
        self.space, self.alignment = model_space(self._embedder.model, self.dim, similarity)
        self.fingerprint = self._embedder.fingerprint
        self.folder = Path(model) if self._records else model_folder(model)
        self.widths = tuple(width for width in self._embedder.widths if width <= self.dim)

    def encode(self, texts: Sequence[str], *, kind: str) -> np.ndarray:
        """See `Encoding.encode`."""
        return self._embedder.encode(self._values(texts), dim=self.dim, kind=kind)

    def full(self, texts: Sequence[str], *, kind: str) -> np.ndarray:
        """See `Encoding.full`."""
        return self._embedder.encode(texts, kind=kind)

    def contents(self, texts: Sequence[str], kind: str) -> list[bytes]:
        """See `Encoding.contents`."""
        processor = getattr(self._embedder.model, kind).processor
        found = []
        for example in processor.prepare(self._values(texts), kind):
            parts = (
                example.content if isinstance(example.content, Mapping) else {"": example.content}
            )
            made = []
            for name, part in parts.items():
                content = np.asarray(part)
                about = f"{name}{content.dtype} {content.shape} {example.unpooled} ".encode()
                made.append(about + content.tobytes())
            found.append(b"".join(made))
        return found

    def _values(self, texts: Sequence[str]) -> list:
        """The texts, or the records of a model over features."""
        if not self._records:
            return list(texts)
        values = []
        for text in texts:
            try:
                value = json.loads(text)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise UserError(
                    f"a model over features needs texts that are JSON objects, such as "
                    f"`gemb records` writes; got {text[:60]!r}"
                )
            values.append(value)
        return values


def content_keys(
    encoding: Encoding, texts: Sequence[str], kind: str, step: int = 10_000
) -> np.ndarray:
    """One key per text; texts of one key have one vector.

    Args:
        encoding: the model.
        texts: of one side.
        kind: that side, "query" or "document".
        step: texts read at a time.

    Returns:
        [texts, 16] uint8, BLAKE2b-128 of the space, the kind, and the text after prompt and cut.
    """
    start = f"{encoding.space.id} {kind} ".encode()
    keys = bytearray()
    for first in range(0, len(texts), step):
        for content in encoding.contents(texts[first : first + step], kind):
            keys += hashlib.blake2b(start + content, digest_size=16).digest()
    return np.frombuffer(bytes(keys), np.uint8).reshape(-1, 16)
