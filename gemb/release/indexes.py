"""The index of a version: built, or an earlier one continued, and compared with exact search."""

from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.metrics.similarity import prepared
from gemb.release.encoding import Encoding
from gemb.search import DeltaSearcher, build, load_index, save_index

MOST_CHANGED, MOST_DELTAS = 0.1, 20
LOWEST_RECALL = 0.95
_CONTINUED = ("exact", "scann", "funnel", "funnel-scann")  # their scores are inner products
_HITS, _SAMPLE, _CHECKED, _ROWS = 10, 500, 50, 1 << 15


def continued(
    folder: Path, kind: str, parent: np.ndarray, rows_before: int, vectors: np.ndarray, encoding
) -> DeltaSearcher | None:
    """The index of the parent version with what changed since its base was built.

    Args:
        folder: of the parent's index.
        kind: of the base.
        parent: [rows] the parent's row of each document whose vector is the same; else -1.
        rows_before: documents of the parent.
        vectors: [rows, dim] of all documents now, prepared.
        encoding: the model.

    Returns:
        The index; None where it has to be built again: more than 10 % of the base changed, 20
        deltas, or a kind that has none.
    """
    if kind not in _CONTINUED:
        return None
    index = _load(folder, encoding)
    now = np.full(rows_before, -1)
    kept = np.flatnonzero(parent >= 0)
    now[parent[kept]] = kept
    base, rows, deltas = index, now, 1
    if isinstance(index, DeltaSearcher):
        base, deltas = index.base, index.deltas + 1
        rows = np.where(index.base_rows >= 0, now[index.base_rows], -1)
    held = int((rows >= 0).sum())
    changed = base.documents - held + len(vectors) - held
    if changed > MOST_CHANGED * base.documents or deltas > MOST_DELTAS:
        return None
    return DeltaSearcher(base, rows, vectors, deltas=deltas)


def built(kind: str, vectors: np.ndarray, texts, encoding: Encoding, *, target: float, sample=None):
    """A new index.

    Args:
        kind: one of `gemb.search.KINDS`.
        vectors: [rows, dim], prepared.
        texts: of the documents.
        encoding: the model.
        target: agreement with exact search, for kinds that are tuned.
        sample: [queries, dim], prepared; default some of the documents.
    """
    rng = np.random.default_rng(0)
    if sample is None:
        sample = vectors
    sample = sample[np.sort(rng.permutation(len(sample))[:_SAMPLE])]
    settings = {"widths": encoding.widths, "target": target, "sample": sample}
    try:
        return build(kind, vectors, texts=texts, k=min(_HITS, len(texts)), **settings)
    except ValueError as error:  # a corpus smaller than what is asked for
        raise UserError(f"index: {error}") from None


def save(folder: Path, index, encoding: Encoding, texts_fingerprint: str) -> None:
    """Writes the index folder of a version, next to its corpus and its model."""
    encoder = "../model" if encoding.folder else ""
    save_index(
        folder, index, model=encoding.fingerprint, similarity=encoding.space.similarity,
        corpus="../corpus", texts=texts_fingerprint, encoder=encoder,
    )  # fmt: skip


def _load(folder: Path, encoding: Encoding):
    return load_index(folder, model=encoding.fingerprint, similarity=encoding.space.similarity)


def products(vectors: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Rows whose inner products are the model's similarity."""
    try:
        return prepared(vectors, vectors.shape[1], encoding.space.similarity)
    except ValueError as error:
        raise UserError(f"vectors: {error}") from None


def check_recall(folder: Path, vectors: np.ndarray, queries: np.ndarray, encoding) -> float | None:
    """Compares an index folder with all scores, on a sample of queries.

    Args:
        folder: of the index.
        vectors: [rows, dim] of the documents, prepared.
        queries: [queries, dim] to sample from, prepared.
        encoding: the model.

    Returns:
        The share of the ten best that it finds; documents of equal scores count alike. None for
        kinds that read texts.

    Raises:
        UserError: it is below 0.95, or the index cannot be read.
    """
    index = _load(folder, encoding)
    if index.reads != "vectors":
        return None
    rng = np.random.default_rng(1)
    asked = np.asarray(queries[np.sort(rng.permutation(len(queries))[:_CHECKED])], np.float32)
    k = min(_HITS, len(vectors))
    best = np.full((len(asked), 0), -np.inf, np.float32)
    for start in range(0, len(vectors), _ROWS):
        scores = asked @ np.asarray(vectors[start : start + _ROWS], np.float32).T
        best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :k]
    rows = index.search(asked, k).indices
    held = np.einsum("qkd,qd->qk", vectors[np.maximum(rows, 0)], asked)
    recall = float(((held >= best[:, -1:] - 1e-5) & (rows >= 0)).mean())
    if recall < LOWEST_RECALL:
        raise UserError(
            f"{folder}: the index finds {recall:.3f} of the ten best, less than {LOWEST_RECALL}; "
            "raise --target or choose another --index_kind. Nothing was published"
        )
    return recall
