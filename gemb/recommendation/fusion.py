"""Late fusion of a baseline with vectors of texts, with weights that validation chooses."""

import itertools
import time
from collections.abc import Sequence

import numpy as np

from gemb import metrics
from gemb.data.interactions.splits import Split
from gemb.recommendation.baselines.baseline import Baseline, interaction_matrix
from gemb.recommendation.baselines.registry import BASELINES
from gemb.recommendation.baselines.tuning import BLOCK, METRIC, Tuned
from gemb.recommendation.vectors import Fused, TextVectors

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
