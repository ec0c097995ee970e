"""A table of vectors for Embedding Atlas: a map, neighbours, texts.

Embedding Atlas (github.com/apple/embedding-atlas) reads Parquet: `embedding-atlas map.parquet
--x x --y y --neighbors neighbors --text text`. Coordinates are scaled to 0..1, because far larger
ones vanish when it zooms.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gemb.analysis.neighbours import nearest
from gemb.analysis.versions import aligned
from gemb.checks import UserError
from gemb.data.sources.columnar import write_parquet
from gemb.metrics.projection import project


def write_atlas(
    path: str | Path,
    vectors: np.ndarray,
    *,
    ids: Sequence | None = None,
    texts: Sequence[str] | None = None,
    other: np.ndarray | None = None,
    method: str = "pca",
    neighbours: int = 15,
) -> None:
    """Writes the table; an existing file is replaced in one step.

    Args:
        path: of the Parquet file.
        vectors: [rows, dim] floats.
        ids: of the rows; default their numbers.
        texts: of the rows.
        other: [rows, dim'] vectors of the same rows by another model; their map is turned onto the
            first one, as columns x_other and y_other.
        method: of `gemb.metrics.projection.project`.
        neighbours: per row, by cosine.

    Raises:
        UserError: fewer than three rows, other numbers of rows, or values that are not finite.
        MissingExtra: pyarrow, or what the method needs, is not installed.
    """
    rows = len(vectors)
    if rows < 3:
        raise UserError(f"vectors: {rows} rows are too few for a map")
    for name, each in (("texts", texts), ("ids", ids), ("the other version", other)):
        if each is not None and len(each) != rows:
            raise UserError(f"{name}: {len(each)} rows, but there are {rows} vectors")
    if not np.isfinite(np.sum(vectors, dtype=np.float64)):
        raise UserError("vectors: expected finite values, got NaN or infinity")
    place = project(np.float64(vectors), method)
    count = min(neighbours, rows - 1)
    found, cosines = nearest(vectors, vectors, count, np.arange(rows))
    columns = {"id": [str(each) for each in (range(rows) if ids is None else ids)]}
    if texts is not None:
        columns["text"] = list(texts)
    scaled = between_0_and_1(place)
    columns |= {"x": scaled[:, 0], "y": scaled[:, 1]}
    columns["neighbors"] = [
        {"ids": row.tolist(), "distances": (1 - near).tolist()}
        for row, near in zip(found, cosines, strict=True)
    ]
    if other is not None:
        turned = between_0_and_1(aligned(place, project(np.float64(other), method)))
        columns |= {"x_other": turned[:, 0], "y_other": turned[:, 1]}
        theirs, _ = nearest(other, other, count, np.arange(rows))
        shared = [len(set(a) & set(b)) / count for a, b in zip(found, theirs, strict=True)]
        columns["overlap"] = np.array(shared)
    write_parquet(path, columns)


def between_0_and_1(places: np.ndarray) -> np.ndarray:
    """[points, 2] float32: moved and scaled, with one scale for both axes."""
    low = places.min(axis=0)
    size = float((places - low).max())
    return ((places - low) / (size or 1.0)).astype(np.float32)
