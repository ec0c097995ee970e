"""A baseline with vectors of texts or of towers, with weights that validation chooses."""

import itertools
import time
from collections.abc import Sequence

import numpy as np

from gemb import metrics
from gemb.data.interactions.splits import Split
from gemb.recommendation.baselines.baseline import Baseline, interaction_matrix
from gemb.recommendation.baselines.registry import BASELINES
from gemb.recommendation.baselines.tuning import BLOCK, METRIC, Tuned, validation_figure
from gemb.recommendation.vectors import Fused, TextVectors, TwoStages, Vectors

CANDIDATES = 100  # of the first of two stages
WEIGHTS = (0.0, 0.03, 0.06, 0.12, 0.18, 0.25, 0.35, 0.5, 0.8)  # of the towers' own scores
OF_USER, OF_HISTORY = (0.0, 0.1, 0.2, 0.4), (0.0, 0.1, 0.2, 0.4)


def tune_fusion(
    base: Tuned,
    name: str,
    vectors: tuple[np.ndarray, np.ndarray],
    validation: Split,
    users: int,
    items: int,
) -> Tuned:
    """Adds text scores to a tuned baseline: base + a user text . item text + b history . item text.

    Args:
        base: the baseline, fitted on all train events.
        name: its name among `BASELINES`: it is fitted again on the train part of `validation`.
        vectors: [users, dim] and [items, dim] vectors of texts, unit length.
        validation: a split of the train events.
        users: how many users the table has.
        items: how many items the catalogue has.

    Returns:
        The fused model with the weights that are best on validation; 0 and 0 are among those tried.
    """
    start = time.perf_counter()
    parts = [
        BASELINES[name].fit(validation.train, users, items, **base.settings),
        TextVectors(*vectors, of_user=1.0, of_history=0.0),
        TextVectors(*vectors, of_user=0.0, of_history=1.0),
    ]
    candidates = [(1.0, *pair) for pair in itertools.product(OF_USER, OF_HISTORY)]
    figures = _figures(parts, candidates, validation, users, items)
    best = int(np.argmax(figures))
    _, of_user, of_history = candidates[best]
    text = TextVectors(*vectors, of_user=of_user, of_history=of_history)
    seconds = time.perf_counter() - start
    chosen = base.settings | {"of_user": of_user, "of_history": of_history}
    model = Fused([base.model, text], [1.0, 1.0])
    return Tuned(model, chosen, figures[best], len(candidates), seconds)


def tune_towers(
    base: Tuned,
    name: str,
    towers: Vectors,
    of_validation: Vectors,
    validation: Split,
    users: int,
    items: int,
) -> tuple[Tuned, Tuned]:
    """Combines towers with a tuned baseline: by two stages, and by a sum over all items.

    Args:
        base: the baseline, fitted on all train events.
        name: its name among `BASELINES`: it is fitted again on the train part of `validation`.
        towers: trained on all train events.
        of_validation: towers of the same experiment, trained on the train part of `validation`:
            those of all train events know the validation events already.
        validation: a split of the train events.
        users: how many users the table has.
        items: how many items the catalogue has.

    Returns:
        The towers' first items in the baseline's order, and the sum of both scores, each with the
        weight of the towers that is best on validation.
    """
    start = time.perf_counter()
    ranker = BASELINES[name].fit(validation.train, users, items, **base.settings)
    candidates = [(1.0, weight) for weight in WEIGHTS]
    figures = _figures([ranker, of_validation], candidates, validation, users, items)
    best = int(np.argmax(figures))
    fused = Fused([base.model, towers], candidates[best])
    chosen = base.settings | {"weight": WEIGHTS[best]}
    seconds = time.perf_counter() - start
    summed = Tuned(fused, chosen, figures[best], len(WEIGHTS), seconds)

    start = time.perf_counter()
    stages = TwoStages(of_validation, ranker, candidates=CANDIDATES)
    figures = []
    for weight in WEIGHTS:
        stages.weight = weight
        figures.append(validation_figure(stages, validation, users, items))
    best = int(np.argmax(figures))
    model = TwoStages(towers, base.model, candidates=CANDIDATES, weight=WEIGHTS[best])
    chosen = base.settings | {"candidates": CANDIDATES, "weight": WEIGHTS[best]}
    seconds = time.perf_counter() - start
    return Tuned(model, chosen, figures[best], len(WEIGHTS), seconds), summed


def _figures(
    parts: Sequence[Baseline],
    candidates: Sequence[tuple[float, ...]],
    split: Split,
    users: int,
    items: int,
) -> list[float]:
    """The mean nDCG@10 of the weighted sum of the parts, for each candidate's weights."""
    matrix = interaction_matrix(split.train, users, items)
    wanted = np.unique(split.test.user)
    sums = np.zeros(len(candidates))
    for start in range(0, len(wanted), BLOCK):
        rows = wanted[start : start + BLOCK]
        histories = matrix[rows]
        scores = [part.scores(histories, rows) for part in parts]
        inside = np.isin(split.test.user, rows)
        place = np.searchsorted(rows, split.test.user[inside])
        for number, weights in enumerate(candidates):
            mixed = sum(np.float32(w) * s for w, s in zip(weights, scores, strict=True))
            ranked = metrics.top_items(mixed, 10, histories.nonzero())
            found = metrics.recommendation_metrics(ranked, place, split.test.item[inside], at=(10,))
            sums[number] += found[METRIC].sum()
    return (sums / len(wanted)).tolist()
