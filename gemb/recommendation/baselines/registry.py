"""The baselines by name, and the settings among which validation chooses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from gemb.recommendation.baselines.baseline import Baseline
from gemb.recommendation.baselines.factors import ials
from gemb.recommendation.baselines.item_weights import ease, item_knn, rp3beta
from gemb.recommendation.baselines.popularity import popularity, recent_popularity


class Recipe(NamedTuple):
    """How a baseline is fitted, and what is tried.

    Attributes:
        fit: (events, users, items, **settings) -> the fitted baseline.
        grid: setting -> values; every combination is a candidate.
        needs_times: whether events without times cannot be used.
    """

    fit: Callable[..., Baseline]
    grid: Mapping[str, Sequence[Any]]
    needs_times: bool = False


BASELINES = {
    "popularity": Recipe(popularity, {}),
    "recent popularity": Recipe(
        recent_popularity, {"half_life": (0.02, 0.05, 0.1, 0.25, 1.0)}, needs_times=True
    ),
    "item-kNN": Recipe(item_knn, {"neighbours": (0, 50, 200), "shrink": (0.0, 5.0, 20.0)}),
    "RP3beta": Recipe(
        rp3beta,
        {"alpha": (0.6, 0.8, 1.0, 1.2), "beta": (0.2, 0.4, 0.6), "neighbours": (100, 0)},
    ),
    "EASE": Recipe(ease, {"penalty": (10.0, 30.0, 100.0, 200.0, 400.0, 800.0)}),
    "iALS": Recipe(
        ials,
        {
            "dim": (32, 128),
            "unobserved": (0.03, 0.1, 0.3),
            "regularisation": (0.003, 0.01, 0.03),
        },
    ),
}
