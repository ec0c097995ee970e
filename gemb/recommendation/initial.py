"""First values of towers from a linear model: EASE's weights as two tables of low rank."""

import jax
import numpy as np

from gemb.checks import check
from gemb.models.encoders.features import FeaturesSpec
from gemb.models.functional import initial_params
from gemb.models.spec import ModelSpec
from gemb.processors.features import FeaturesProcessor
from gemb.processors.vocabularies import Vocabulary
from gemb.recommendation.baselines.baseline import interaction_matrix
from gemb.recommendation.baselines.item_weights import ease
from gemb.recommendation.links import HISTORY, ITEM, Links
from gemb.structs import SIDES

_TURNS, _SPARE = 5, 32  # of the subspace iteration
_CONTENT = 0.1  # of the usual spread: features start small next to the linear model


def linear_tables(
    links: Links, width: int, *, penalty: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Two tables whose products are EASE's scores as nearly as their width allows.

    With X the users' items and B EASE's weights, columns scaled by c: V are the first `width` right
    singular vectors of X B c, found by subspace iteration; the tables are B c V and V / c. c is the
    root of the columns' inverse length, so that rare items keep their share.

    Args:
        links: the training events.
        width: of the tables.
        penalty: EASE's.
        seed: of the iteration's start.

    Returns:
        [items, width] of a history's items and [items, width] of the items themselves: the sum of a
        user's rows of the first with a row of the second is its score.

    Reference: Steck, Embarrassingly Shallow Autoencoders for Sparse Data, WWW 2019, and Halko,
        Martinsson and Tropp, Finding structure with randomness, SIAM Review 2011.
    """
    users, items = len(links.data.users.ids), len(links.data.items.ids)
    check(width <= items, f"ease_penalty: a width of {width} needs as many items, there are {items}")
    matrix = interaction_matrix(links.split.train, users, items)
    weights = ease(links.split.train, users, items, penalty=penalty).weights
    length = np.sqrt(np.square(matrix @ weights).sum(axis=0))
    scale = 1 / np.sqrt(np.maximum(length, 1e-3))
    weights = weights * scale
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(items, min(width + _SPARE, items))).astype(np.float32)
    for _ in range(_TURNS):
        basis = np.linalg.qr(weights.T @ (matrix.T @ (matrix @ (weights @ basis))))[0]
    small = matrix @ (weights @ basis)
    order = np.linalg.eigh(small.T @ small)[1][:, ::-1]
    basis = basis @ order[:, :width]
    return weights @ basis, basis / scale[:, None]


def linear_params(
    spec: ModelSpec,
    processor: FeaturesProcessor,
    links: Links,
    *,
    penalty: float,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """A model's parameters with EASE in the tables of its histories and items; others are small.

    Both tables are scaled to rows of length 1 in the middle.

    Args:
        spec: of the model: its query side has a history with a table of its own, and its document
            side the items' ids.
        processor: of the model.
        links: the training events.
        penalty: EASE's.
        seed: of the other parameters.

    Raises:
        ValueError: for a model without these two tables.
    """
    encoder: FeaturesSpec = spec.query.encoder
    parts = {side: {part.name: part for part in getattr(encoder, side).parts} for side in SIDES}
    history, item = parts["query"].get(HISTORY), parts["document"].get(ITEM)
    fits = history is not None and item is not None and history.table != item.table
    words = processor.vocabulary(ITEM) if fits else None
    check(
        isinstance(words, Vocabulary),
        "ease_penalty: expected a history with a table of its own and the items' ids, not hashed",
    )
    made = {
        path: np.asarray(value) * (_CONTENT if path.startswith("features/") else 1)
        for path, value in initial_params(spec, jax.random.key(seed)).items()
    }
    rows = [words.of(name)[0] for name in links.data.items.ids]
    known = np.array(rows) >= encoder.untrained
    tables = linear_tables(links, encoder.width, penalty=penalty, seed=seed)
    for part, values in zip((history, item), tables, strict=True):
        table = np.zeros_like(made[f"features/tables/{part.table}"])
        lengths = np.linalg.norm(values, axis=1)
        table[np.array(rows)[known]] = (values / np.median(lengths[lengths > 0]))[known]
        made[f"features/tables/{part.table}"] = table
    return made
