"""A linear model next to towers: EASE's weights as two tables of low rank, the wide part."""

import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from gemb.checks import UserError, check, check_names
from gemb.models.functional import initial_params
from gemb.models.model import Model
from gemb.processors.vocabularies import Vocabulary
from gemb.recommendation.baselines.baseline import interaction_matrix
from gemb.recommendation.baselines.item_weights import ease
from gemb.recommendation.links import ITEM, Links
from gemb.structs import SIDES

_TURNS, _SPARE = 5, 32  # of the subspace iteration


@dataclasses.dataclass(frozen=True)
class Linear:
    """Settings of the wide part: EASE's scores, added to the cosine of the deep part.

    Attributes:
        penalty: EASE's; `gemb baselines` chooses it on validation.
        width: coordinates, at most; there are no more than items. See `linear_tables`.
        weight: of a user's score, the sum over its history divided by the root of its length, next
            to the deep part's cosine. Choose it on validation.
    """

    penalty: float
    width: int = 1024
    weight: float = 4.0

    def __post_init__(self):
        for name in ("penalty", "width", "weight"):
            value = getattr(self, name)
            check(value > 0, f"linear: {name}: expected more than 0, got {value!r}")

    @classmethod
    def of(cls, fields: Mapping) -> "Linear":
        """Reads the settings.

        Raises:
            UserError: for an unknown or a missing field.
        """
        check_names("linear", fields, [field.name for field in dataclasses.fields(cls)])
        if "penalty" not in fields:
            raise UserError("linear: expected a penalty; `gemb baselines` chooses EASE's")
        return cls(**fields)


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
    check(width <= items, f"linear: a width of {width} needs as many items, there are {items}")
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


def with_linear(model: Model, links: Links, settings: Linear, seed: int = 0) -> Model:
    """A model with EASE in the tables of its wide part; its other parameters are random.

    Args:
        model: over features, whose spec has a wide part.
        links: the training events.
        settings: of the linear model.
        seed: of the random parameters.

    Raises:
        ValueError: for hashed ids.
    """
    processor = model.processors.query
    words = processor.vocabulary(ITEM)
    check(isinstance(words, Vocabulary), "linear: expected ids of items with a vocabulary")
    first = model.spec.query.encoder.untrained
    rows = np.array([words.of(name)[0] for name in links.data.items.ids])
    made = {
        path: np.asarray(v) for path, v in initial_params(model.spec, jax.random.key(seed)).items()
    }
    width = model.spec.query.encoder.wide.width
    tables = linear_tables(links, width, penalty=settings.penalty)
    middle = [np.median(np.linalg.norm(values, axis=1)) for values in tables]
    lengths = np.sqrt(settings.weight * np.prod(middle)) / middle  # both tables equally long
    for side, values, length in zip(SIDES, tables, lengths, strict=True):
        path = f"features/wide/{side}"
        table = np.zeros_like(made[path])
        table[rows[rows >= first]] = length * values[rows >= first]
        made[path] = table
    return model.with_params(made)
