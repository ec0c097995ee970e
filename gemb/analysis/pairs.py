"""Two folders of vectors of the same items, matched by id."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gemb.checks import UserError
from gemb.store.embeddings import Embeddings, read_embeddings


class Pairs(NamedTuple):
    """Vectors of the same items by two models.

    Attributes:
        ids: of the items.
        old: [items, dim] floats.
        new: [items, dim'] floats.
        fingerprints: of the two models; "" for a .npy file.
        about: of both folders; {} for a .npy file.
    """

    ids: Sequence
    old: np.ndarray
    new: np.ndarray
    fingerprints: tuple[str, str]
    about: tuple[dict, dict]


def read_pairs(old: str | Path, new: str | Path, *, all_ids: bool = True) -> Pairs:
    """Reads two sets of vectors: folders of `gemb embed`, or .npy files.

    Args:
        old: of the old model.
        new: of the new model.
        all_ids: refuse ids that only one side has; otherwise those are left out.

    Raises:
        UserError: a missing or broken place, or ids that do not match.
    """
    left, right = (read_vectors(place) for place in (old, new))
    about = left.about, right.about
    prints = tuple(one.get("model", "") for one in about)
    if list(left.ids) == list(right.ids):
        return Pairs(left.ids, left.vectors, right.vectors, prints, about)
    rows = [{each: row for row, each in enumerate(side.ids)} for side in (left, right)]
    shared = [each for each in left.ids if each in rows[1]]
    lacking = len(rows[0]) + len(rows[1]) - 2 * len(shared)
    if not shared or (all_ids and lacking):
        raise UserError(
            f"{old} and {new}: {lacking} ids are in one of them only ({len(shared)} in both); "
            "encode the same items with both models"
        )
    chosen = ([side[each] for each in shared] for side in rows)
    made = [side.vectors[one] for side, one in zip((left, right), chosen, strict=True)]
    return Pairs(shared, *made, prints, about)


def read_vectors(place: str | Path) -> Embeddings:
    """A folder of `gemb embed`, or a .npy file, whose ids are its row numbers.

    Raises:
        UserError: a missing or broken place.
    """
    path = Path(place)
    if path.suffix != ".npy":
        return read_embeddings(path, model=None)
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read as .npy ({error})") from None
    if vectors.ndim != 2:
        raise UserError(f"{path}: expected [rows, dim] floats, got shape {vectors.shape}")
    return Embeddings(range(len(vectors)), vectors, {})
