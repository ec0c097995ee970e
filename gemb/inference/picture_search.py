"""Indexes of pictures: making one, and asking it by a text or by a picture."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.data.sources.pictures import PictureCorpus
from gemb.inference.embedder import Embedder
from gemb.inference.encoded_once import similarity_of
from gemb.metrics.similarity import prepared
from gemb.search.index import load_index, read_manifest
from gemb.structs import Image


class Found(NamedTuple):
    """A picture that a query found.

    Attributes:
        score: its similarity.
        image: the picture.
        name: its id or its file.
        caption: what it shows, where that is known.
    """

    score: float
    image: Image
    name: str
    caption: str


def encode_pictures(
    embedder: Embedder, images: Sequence[Image], *, dim: int | None = None, progress: str = ""
) -> np.ndarray:
    """[images, dim] float32 by the documents' side.

    Raises:
        UserError: for a model whose documents are no pictures, or a picture that cannot be read.
    """
    if embedder.model.document.processor.modality not in ("image", "vision_language"):
        raise UserError(
            "the model's documents are no pictures; train one with experiments/pictures.gin"
        )
    return embedder.encode(list(images), kind="document", dim=dim, progress=progress)


def is_picture_index(folder: str | Path) -> bool:
    """Whether an index is one of pictures."""
    return bool(read_manifest(folder)["about"].get("pictures"))


def open_picture_index(folder: str | Path) -> Callable[[str | Image, int], list[Found]]:
    """Queries to an index of pictures, by the model that made it.

    Args:
        folder: what `gemb index` wrote.

    Returns:
        (a text or a picture, count) -> the pictures found, best first.

    Raises:
        UserError: if the index, its model or its pictures are missing or have changed.
    """
    about = read_manifest(folder)["about"]
    embedder = Embedder.load(about["encoder"])
    searcher = load_index(folder, model=embedder.fingerprint, similarity=similarity_of(embedder))
    corpus = PictureCorpus(about["corpus"])
    if corpus.fingerprint != about["texts"]:
        raise UserError(
            f"{folder}: the pictures of {about['corpus']} have changed; run `gemb index`"
        )

    def ask(query: str | Image, count: int) -> list[Found]:
        kind = "document" if isinstance(query, Image) else "query"
        vector = embedder.encode([query], kind=kind, dim=searcher.dim)
        ready = prepared(vector, searcher.dim, similarity_of(embedder), "query")
        hits = searcher.search(ready, min(count, len(corpus)))
        rows = zip(hits.indices[0].tolist(), hits.scores[0].tolist(), strict=True)
        return [
            Found(score, corpus.image(row), corpus.name(row), corpus.caption(row))
            for row, score in rows
            if row >= 0
        ]

    return ask
