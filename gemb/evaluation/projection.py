"""Vectors on a plane: a task's texts under one model, in two dimensions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gemb import checks
from gemb.checks import needs, require
from gemb.evaluation.encoding import EncodedOnce, Encoder, with_prompts
from gemb.evaluation.kind import spaced
from gemb.evaluation.result_cache import remembered
from gemb.evaluation.tasks import Task

METHODS = ("pca", "tsne", "umap")
_LIBRARIES = {"tsne": ("sklearn", "eval"), "umap": ("umap", "maps")}  # and their extras
_LIMIT, _SHOWN = 400, 240  # points of a map, characters of a text


class Points(NamedTuple):
    """Texts to be put on a map.

    Attributes:
        texts: one a point.
        sides: "query" or "document", how each is encoded.
        groups: what tells points apart: a label, or which side they are.
        links: (point, point) pairs that belong together.
    """

    texts: list[str]
    sides: list[str]
    groups: list[str]
    links: list[tuple[int, int]]


def check_installed(method: str) -> None:
    """Checks, before texts are encoded for a map, that the library that lays it out is installed.

    Args:
        method: one of METHODS, or "none".

    Raises:
        MissingExtra: naming the extra to install.
    """
    if method in _LIBRARIES:
        library, extra = _LIBRARIES[method]
        require(library, f"--map={method}", extra=extra)


def project(vectors: np.ndarray, method: str = "pca", *, seed: int = 0) -> np.ndarray:
    """Lays vectors on a plane.

    Args:
        vectors: [points, dim] floats, two points at least.
        method: "pca", the two directions of the largest variance; "tsne" (scikit-learn) or "umap"
            (umap-learn, if installed), which keep neighbours together and make distances up.
        seed: of t-SNE and UMAP.

    Returns:
        [points, 2] float64, each coordinate centred; PCA's signs are such that the largest
        magnitude of each coordinate is positive.

    Raises:
        ValueError: an unknown method, fewer than two points, or values that are not finite.
        MissingExtra: scikit-learn (for t-SNE) or umap-learn is not installed.

    Example:
        >>> points = project(np.array([[0.0, 0.0], [0.0, 4.0], [1.0, 2.0]]))
        >>> np.abs(points[:, 0]).round(6).tolist()
        [2.0, 2.0, 0.0]

    Reference: van der Maaten and Hinton, Visualizing data using t-SNE, 2008; McInnes, Healy and
        Melville, UMAP, 2018, arXiv 1802.03426.
    """
    checks.check(method in METHODS, f"method: expected one of {METHODS}, got {method!r}")
    checks.check_rank("vectors", vectors, 2)
    checks.check(len(vectors) >= 2, f"vectors: expected 2 or more, got {len(vectors)}")
    checks.check(bool(np.isfinite(vectors).all()), "vectors: expected finite values")
    found = {"pca": _pca, "tsne": _tsne, "umap": _umap}[method](np.float64(vectors), seed)
    return found - found.mean(axis=0)


def _pca(vectors: np.ndarray, seed: int) -> np.ndarray:
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    found = np.zeros((len(vectors), 2))
    found[:, : min(2, len(sizes))] = left[:, :2] * sizes[:2]
    rows = np.argmax(np.abs(found), axis=0)
    signs = np.where(found[rows, [0, 1]] < 0, -1, 1)
    return found * signs + 0.0


def _tsne(vectors: np.ndarray, seed: int) -> np.ndarray:
    with needs("--map=tsne", extra="eval"):
        from sklearn.manifold import TSNE

    perplexity = min(30.0, max(1.0, (len(vectors) - 1) / 3))
    start = _pca(vectors, seed)
    start *= 1e-4 / max(start[:, 0].std(), 1e-12)
    return np.float64(
        TSNE(2, perplexity=perplexity, init=start, random_state=seed).fit_transform(vectors)
    )


def _umap(vectors: np.ndarray, seed: int) -> np.ndarray:
    with needs("--map=umap", extra="maps"):
        from umap import UMAP
    neighbours = min(15, len(vectors) - 1)
    return np.float64(UMAP(n_neighbors=neighbours, random_state=seed).fit_transform(vectors))


def task_points(task: Task, limit: int = _LIMIT) -> Points | None:
    """Some of a task's texts, evenly spaced; None for kinds that a map tells nothing of."""
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
    """A quarter queries, what answers them, and other documents; and the rows of each side."""
    queries = spaced(len(data["queries"]), limit // 4)
    right = [max(data["qrels"][row], key=data["qrels"][row].get) for row in queries]
    others = spaced(len(data["documents"]), limit - len(queries) - len(set(right)))
    documents = list(dict.fromkeys([*right, *others]))
    place = {row: len(queries) + i for i, row in enumerate(documents)}
    texts = [data["queries"][row] for row in queries] + [data["documents"][r] for r in documents]
    sides = ["query"] * len(queries) + ["document"] * len(documents)
    links = [(i, place[row]) for i, row in enumerate(right)]
    return Points(texts, sides, sides, links), {"query": queries, "document": documents}


def encode_points(encoder: Encoder, task: Task, points: Points, label: str = "") -> np.ndarray:
    """[points, dim] the vectors of a map's texts, under the task's prompts."""
    model, vectors = EncodedOnce(with_prompts(encoder, task.prompts)), {}
    for side in dict.fromkeys(points.sides):
        rows = [i for i, one in enumerate(points.sides) if one == side]
        found = model.vectors([points.texts[i] for i in rows], side, label)
        vectors |= dict(zip(rows, found, strict=True))
    return np.stack([vectors[i] for i in range(len(points.texts))])


def task_map(
    encoder: Encoder,
    task: Task,
    method: str = "pca",
    *,
    label: str = "",
    cache: Path | None = None,
    force: bool = False,
) -> dict[str, Any] | None:
    """A map of a task's texts under one model, read from the cache where it is there.

    Args:
        encoder: the model.
        task: the task.
        method: one of METHODS.
        label: of the progress bar.
        cache: folder of the cache; default below `gemb.files.cache_dir()`.
        force: make it anew although it is there.

    Returns:
        {"method", "texts", "groups", "places" [points, 2], "links"}, texts cut to 240 characters;
        None for kinds of task that a map tells nothing of.

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
        retrieval_set: see `gemb.evaluation.retrieval`.
        queries: [queries, dim] floats.
        documents: [documents, dim] floats.
        method: one of METHODS.
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
    tasks: Sequence[Task],
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


def shortened(text: str) -> str:
    """On one line, cut to 240 characters."""
    text = " ".join(str(text).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "\u2026"
