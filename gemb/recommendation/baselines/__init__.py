"""Baselines that every recommender is compared with, each a function of a user's items.

popularity, recent popularity, item-kNN, RP3beta, EASE and iALS. `registry.py` has them by name, and
the grid in which `tuning.py` chooses.
"""

from gemb.recommendation.baselines.baseline import Baseline, interaction_matrix
from gemb.recommendation.baselines.factors import Factors, ials
from gemb.recommendation.baselines.item_weights import ItemWeights, ease, item_knn, rp3beta
from gemb.recommendation.baselines.popularity import Popularity, popularity, recent_popularity
from gemb.recommendation.baselines.registry import BASELINES
from gemb.recommendation.baselines.tuning import Tuned, tune

__all__ = [
    "BASELINES",
    "Baseline",
    "Factors",
    "ItemWeights",
    "Popularity",
    "Tuned",
    "ease",
    "ials",
    "interaction_matrix",
    "item_knn",
    "popularity",
    "recent_popularity",
    "rp3beta",
    "tune",
]
