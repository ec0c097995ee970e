"""Indexes that are served: opened from folders and releases, warmed, asked.

A `Step` is one version of one corpus with all that a request needs of it: the searcher, the ids and
texts, the model that encodes queries. A `Chain` is what answers under one name: the steps, newest
first, and what answers when none of them does. Both never change; a release is swapped by replacing
the chain, and a request keeps the one that it began with.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.data.sources import corpora
from gemb.identity import Space, Version, model_space, texts_fingerprint
from gemb.inference.encoded_once import similarity_of
from gemb.inference.passages import Passage, passages_of
from gemb.metrics.similarity import check_product, prepared
from gemb.search import (
    Bm25Searcher,
    ExactSearcher,
    Hits,
    Queries,
    Searcher,
    load_index,
    read_manifest,
)
from gemb.serving.batching.towers import ServedModel
from gemb.serving.http.errors import ApiError, bad_request
from gemb.store import Opened

POPULAR = "popular"  # name of the retriever that is asked nothing
_SETS = ("items", "documents")  # of a release, either
_DEPTHS = (10, 100, 1000)  # hits that are searched for: few, because exact search compiles for each
_NARROW_ROWS = 200_000  # documents up to which every nested width is searchable
_FAILURES, _WINDOW, _OPEN = 5, 10.0, 5.0  # of a breaker


class Breaker:
    """Leaves out what failed several times in a row for some seconds."""

    def __init__(self):
        self._failed: list[float] = []
        self._until = 0.0

    def open(self) -> bool:
        """Whether it must not be asked now."""
        return time.monotonic() < self._until

    def failed(self) -> None:
        """Counts a failure."""
        now = time.monotonic()
        self._failed = [*(at for at in self._failed if now - at < _WINDOW), now]
        if len(self._failed) >= _FAILURES:
            self._until, self._failed = now + _OPEN, []


@dataclasses.dataclass(frozen=True)
class Corpus:
    """The documents of an index.

    Attributes:
        ids: of the rows.
        texts: of the rows, titles in front; empty where they are not known.
        rows: what else is known of each; empty likewise.
    """

    ids: Sequence[str]
    texts: Sequence[str] = ()
    rows: Sequence[dict] = ()

    @cached_property
    def places(self) -> dict[str, int]:
        """id -> row."""
        return {each: row for row, each in enumerate(self.ids)}

    def passages(self, hits: Hits) -> list[Passage]:
        """The hits of the first query."""
        if self.texts:
            return passages_of(hits, self.ids, self.texts, self.rows)
        found = zip(hits.scores[0].tolist(), hits.indices[0].tolist(), strict=True)
        return [Passage(score, self.ids[row], "", {}) for score, row in found if row >= 0]


@dataclasses.dataclass(eq=False)
class Step:
    """One version of a corpus.

    Attributes:
        corpus: its documents.
        searcher: that finds them.
        version: None for an index folder.
        space: of its vectors; None for BM25.
        model: that encodes queries; None where only vectors and ids can be asked with.
        vectors: [documents, dim] as they were stored; None where they are not known.
        narrow: nested width -> searcher of vectors of that width.
        made: when, in seconds since 1970.
        drawn: its map, made when it is first asked for; see `gemb.serving.map`.
        breaker: leaves it out after several failures.
        late: whether vectors depend on the text around them (late chunking).
        popular: scores by id that are of this version; None for none.
    """

    corpus: Corpus
    searcher: Searcher
    version: Version | None = None
    space: Space | None = None
    model: ServedModel | None = None
    vectors: np.ndarray | None = None
    narrow: dict[int, Searcher] = dataclasses.field(default_factory=dict)
    made: float = 0.0
    late: bool = False
    popular: Mapping[str, float] | None = None
    drawn: dict | None = None
    breaker: Breaker = dataclasses.field(default_factory=Breaker)

    @property
    def dims(self) -> list[int]:
        """Widths that a search may ask for, widest first."""
        full = [self.searcher.dim] if self.searcher.dim else []
        return full + sorted(self.narrow, reverse=True)

    @property
    def reads_texts(self) -> bool:
        """Whether its searcher needs the text of a query."""
        return self.searcher.reads in ("texts", "both")

    def check_dim(self, dim: int | None) -> int:
        """The width to search at.

        Raises:
            ApiError: 400, naming the widths.
        """
        if dim is None or dim == self.searcher.dim:
            return self.searcher.dim
        if dim not in self.narrow:
            raise bad_request(f"dim: choose one of {self.dims}", "unknown_width", "dim")
        return dim

    def query(self, vector: np.ndarray, dim: int) -> np.ndarray:
        """[1, dim] a query's vector as the searcher compares it.

        Raises:
            ApiError: 400, for a vector of zeros or of numbers that are not finite.
        """
        if not np.isfinite(vector).all() or not vector[:dim].any():
            raise bad_request(
                "the query's vector is zero or not finite, so nothing can be ranked", "no_direction"
            )
        return prepared(vector[None], dim, self.space.similarity, "query")

    def search(self, vector: np.ndarray | None, text: str, k: int, dim: int) -> Hits:
        """Finds the k best documents; not in the event loop.

        Args:
            vector: [1, dim] from `query`; None where the searcher reads texts only.
            text: where it reads them.
            k: hits.
            dim: of `dims`.
        """
        searcher = self.narrow.get(dim, self.searcher)
        asked = {"vectors": vector, "texts": [text]}
        queries = Queries(**asked) if searcher.reads == "both" else asked.get(searcher.reads)
        hits = searcher.search(queries, self.depth(k))
        return Hits(hits.scores[:, :k], hits.indices[:, :k])

    def filtered(self, vector: np.ndarray, wanted: dict, k: int) -> Hits:
        """The k best of the documents whose fields have given values, by exact scores.

        Raises:
            ApiError: 400, where vectors or fields are not known.
        """
        if self.vectors is None or not self.corpus.rows:
            raise bad_request(
                "filter: needs an index whose vectors and fields are at hand (kind exact, or a "
                "release with texts)", "filter_not_supported", "filter",
            )  # fmt: skip
        rows, dim = self._matching(wanted), vector.shape[1]
        kept = np.asarray(self.vectors[rows, :dim], np.float32)
        scores = (prepared(kept, dim, self.space.similarity) if len(rows) else kept) @ vector[0]
        best = np.lexsort((rows, -scores))[:k]
        return Hits(scores[best][None], rows[best][None])

    def listed(self, wanted: dict | None, k: int) -> Hits:
        """The k best of a searcher that is asked nothing, with given values of fields."""
        return self.searcher.search(self._matching(wanted) if wanted else None, k)

    def _matching(self, wanted: dict) -> np.ndarray:
        """Rows whose fields have given values."""
        matching = [
            number
            for number, row in enumerate(self.corpus.rows)
            if all(name in row and row[name] == value for name, value in wanted.items())
        ]
        return np.array(matching, np.int64)

    def passages(self, hits) -> list[Passage]:
        """The documents of the hits of one query."""
        return self.corpus.passages(hits)

    def answered(self, hits) -> str | None:
        """The version that gave the hits; None for none."""
        return str(self.version) if self.version else None

    def depth(self, k: int) -> int:
        """Hits to search for where k are wanted: one of few numbers, all of them warmed."""
        return min(next(depth for depth in _DEPTHS if depth >= k), max(1, self.searcher.documents))

    def warm(self) -> None:
        """Searches once at each depth, so that no request compiles."""
        text = self.corpus.texts[0] if self.corpus.texts else "a"
        for dim in self.dims or [0]:
            vector = np.full((1, dim), dim**-0.5, np.float32) if dim else None
            for depth in {self.depth(depth) for depth in _DEPTHS}:
                self.search(vector, text, depth, dim)

    def row(self, name: str) -> int:
        """The row of an id.

        Raises:
            ApiError: 404.
        """
        found = self.corpus.places.get(name)
        if found is None:
            raise ApiError(404, "item_id: the index has no such id", "unknown_id", param="item_id")
        return found

    def describe(self) -> dict:
        """For /v1/versions."""
        return {
            "version": str(self.version) if self.version else None,
            "space": self.space.id if self.space else None,
            "model": self.model.fingerprint if self.model else None,
            "documents": self.searcher.documents,
            "dims": self.dims,
            "made": self.made or None,
        }


@dataclasses.dataclass(frozen=True)
class Chain:
    """What answers under one name.

    Attributes:
        name: of the index, in requests.
        steps: newest first.
        others: name -> what answers texts when no step does.
        reasons: why versions were left out.
    """

    name: str
    steps: tuple[Step, ...] = ()
    others: dict[str, Step] = dataclasses.field(default_factory=dict)
    reasons: tuple[str, ...] = ()

    def version(self, asked: str) -> Step:
        """A version by its number.

        Raises:
            ApiError: 404, naming those that are loaded.
        """
        for step in self.steps:
            if str(step.version or "") == asked:
                return step
        loaded = ", ".join(str(step.version) for step in self.steps) or "none"
        raise ApiError(
            404, f"version: not loaded; loaded are: {loaded}", "unknown_version", param="version"
        )

    def of_space(self, space: str) -> Step:
        """The newest step of a space.

        Raises:
            ApiError: 409, naming both.
        """
        for step in self.steps:
            if step.space and step.space.id == space:
                return step
        held = ", ".join(step.space.id for step in self.steps if step.space) or "none"
        raise ApiError(
            409,
            f"space: the vector is of {space[:64]!r}, but the index {self.name} has {held}; scores "
            "between two spaces are noise",
            "space_mismatch",
            param="space",
        )


def open_folder(folder: str, models: dict[str, ServedModel], **options) -> tuple[str, Chain]:
    """Opens what `gemb index` wrote.

    Args:
        folder: its place.
        models: loaded models by fingerprint; the index's own is added.
        **options: see `ServedModel.load`.

    Returns:
        The name that it is served under, and the chain.

    Raises:
        UserError: it is not an index, or its model or corpus is missing or has changed.
    """
    manifest, name = read_manifest(folder), Path(folder).resolve().name
    about, dim = manifest["about"], manifest["dim"]
    for key in ("corpus", "texts", *(["encoder"] if dim else [])):
        if not isinstance(about.get(key), str):
            raise UserError(f"{folder}: does not say its {key}; make it with `gemb index`")
    corpus = Corpus(*corpora.read_corpus(_from(folder, about["corpus"])))
    if texts_fingerprint(corpus.texts) != about["texts"]:
        raise UserError(f"{about['corpus']}: changed since {folder} was made; make it again")
    made = (Path(folder) / "index.json").stat().st_mtime
    if not dim:
        step = Step(corpus, load_index(folder, model=""), made=made)
        return name, Chain(name, others={"bm25": step})
    encoder = _from(folder, about["encoder"])
    model = loaded_model(encoder, models, manifest["model"], **options)
    similarity = check_product(similarity_of(model.embedder), folder)
    searcher = load_index(folder, model=model.fingerprint, similarity=similarity)
    space = model_space(model.embedder.model, dim, similarity)[0]
    vectors = None
    if manifest["kind"] == "exact":
        vectors = np.load(Path(folder) / "vectors.npy", mmap_mode="r", allow_pickle=False)
    step = Step(corpus, searcher, None, space, model, vectors, made=made)
    step.late = bool(about.get("late_chunking"))
    step.narrow = narrowed(step)
    return name, Chain(name, (step,), fallbacks(step))


def open_release(opened: Opened, made: float, models: dict[str, ServedModel], **options) -> Step:
    """Opens a version of a store.

    The folder of a version holds a set `items` or `documents`, and may hold `model`, `index` (of
    `gemb index`) and the texts, corpus.jsonl, also in a folder `corpus`. Without a model of its own
    the models of --model are tried; without any it answers ids and vectors.

    Args:
        opened: the version.
        made: when it was finished.
        models: loaded models by fingerprint; its own is added.
        **options: see `ServedModel.load`.

    Raises:
        SpaceError: its model is of another space.
        UserError: it has no items, or a file that cannot be read.
    """
    folder, space = opened.folder, opened.space
    name = next((each for each in _SETS if each in opened.sets), None)
    if name is None:
        raise UserError(f"{folder}: has none of the sets {_SETS}; there are {sorted(opened.sets)}")
    ids, vectors, _ = opened.sets[name]
    ids = [str(each) for each in ids]
    model = _model_of(opened, models, **options)
    texts, rows = _texts_of(opened, ids)
    similarity = check_product(space.similarity, str(folder))
    if (folder / "index" / "index.json").is_file():
        fingerprint = read_manifest(folder / "index")["model"]
        searcher = load_index(folder / "index", model=fingerprint, similarity=similarity)
        if searcher.documents != len(ids) or searcher.dim not in (0, space.dim):
            raise UserError(f"{folder / 'index'}: is not of the items of this version")
    else:
        searcher = ExactSearcher(prepared(vectors, space.dim, similarity))
    step = Step(Corpus(ids, texts, rows), searcher, opened.version, space, model, vectors)
    step.made, step.narrow = made, narrowed(step)
    return step


def loaded_model(
    place: str, models: dict[str, ServedModel], fingerprint: str = "", **options
) -> ServedModel:
    """A model of some place: one that is loaded already, else loaded and warmed now.

    Raises:
        UserError: it cannot be loaded, or a model of another fingerprint is there.
    """
    if fingerprint in models:
        return models[fingerprint]
    model = ServedModel.load(place, **options)
    if model.fingerprint in models:
        return models[model.fingerprint]
    if fingerprint and model.fingerprint != fingerprint and not options.get("max_length"):
        raise UserError(
            f"{place}: the model with fingerprint {model.fingerprint}, but the index is of "
            f"{fingerprint}; make the index again"
        )
    model.warm()
    taken = {each.name for each in models.values()}
    if model.name in taken:
        model.name = f"{model.name}-{model.fingerprint[:8]}"
    models[model.fingerprint] = model
    return model


def fallbacks(step: Step) -> dict[str, Step]:
    """BM25 over the texts of a step, for when no vectors answer."""
    if not step.corpus.texts or isinstance(step.searcher, Bm25Searcher):
        return {}
    try:
        return {"bm25": Step(step.corpus, Bm25Searcher(step.corpus.texts), made=step.made)}
    except ValueError:  # no word in any of them
        return {}


def narrowed(step: Step) -> dict[int, Searcher]:
    """Exact searchers at the model's nested widths, for a corpus of moderate size."""
    few = step.vectors is not None and len(step.vectors) <= _NARROW_ROWS
    if not few or step.model is None or step.space.similarity != "cosine":
        return {}
    widths = [width for width in step.model.widths if width < step.searcher.dim]
    return {width: ExactSearcher(prepared(step.vectors, width, "cosine")) for width in widths}


def _from(folder: str, place: str) -> str:
    """A place that index.json names, which may be relative to the index's folder."""
    near = Path(folder) / place
    return str(near) if place.startswith("..") and near.exists() else place


def _model_of(opened: Opened, models: dict[str, ServedModel], **options) -> ServedModel | None:
    space, own = opened.space, opened.folder / "model"
    if own.is_dir():
        name = f"{opened.folder.parents[1].name}@{opened.version}"
        model = loaded_model(str(own), models, name=name, **options)
        _check_space(model, space, own)
        return model
    for model in models.values():
        if space_of(model, space) == space:
            return model
    place = opened.about.get("model")
    if isinstance(place, dict):
        place = place.get("folder")
    if isinstance(place, str) and Path(place).is_dir():
        model = loaded_model(place, models, **options)
        _check_space(model, space, Path(place))
        return model
    return None


def space_of(model: ServedModel, like: Space) -> Space | None:
    """The space of a model's vectors at the width of another."""
    if like.dim not in model.widths:
        return None
    try:
        return model_space(model.embedder.model, like.dim, like.similarity)[0]
    except UserError:
        return None


def _check_space(model: ServedModel, space: Space, place: Path) -> None:
    found = space_of(model, space)
    if found != space:
        raise UserError(f"{place}: the model is of space {found}, but the vectors are of {space}")


def _texts_of(opened: Opened, ids: list[str]) -> tuple[list[str], list[dict]]:
    """Texts and fields of the items; empty lists where they are not known."""
    places, noted = [opened.folder, opened.folder / "corpus"], opened.about.get("corpus")
    places += [noted] if isinstance(noted, str) and noted else []
    for place in map(Path, places):
        file = place / "corpus.jsonl" if place.is_dir() else place
        if not file.is_file():
            continue
        found, texts, rows = corpora.read_corpus(place)
        if found == ids:
            return texts, rows
        where = {each: row for row, each in enumerate(found)}
        if all(each in where for each in ids):
            order = [where[each] for each in ids]
            return [texts[row] for row in order], [rows[row] for row in order]
    return [], []
