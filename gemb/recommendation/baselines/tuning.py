"""Chooses a baseline's settings on validation events that are taken out of the train events."""

import itertools
import time
from typing import Any, NamedTuple

import numpy as np

from gemb import metrics
from gemb.data.interactions import splits
from gemb.data.interactions.splits import Split
from gemb.recommendation.baselines.baseline import Baseline, interaction_matrix
from gemb.recommendation.baselines.registry import BASELINES
from gemb.structs import Interactions

BLOCK = 1024  # users scored at a time
METRIC = "ndcg@10"


class Tuned(NamedTuple):
    """A baseline fitted on all train events with the settings that validation chose.

    All but the model are None for a model that came fitted.

    Attributes:
        model: the baseline.
        settings: those chosen.
        validation: its nDCG@10 on the validation events.
        tried: how many settings were tried.
        fit_seconds: what fitting it on all train events took.
    """

    model: Baseline
    settings: dict[str, Any] | None
    validation: float | None
    tried: int | None
    fit_seconds: float | None


def tune(
    name: str,
    train: Interactions,
    validation: Split,
    users: int,
    items: int,
    *,
    budget: int = 0,
    seed: int = 0,
) -> Tuned:
    """Fits a baseline with each setting on the rest of train, and the best again on all of it.

    Args:
        name: of `BASELINES`.
        train: all train events.
        validation: a split of `train`.
        users: how many users the table has.
        items: how many items the catalogue has.
        budget: settings to try at most, drawn from the grid; 0: all of them.
        seed: of that draw.

    Returns:
        The fitted baseline; of equal figures the setting that comes first in the grid.
    """
    recipe = BASELINES[name]
    candidates = [
        dict(zip(recipe.grid, values, strict=True))
        for values in itertools.product(*recipe.grid.values())
    ]
    if 0 < budget < len(candidates):
        kept = np.random.default_rng(seed).permutation(len(candidates))[:budget]
        candidates = [candidates[place] for place in np.sort(kept)]
    figures = []
    for settings in candidates if len(candidates) > 1 else ():
        model = recipe.fit(validation.train, users, items, **settings)
        figures.append(validation_figure(model, validation, users, items))
    best = int(np.argmax(figures)) if figures else 0
    start = time.perf_counter()
    model = recipe.fit(train, users, items, **candidates[best])
    seconds = time.perf_counter() - start
    found = figures[best] if figures else None
    return Tuned(model, candidates[best], found, len(candidates), seconds)


def validation_figure(model: Baseline, split: Split, users: int, items: int) -> float:
    """The mean nDCG@10 over the users who have a validation event."""
    ranked, wanted = rank_users(model, split, users, items, 10)
    place = np.searchsorted(wanted, split.test.user)
    values = metrics.recommendation_metrics(ranked, place, split.test.item, at=(10,))
    return float(values[METRIC].mean())


def rank_users(
    model: Baseline, split: Split, users: int, items: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first k items for every user with a test event, without the user's train items.

    Args:
        model: anything with `scores`.
        split: train and test events.
        users: how many users the table has.
        items: how many items the catalogue has.
        k: items for each user.

    Returns:
        [wanted, k] items, -1 for none, and [wanted] the users in order.
    """
    matrix = interaction_matrix(split.train, users, items)
    wanted = np.unique(split.test.user)
    ranked = []
    for start in range(0, len(wanted), BLOCK):
        rows = wanted[start : start + BLOCK]
        histories = matrix[rows]
        scores = model.scores(histories, rows)
        ranked.append(metrics.top_items(scores, k, histories.nonzero()))
    return np.concatenate(ranked), wanted


def validation_split(train: Interactions, *, one_each: bool, seed: int = 0) -> Split:
    """Validation events out of train: one event of every user, or a tenth of each user's.

    Args:
        train: all train events.
        one_each: whether it is one, as where the test has one event for each user.
        seed: of the draws.
    """
    return splits.random(train, share=0.1, count=int(one_each), seed=seed)


def inner_split(split: Split, *, seed: int = 0) -> Split:
    """The validation events of a split's train events, in the form of its test.

    Args:
        split: train and test events.
        seed: of the draws.
    """
    one_each = len(np.unique(split.test.user)) == len(split.test.user)
    return validation_split(split.train, one_each=one_each, seed=seed)
