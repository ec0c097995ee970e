"""Maps: the texts of a task under one model, in two dimensions or as the projector's tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemb.evaluation.result_cache import remembered
from gemb.evaluation.tasks.registry import EvaluationTask
from gemb.evaluation.tasks.task_type import spaced
from gemb.inference.encoded_once import EncodedOnce, Encoder, with_prompts
from gemb.metrics.projection import project
from gemb.reports import projector
from gemb.reports.wording import shortened

_LIMIT = 400  # points of a map
_PROJECTED = 10_000  # points of a task that TensorBoard's projector still turns smoothly


class Points(NamedTuple):
    """Texts to be put on a map.

    Attributes:
        texts: one per point.
        sides: "query" or "document", how each is encoded.
        groups: the group of each point: its label, or its side.
        links: (point, point) pairs that belong together.
    """

    texts: list[str]
    sides: list[str]
    groups: list[str]
    links: list[tuple[int, int]]


def task_points(task: EvaluationTask, limit: int = _LIMIT) -> Points | None:
    """Some of a task's texts, evenly spaced; None for kinds without a map."""
    if task.kind in ("classification", "clustering"):
        texts, labels = (task.data.get(f"test_{k}", task.data.get(k)) for k in ("texts", "labels"))
        rows = spaced(len(texts), limit)
        picked = [str(labels[row]) for row in rows]
        return Points([texts[row] for row in rows], ["document"] * len(rows), picked, [])
    if task.kind == "bitext":
        rows = spaced(len(task.data["source"]), limit // 2)
        texts = [task.data[side][row] for side in ("source", "target") for row in rows]
        sides = ["source"] * len(rows) + ["translation"] * len(rows)
        links = [(i, i + len(rows)) for i in range(len(rows))]
        return Points(texts, ["document"] * len(texts), sides, links)
    if task.kind == "retrieval":
        return _asked(task.data, limit)[0]
    return None


def _asked(data: dict[str, Any], limit: int) -> tuple[Points, dict[str, list[int]]]:
    """One quarter queries; then their answers and other documents; and the rows of each side."""
    queries = spaced(len(data["queries"]), limit // 4)
    right = [max(data["qrels"][row], key=data["qrels"][row].get) for row in queries]
    others = spaced(len(data["documents"]), limit - len(queries) - len(set(right)))
    documents = list(dict.fromkeys([*right, *others]))
    place = {row: len(queries) + i for i, row in enumerate(documents)}
    texts = [data["queries"][row] for row in queries] + [data["documents"][r] for r in documents]
    sides = ["query"] * len(queries) + ["document"] * len(documents)
    links = [(i, place[row]) for i, row in enumerate(right)]
    return Points(texts, sides, sides, links), {"query": queries, "document": documents}


def encode_points(
    encoder: Encoder, task: EvaluationTask, points: Points, label: str = ""
) -> np.ndarray:
    """[points, dim] the vectors of a map's texts, under the task's prompts."""
    model, vectors = EncodedOnce(with_prompts(encoder, task.prompts)), {}
    for side in dict.fromkeys(points.sides):
        rows = [i for i, one in enumerate(points.sides) if one == side]
        found = model.vectors([points.texts[i] for i in rows], side, label)
        vectors |= dict(zip(rows, found, strict=True))
    return np.stack([vectors[i] for i in range(len(points.texts))])


def task_map(
    encoder: Encoder,
    task: EvaluationTask,
    method: str = "pca",
    *,
    label: str = "",
    cache: Path | None = None,
    force: bool = False,
) -> dict[str, Any] | None:
    """A map of a task's texts under one model, read from the cache if it is there.

    Args:
        encoder: the model.
        task: the task.
        method: one of `gemb.metrics.projection.METHODS`.
        label: of the progress bar.
        cache: folder of the cache; default below `gemb.files.cache_dir()`.
        force: make it again even if it is there.

    Returns:
        {"method", "texts", "groups", "places" [points, 2], "links"}, texts cut to 240 characters;
        None for kinds of task without a map.

    Raises:
        MissingExtra: scikit-learn (for t-SNE) or umap-learn is not installed.
    """
    points = task_points(task)
    if points is None or len(points.texts) < 2:
        return None

    def make() -> dict[str, Any]:
        return _plane(points, encode_points(encoder, task, points, label), method)

    known = ["map", method, str(_LIMIT), encoder.fingerprint, task.fingerprint]
    return remembered(known, [], make, cache, force=force)


def vectors_map(
    retrieval_set: Any, queries: np.ndarray, documents: np.ndarray, method: str = "pca"
) -> dict[str, Any]:
    """A map of a retrieval set from vectors that are there, as `task_map`.

    Args:
        retrieval_set: see `gemb.evaluation.searcher_figures`.
        queries: [queries, dim] floats.
        documents: [documents, dim] floats.
        method: one of `gemb.metrics.projection.METHODS`.
    """
    judged = [i for i, row in enumerate(retrieval_set.qrels) if row]
    data = {
        "queries": [retrieval_set.query_texts[i] for i in judged],
        "documents": retrieval_set.corpus_texts,
        "qrels": [retrieval_set.qrels[i] for i in judged],
    }
    points, rows = _asked(data, _LIMIT)
    return _plane(
        points,
        np.concatenate([queries[judged][rows["query"]], documents[rows["document"]]]),
        method,
    )


def _plane(points: Points, vectors: np.ndarray, method: str) -> dict[str, Any]:
    return {
        "method": method,
        "texts": [shortened(text) for text in points.texts],
        "groups": points.groups,
        "places": np.round(project(vectors, method), 5).tolist(),
        "links": points.links,
    }


def all_maps(
    tasks: Sequence[EvaluationTask],
    encoders: Mapping[str, Encoder],
    method: str = "pca",
    *,
    force: bool = False,
) -> dict[tuple[str, str], dict[str, Any]]:
    """(task, model) -> `task_map`, of the kinds of task that have one."""
    made = {
        (task.name, name): task_map(encoder, task, method, label=f"map, {task.name}", force=force)
        for task in tasks
        for name, encoder in encoders.items()
    }
    return {key: plane for key, plane in made.items() if plane}


def write_projector(
    folder: Path, tasks: Sequence[EvaluationTask], encoders: Mapping[str, Encoder]
) -> None:
    """Writes the vectors of tasks for TensorBoard's projector.

    Args:
        folder: where; made if it is missing.
        tasks: tasks of types that have no map are left out.
        encoders: name -> model.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    named = []
    for task in tasks:
        points = task_points(task, _PROJECTED)
        for name, encoder in encoders.items() if points else ():
            vectors = encode_points(encoder, task, points, f"projector, {task.name}")
            named.append((f"{task.name}-{name}", vectors, points.texts, points.groups))
    projector.write_tables(folder, named)
