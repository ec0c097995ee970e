"""Typed queries to a trained run or to an index folder, and their hits as lines of text."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.data.sources import beir
from gemb.evaluation.workdir import corpus_vectors, model_of, searched_folder
from gemb.identity import texts_fingerprint
from gemb.inference.embedder import Embedder
from gemb.inference.encoded_once import similarity_of
from gemb.metrics.similarity import check_product, prepared
from gemb.search import ExactSearcher, Hits, Queries, load_index, read_manifest


def of_run(
    workdir: str | Path, *, corpus: str = "", dim: int = 0, count: int = 5
) -> Callable[[str], str]:
    """Queries to the model of a run; the vectors of the corpus are kept in the workdir.

    Args:
        workdir: a finished run.
        corpus: BEIR folder; default the folder that the run trained on.
        dim: nested width to search at; 0 for the full one.
        count: hits of a query.

    Returns:
        (query) -> its hits, a line each, best first.

    Raises:
        UserError: if the run is not finished, the folder is missing or broken, or the model does
            not have that width.
    """
    workdir = Path(workdir)
    embedder = Embedder.load(model_of(workdir))
    dim = embedder.check_dim(dim or embedder.dim)
    training = embedder.model.manifest.get("training", {})
    ids, texts, metadata = beir.read_corpus(searched_folder(corpus, training))
    rows = _rows(ids, texts, metadata)
    name = f"corpus-{texts_fingerprint(texts)[:12]}" if corpus else "trained"
    path = workdir / "vectors" / name
    vectors = corpus_vectors(embedder, texts, path, "corpus")
    similarity = check_product(similarity_of(embedder), str(workdir))
    searcher = ExactSearcher(prepared(vectors, dim, similarity))

    def ask(query: str) -> str:
        return _lines(searcher.search(_vector(embedder, query, dim), count), rows)

    return ask


def of_index(folder: str | Path, *, count: int = 5) -> Callable[[str], str]:
    """Queries to an index folder, by the model that made it.

    Args:
        folder: what `gemb index` wrote.
        count: hits of a query.

    Returns:
        (query) -> its hits, a line each, best first.

    Raises:
        UserError: if the folder is no index, or its model or corpus is missing or has changed.
    """
    manifest = read_manifest(folder)
    about, dim = manifest["about"], manifest["dim"]
    for name in ("corpus", "texts", *(["encoder"] if dim else [])):
        if not isinstance(about.get(name), str):
            raise UserError(f"{folder}: does not say its {name}; make it with `gemb index`")
    embedder = Embedder.load(about["encoder"]) if dim else None
    options = {"model": "", "similarity": "cosine"}
    if dim:
        options = {"model": embedder.fingerprint, "similarity": similarity_of(embedder)}
    searcher = load_index(folder, **options)
    ids, texts, metadata = beir.read_corpus(Path(about["corpus"]))
    if texts_fingerprint(texts) != about["texts"]:
        raise UserError(f"{about['corpus']}: changed since {folder} was made; make it again")
    rows = _rows(ids, texts, metadata)

    def ask(query: str) -> str:
        asked = {"texts": [query]}
        if dim:
            asked["vectors"] = _vector(embedder, query, dim)
        queries = Queries(**asked) if searcher.reads == "both" else asked[searcher.reads]
        return _lines(searcher.search(queries, count), rows)

    return ask


def converse(ask: Callable[[str], str]) -> None:
    """Reads queries from the terminal and prints their hits, until an empty line or the end."""
    print("What should the function do? (an empty line ends)")
    while True:
        try:
            query = input("> ")
        except EOFError:
            return
        if not query.strip():
            return
        print(ask(query))


def _rows(ids: Sequence[str], texts: Sequence[str], metadata: Sequence[dict]) -> list[dict]:
    """What is shown of each document: its name if it has one, else its id and beginning."""
    return [
        row | {"name": str(row.get("name") or f"{name}  {' '.join(text.split())[:60]}")}
        for name, text, row in zip(ids, texts, metadata, strict=True)
    ]


def _vector(embedder: Embedder, query: str, dim: int) -> np.ndarray:
    """[1, dim] the query's vector."""
    vector = embedder.encode([query], dim=dim, kind="query")
    if not vector.any():
        raise UserError(f"the model knows nothing in {query!r}: its vector is zero, ask otherwise")
    return prepared(vector, dim, similarity_of(embedder), "query")


def _lines(hits: Hits, rows: Sequence[dict]) -> str:
    """The first query's hits; fewer than asked for if there are no more."""
    found = zip(hits.scores[0], hits.indices[0], strict=True)
    return "\n".join(_line(score, rows[index]) for score, index in found if index >= 0)


def _line(score: float, row: dict) -> str:
    place = f"{row.get('path', '')}:{row['line']}" if "line" in row else ""
    return f"{score:6.3f}  {row.get('name', ''):<40}  {place}"
