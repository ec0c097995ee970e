"""An index folder asked by the model that made it: a question to its best passages."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.data.preprocess.texts import untitled
from gemb.data.sources import corpora
from gemb.identity import texts_fingerprint
from gemb.inference.embedder import Embedder
from gemb.inference.encoded_once import similarity_of
from gemb.metrics.similarity import prepared
from gemb.models.adapters import Adapter
from gemb.search import Hits, Queries, load_index, read_manifest
from gemb.structs import Image


class Passage(NamedTuple):
    """A document that was found.

    Attributes:
        score: as the index's kind gives it; higher is better.
        id: its id in the corpus.
        text: its text, without its title.
        row: what else the corpus says of it, such as "title", "file" and "line".
    """

    score: float
    id: str
    text: str
    row: dict

    @property
    def place(self) -> str:
        """Where it is: "file:line", "file, page n", its path and line, else its id."""
        file = self.row.get("file") or self.row.get("path")
        if not isinstance(file, str):
            return self.id
        if "page" in self.row:
            return f"{file}, page {self.row['page']}"
        return f"{file}:{self.row['line']}" if "line" in self.row else file

    @property
    def of_documents(self) -> bool:
        """Whether it comes from a corpus of `gemb documents`."""
        return isinstance(self.row.get("file"), str) and bool({"line", "page"} & self.row.keys())


def open_index(
    folder: str | Path, *, adapter: str | Path = ""
) -> Callable[[str | Image, int], list[Passage]]:
    """Opens an index folder for questions.

    Args:
        folder: what `gemb index` wrote.
        adapter: a folder of `gemb adapter --queries`: its newer model encodes the questions, and
            they are mapped into the space of the index; "" for the index's own model.

    Returns:
        (question, count) -> the best passages, best first; fewer if there are no more. The question
        may be a picture, if the model reads pictures too.

    Raises:
        SpaceError: the adapter is for other models.
        UserError: if the folder is not an index, or its model or corpus is missing or has changed.
    """
    folder, manifest = Path(folder), read_manifest(folder)
    about, dim = manifest["about"], manifest["dim"]
    for name in ("corpus", "texts", *(["encoder"] if dim else [])):
        if not isinstance(about.get(name), str):
            raise UserError(f"{folder}: does not say its {name}; make it with `gemb index`")
    mapped = Adapter.load(adapter) if adapter else None
    if mapped and not dim:
        raise UserError(f"{folder}: an index of texts alone needs no adapter; remove it")
    inside = folder / about.get("encoder", "")  # of a release, which keeps its model and corpus
    encoder = str(inside) if inside.exists() else about["encoder"]
    encoder = mapped.about.get("new") if mapped else encoder
    embedder = Embedder.load(encoder) if dim else None
    options = {"model": "", "similarity": "cosine"}
    if mapped:
        mapped.check(embedder.fingerprint, manifest["model"], "queries")
        options = {"model": mapped.target, "similarity": manifest["similarity"]}
    elif dim:
        options = {"model": embedder.fingerprint, "similarity": similarity_of(embedder)}
    searcher = load_index(folder, **options)
    ids, texts, metadata = corpora.read_corpus(folder / about["corpus"])
    if texts_fingerprint(texts) != about["texts"]:
        raise UserError(f"{about['corpus']}: changed since {folder} was made; make it again")

    def ask(question: str | Image, count: int) -> list[Passage]:
        if isinstance(question, Image) and searcher.reads != "vectors":
            raise UserError(f"{folder}: an index of words cannot be asked by a picture")
        asked = {"texts": [question]}
        if dim:
            vector = query_vector(embedder, question, embedder.dim if mapped else dim)
            asked["vectors"] = mapped(vector) if mapped else vector
        queries = Queries(**asked) if searcher.reads == "both" else asked[searcher.reads]
        return passages_of(searcher.search(queries, count), ids, texts, metadata)

    return ask


def passages_of(
    hits: Hits, ids: Sequence[str], texts: Sequence[str], metadata: Sequence[dict]
) -> list[Passage]:
    """The first query's hits; fewer than asked for if there are no more."""
    found = zip(hits.scores[0].tolist(), hits.indices[0].tolist(), strict=True)
    return [
        Passage(score, ids[row], untitled(texts[row], metadata[row]), metadata[row])
        for score, row in found
        if row >= 0
    ]


def query_vector(embedder: Embedder, query: str | Image, dim: int) -> np.ndarray:
    """[1, dim] the query's vector, of unit length if the model compares by cosine.

    Raises:
        UserError: for a query of which the model knows nothing, or that it does not read.
    """
    kind = "document" if isinstance(query, Image) else "query"
    if kind == "document" and embedder.model.document.processor.modality == "text":
        raise UserError(f"{query!r}: the model reads texts alone, no pictures")
    vector = embedder.encode([query], dim=dim, kind=kind)
    if not vector.any():
        raise UserError(f"the model knows nothing in {query!r}: its vector is zero, ask otherwise")
    return prepared(vector, dim, similarity_of(embedder), "query")
