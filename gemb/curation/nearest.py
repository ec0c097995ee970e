"""The searcher of curation: exact, or a ScaNN index that is saved for resumed runs."""

from pathlib import Path

import numpy as np

from gemb.checks import UserError, require
from gemb.search import ExactSearcher, ScannSearcher, Searcher, load_index, save_index, scann, tune

SEARCHES = ("auto", "exact", "scann")
_SMALL = 20_000  # up to this size exact search is as fast as building an index
_SAMPLE = 300


def check_installed(kind: str) -> None:
    """Checks that the searcher is installed, before vectors are made.

    Args:
        kind: one of SEARCHES.

    Raises:
        MissingExtra: "scann" is asked for and not installed.
    """
    if kind == "scann":
        require("scann", "--search=scann", extra="scann")


def searcher(
    vectors: np.ndarray,
    kind: str,
    folder: Path,
    *,
    key: str,
    k: int,
    sample: np.ndarray = (),
    target: float | None = 0.99,
) -> Searcher:
    """A searcher over vectors.

    Args:
        vectors: [documents, dim], optionally mapped from disk.
        kind: "exact", "scann", or "auto": ScaNN where it is installed and there are more than
            20,000 documents.
        folder: where a ScaNN index is saved: two builds differ slightly, and a resumed run must
            find the same documents as before.
        key: identifies the vectors.
        k: neighbours per search.
        sample: [queries, dim] to tune ScaNN with.
        target: ScaNN's recall of the k on the sample; None for its careful defaults, untuned.

    Raises:
        UserError: unusable vectors, ScaNN asked for and not installed, or the target out of reach.
    """
    if kind not in SEARCHES:
        raise UserError(f"search: expected one of {', '.join(SEARCHES)}, got {kind!r}")
    if kind == "auto":
        kind = "scann" if len(vectors) > _SMALL and scann.available() else "exact"
    try:
        if kind == "exact":
            return ExactSearcher(vectors)
        place = Path(folder) / f"scann-{key}-{k}"
        if place.exists():
            return load_index(place, model=key)
        made = ScannSearcher(vectors)
        if target is not None and len(sample) > 1:
            asked = np.asarray(sample[:_SAMPLE], np.float32)
            tune(made, vectors, asked, k=min(k, len(vectors)), target=target)
        save_index(place, made, model=key)
        return made
    except ValueError as error:
        raise UserError(str(error)) from None
