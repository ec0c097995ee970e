"""Typed queries to a trained run, an index folder or an index host; their hits as lines of text."""

from collections.abc import Callable
from pathlib import Path

from gemb.checks import UserError
from gemb.data.sources import beir, corpora
from gemb.evaluation.workdir import corpus_vectors, model_of, searched_folder
from gemb.identity import check_same_space, model_space, texts_fingerprint
from gemb.inference.embedder import Embedder
from gemb.inference.encoded_once import similarity_of
from gemb.inference.passages import Passage, open_index, passages_of, query_vector
from gemb.metrics.similarity import check_product, prepared
from gemb.search import ExactSearcher
from gemb.store.hosts import open_host
from gemb.store.opening import index_of
from gemb.structs import Image

_PASSAGE = 300  # characters shown of a passage


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
        (query) -> its hits, one line each, best first.

    Raises:
        UserError: if the run is not finished, the folder is missing or broken, or the model does
            not have that width.
    """
    workdir = Path(workdir)
    embedder = Embedder.load(model_of(workdir))
    dim = embedder.check_dim(dim or embedder.dim)
    training = embedder.model.manifest.get("training", {})
    ids, texts, metadata = beir.read_corpus(searched_folder(corpus, training))
    name = f"corpus-{texts_fingerprint(texts)[:12]}" if corpus else "trained"
    path = workdir / "vectors" / name
    vectors = corpus_vectors(embedder, texts, path, "corpus")
    similarity = check_product(similarity_of(embedder), str(workdir))
    searcher = ExactSearcher(prepared(vectors, dim, similarity))

    def ask(query: str) -> str:
        hits = searcher.search(query_vector(embedder, query, dim), count)
        return "\n".join(map(_shown, passages_of(hits, ids, texts, metadata)))

    return ask


def of_index(
    folder: str | Path, *, count: int = 5, adapter: str = ""
) -> Callable[[str | Image], str]:
    """Queries to an index folder, by the model that made it.

    Args:
        folder: what `gemb index` wrote; or a store of releases, whose live version answers.
        count: hits of a query.
        adapter: of another model's queries to the index's space, see `open_index`.

    Returns:
        (a text or a picture) -> its hits, best first: one line each; for a corpus of
        `gemb documents` one line with the place and one with the passage.

    Raises:
        UserError: if the folder is not an index, or its model or corpus is missing or has changed.
    """
    passages = open_index(index_of(folder), adapter=adapter)
    return lambda query: "\n".join(map(_shown, passages(query, count)))


def of_host(
    place: str, model: str, *, name: str, corpus: str = "", dim: int = 0, count: int = 5
) -> Callable[[str], str]:
    """Queries to the live version of an index host.

    Args:
        place: folder or address, see `gemb.store.hosts.open_host`.
        model: folder or name of the model whose space the live version is of.
        name: of the index on a server.
        corpus: where the texts are; "" to show ids only.
        dim: nested width; 0 for the full one.
        count: hits of a query.

    Returns:
        (query) -> its hits, a line each, best first.

    Raises:
        SpaceError: the live version is of another model.
        UserError: nothing is published, or the host does not answer.
    """
    host = open_host(place, name=name)
    live = next((each for each in host.versions() if each.state == "live"), None)
    if live is None:
        raise UserError(f"{host}: nothing is published yet")
    embedder = Embedder.load(model)
    dim = embedder.check_dim(dim or embedder.dim)
    space, _ = model_space(embedder.model, dim, similarity_of(embedder))
    check_same_space(space, live.space, str(host))
    texts = {}
    if corpus:
        ids, found, _ = corpora.read_corpus(corpus)
        texts = dict(zip(ids, found, strict=True))

    def ask(query: str) -> str:
        vector = query_vector(embedder, query, dim)
        generation = live.version.generation
        hits = host.search(vector, count, space=space, generation=generation)
        pairs = zip(hits.ids[0], hits.scores[0], strict=False)
        return "\n".join(_line(each, score, texts.get(each, "")) for each, score in pairs)

    return ask


def _line(each: str, score: float, text: str) -> str:
    begin = " ".join(text.split())[:60]
    return f"{score:6.3f}  {each}  {begin}".rstrip()


def converse(ask: Callable[[str], str], question: str = "What should the function do?") -> None:
    """Reads queries from the terminal and prints their hits, until an empty line or the end."""
    print(f"{question} (an empty line ends)")
    while True:
        try:
            query = input("> ")
        except EOFError:
            return
        if not query.strip():
            return
        print(ask(query))


def _shown(passage: Passage) -> str:
    """A hit as the terminal shows it."""
    row, begin = passage.row, " ".join(passage.text.split())
    if passage.of_documents:
        headings = row.get("headings")
        path = " > ".join(map(str, headings)) if isinstance(headings, list) else ""
        line = f"{passage.score:6.3f}  {passage.place}  {path}".rstrip()
        more = "..." if len(begin) > _PASSAGE else ""
        return f"{line}\n        {begin[:_PASSAGE]}{more}"
    name = str(row.get("name") or f"{passage.id}  {begin[:60]}")
    place = f"{row.get('path', '')}:{row['line']}" if "line" in row else ""
    return f"{passage.score:6.3f}  {name:<40}  {place}"
