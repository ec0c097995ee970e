"""Measures of recommendation over the whole catalogue: no sampled negatives, ties by item order.

A list is made of all items that a user has not had. Equal scores are in the order of the catalogue,
so that constant scores get what the order of the catalogue gets, and a target gains nothing from a
tie. Scores are compared as float32.
"""

from collections.abc import Sequence

import numpy as np

from gemb import checks

TAIL = 10  # train events of an item, at most, that is in the tail
NONE = -1


def top_items(scores: np.ndarray, k: int, seen: tuple[np.ndarray, np.ndarray] | None = None):
    """The k items with the highest scores of each row, equal scores in the order of items.

    Args:
        scores: [rows, items]; an item with -inf or NaN is never recommended.
        k: how many; a row with fewer ends with -1.
        seen: (rows, items) to leave out, two arrays of one length.

    Returns:
        [rows, min(k, items)] int32 items, best first; -1 behind the last.

    Raises:
        ValueError: scores that are not a matrix, or a k below 1.

    Example:
        >>> top_items(np.array([[0.5, 0.5, 0.9, 0.5]]), 3)
        array([[2, 0, 1]], dtype=int32)
    """
    checks.check_rank("scores", scores, 2)
    checks.check(k >= 1, f"k: expected at least 1, got {k}")
    scores = np.array(scores, np.float32)  # a copy
    if seen is not None:
        scores[seen] = -np.inf
    scores[np.isnan(scores)] = -np.inf
    count, items = scores.shape
    k = min(k, items)
    least = np.partition(scores, items - k, axis=1)[:, items - k]  # the k-th highest
    row, item = np.nonzero((scores >= least[:, None]) & (scores > -np.inf))
    order = np.lexsort((item, -scores[row, item], row))
    row, item = row[order], item[order]
    place = np.arange(len(row)) - np.searchsorted(row, np.arange(count))[row]
    ranked = np.full((count, k), NONE, np.int32)
    ranked[row[place < k], place[place < k]] = item[place < k]
    return ranked


def recommendation_metrics(
    ranked: np.ndarray,
    user: np.ndarray,
    item: np.ndarray,
    *,
    at: Sequence[int] = (10, 20, 100),
) -> dict[str, np.ndarray]:
    """Scores each user's list against the items that the user really took.

    HR@k = 1 if a target is among the first k; recall@k = targets among the first k / targets;
    nDCG@k = sum 1 / log2(rank + 1) over the targets found, divided by the same sum for
    min(k, targets) targets in front; MRR@k = 1 / rank of the first target, 0 behind k.

    Args:
        ranked: [users, k] items, best first, -1 for none; row u is the list of user u.
        user: [targets] rows of `ranked`.
        item: [targets] the item looked for; every pair once.
        at: cut-offs.

    Returns:
        "hr@10", "recall@10", "ndcg@10", "mrr@10", ... -> [users] float64; 0 for users without
        targets.

    Raises:
        ValueError: wrong shapes, a target twice, or a cut-off beyond the lists.

    Example:
        >>> found = recommendation_metrics(np.array([[7, 3, 5]]), [0, 0], [3, 9], at=(2,))
        >>> {name: round(float(value[0]), 3) for name, value in found.items()}
        {'hr@2': 1.0, 'recall@2': 0.5, 'ndcg@2': 0.387, 'mrr@2': 0.5}

    Reference: Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques, 2002;
        Krichene and Rendle, On sampled metrics for item recommendation, KDD 2020.
    """
    hits, targets = target_hits(ranked, user, item)
    longest = hits.shape[1]
    for cut in at:
        checks.check(cut >= 1, f"at: expected cut-offs of 1 and more, got {cut}")
    discount = 1 / np.log2(np.arange(2, longest + 2))
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, max(at) + 2)))])
    first = np.where(hits.any(axis=1), hits.argmax(axis=1), longest)
    values = {}
    for cut in at:
        found = hits[:, :cut].sum(axis=1)
        best = ideal[np.minimum(targets, cut)]
        values[f"hr@{cut}"] = (found > 0).astype(np.float64)
        values[f"recall@{cut}"] = _share(found, targets)
        values[f"ndcg@{cut}"] = _share(hits[:, :cut] @ discount[:cut], best)
        values[f"mrr@{cut}"] = np.where(first < min(cut, longest), 1 / (first + 1.0), 0.0)
    return values


def catalogue_metrics(ranked: np.ndarray, train_counts: np.ndarray, users: int) -> dict[str, float]:
    """What the lists of all users together show of the catalogue.

    coverage = distinct items recommended / catalogue; novelty = mean of -log2(share of the train
    users with the item, an item without any counting as half a user); Gini = 0 if all items are
    recommended equally often, 1 - 1/items if one alone is.

    Args:
        ranked: [users, k] items, -1 for none; cut it to the k that is measured.
        train_counts: [items] train events of each item.
        users: how many train users there are.

    Returns:
        "coverage", "novelty" and "gini".

    Raises:
        ValueError: no item is recommended.

    Example:
        >>> found = catalogue_metrics(np.array([[0, 1], [0, 2]]), np.array([2, 1, 1, 4]), 4)
        >>> found["coverage"], round(found["novelty"], 2), round(found["gini"], 3)
        (0.75, 1.5, 0.375)

    Reference: Castells, Hurley and Vargas, Novelty and diversity in recommender systems, 2015.
    """
    shown = ranked[ranked >= 0]
    checks.check(len(shown) > 0, "ranked: expected at least one item, got none")
    counts = np.sort(np.bincount(shown, minlength=len(train_counts)))
    places = np.arange(1, len(counts) + 1)
    gini = np.sum((2 * places - len(counts) - 1) * counts) / (len(counts) * counts.sum())
    rarity = -np.log2(np.maximum(train_counts[shown], 0.5) / users)
    return {
        "coverage": float(np.mean(counts > 0)),
        "novelty": float(rarity.mean()),
        "gini": float(gini),
    }


def part_recall(
    ranked: np.ndarray, user: np.ndarray, item: np.ndarray, part: np.ndarray
) -> float | None:
    """The share of the targets of some items that are in their user's list.

    Args:
        ranked: [users, k] items, best first; cut it to the k that is measured.
        user: [targets] rows of `ranked`.
        item: [targets] the items looked for.
        part: [items] bool, the items that count, such as those with few train events.

    Returns:
        The recall over these targets together; None without any.
    """
    user, item = np.asarray(user), np.asarray(item)
    wanted = part[item]
    if not wanted.any():
        return None
    found = (ranked[user[wanted]] == item[wanted][:, None]).any(axis=1)
    return float(found.mean())


def target_hits(ranked: np.ndarray, user: np.ndarray, item: np.ndarray):
    """Which places of each list hold a target, [users, k] bool, and [users] targets.

    Raises:
        ValueError: wrong shapes, or a target twice.
    """
    ranked, user, item = np.asarray(ranked), np.asarray(user), np.asarray(item)
    checks.check_rank("ranked", ranked, 2)
    checks.check_integer("ranked", ranked)
    checks.check_shape("item", item, user.shape)
    size = 1 + int(max(ranked.max(initial=0), item.max(initial=0)))
    pairs = user.astype(np.int64) * size + item
    checks.check(len(np.unique(pairs)) == len(pairs), "item: a target of a user occurs twice")
    keys = np.arange(len(ranked), dtype=np.int64)[:, None] * size + ranked
    hits = np.isin(keys, pairs) & (ranked >= 0)
    return hits, np.bincount(user, minlength=len(ranked))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
