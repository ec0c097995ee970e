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
_SAMPLE, _SHARPNESS = 1_000, np.geomspace(1, 1_000, 25)


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
    check(
        width <= items, f"ease_penalty: a width of {width} needs as many items, there are {items}"
    )
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


def sharpness(links: Links, tables: tuple[np.ndarray, np.ndarray], pool: str) -> float:
    """The factor of scores with which the softmax finds training events best.

    A user's score of its own item is that of its other items, because EASE's weights have no
    diagonal; its other items do not compete.

    Args:
        links: the training events, of which a thousand are read.
        tables: of `linear_tables`.
        pool: how rows of a history are joined, "root", "mean", or anything else for their sum.
    """
    train = links.split.train
    rows = np.random.default_rng(0).permutation(len(train.user))[:_SAMPLE]
    matrix = interaction_matrix(train, len(links.data.users.ids), len(links.data.items.ids))
    own, item = matrix[train.user[rows]], np.asarray(train.item[rows])
    counts = np.maximum(np.diff(own.indptr) - 1, 1)[:, None]
    power = {"root": 0.5, "mean": 1.0}.get(pool, 0.0)
    scores = (own @ tables[0] - tables[0][item]) @ tables[1].T / counts**power
    target = scores[np.arange(len(rows)), item]
    scores[own.nonzero()] = -np.inf
    losses = []
    for factor in _SHARPNESS:
        logits = factor * (scores - target[:, None])
        losses.append(np.mean(np.log1p(np.exp(np.minimum(logits, 60)).sum(axis=1))))
    return float(_SHARPNESS[int(np.argmin(losses))])


def linear_params(
    spec: ModelSpec,
    processor: FeaturesProcessor,
    links: Links,
    *,
    penalty: float,
    temperature: float,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """A model's parameters with EASE in the tables of its histories and items; others are small.

    Both tables have rows of the same length in the middle, and the scale at which the temperature
    is best for them.

    Args:
        spec: of the model: its query side has a history with a table of its own, and its document
            side the items' ids.
        processor: of the model.
        links: the training events.
        penalty: EASE's.
        temperature: of the loss.
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
    middle = [np.median(np.linalg.norm(values, axis=1)) for values in tables]
    factor = np.sqrt(sharpness(links, tables, history.pool) * temperature * np.prod(middle))
    for part, values, length in zip((history, item), tables, middle, strict=True):
        table = np.zeros_like(made[f"features/tables/{part.table}"])
        table[np.array(rows)[known]] = (factor / length * values)[known]
        made[f"features/tables/{part.table}"] = table
    return made
