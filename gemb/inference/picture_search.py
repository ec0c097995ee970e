"""Indexes of pictures or videos: making one, and asking it by a text, a picture or a video."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.data.sources.picture_corpus import PictureCorpus
from gemb.inference.embedder import Embedder
from gemb.inference.encoded_once import similarity_of
from gemb.metrics.similarity import prepared
from gemb.processors.undecoded import PICTURES
from gemb.search.index import load_index, read_manifest
from gemb.structs import Image, Video


class Found(NamedTuple):
    """A picture or a video that a query found.

    Attributes:
        score: its similarity.
        media: the picture or the video.
        name: its id or its file.
        caption: what it shows, where that is known.
    """

    score: float
    media: Image | Video
    name: str
    caption: str


def corpus_for(embedder: Embedder, place: str | Path) -> PictureCorpus:
    """A folder's pictures or videos, whichever the model's documents are.

    Raises:
        UserError: for a model whose documents are neither, or a folder without them.
    """
    kind = embedder.model.document.processor.modality
    if kind not in (*PICTURES, "video"):
        raise UserError(
            "the model's documents are no pictures; train one with experiments/pictures.gin"
        )
    return PictureCorpus(place, "video" if kind == "video" else "image")


def encode_pictures(
    embedder: Embedder,
    images: Sequence[Image | Video],
    *,
    dim: int | None = None,
    progress: str = "",
) -> np.ndarray:
    """[images, dim] float32 by the documents' side.

    Raises:
        UserError: for a picture or a video that cannot be read.
    """
    return embedder.encode(list(images), kind="document", dim=dim, progress=progress)


def is_picture_index(folder: str | Path) -> bool:
    """Whether an index is one of pictures or videos."""
    return bool(read_manifest(folder)["about"].get("pictures"))


def open_picture_index(folder: str | Path) -> Callable[[str | Image | Video, int], list[Found]]:
    """Queries to an index of pictures or videos, by the model that made it.

    Args:
        folder: what `gemb index` wrote.

    Returns:
        (a text, a picture or a video, count) -> what is found, best first. A picture is also a
        video of one frame.

    Raises:
        UserError: if the index, its model or its pictures are missing or have changed.
    """
    about = read_manifest(folder)["about"]
    embedder = Embedder.load(about["encoder"])
    searcher = load_index(folder, model=embedder.fingerprint, similarity=similarity_of(embedder))
    corpus = corpus_for(embedder, about["corpus"])
    if corpus.fingerprint != about["texts"]:
        raise UserError(
            f"{folder}: the pictures of {about['corpus']} have changed; run `gemb index`"
        )

    def ask(query: str | Image | Video, count: int) -> list[Found]:
        kind = "query" if isinstance(query, str) else "document"
        vector = embedder.encode([query], kind=kind, dim=searcher.dim)
        ready = prepared(vector, searcher.dim, similarity_of(embedder), "query")
        hits = searcher.search(ready, min(count, len(corpus)))
        rows = zip(hits.indices[0].tolist(), hits.scores[0].tolist(), strict=True)
        return [
            Found(score, corpus.media(row), corpus.name(row), corpus.caption(row))
            for row, score in rows
            if row >= 0
        ]

    return ask
