"""Two versions of the vectors of the same items, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gemb.analysis.drift.clusters import k_means, nearest_centre
from gemb.analysis.drift.topics import word_shares
from gemb.analysis.neighbours import nearest, overlaps, rank_biased_overlap, unit
from gemb.checks import UserError
from gemb.metrics import distances, geometry
from gemb.metrics.projection import project
from gemb.metrics.ranking import retrieval_metrics
from gemb.metrics.significance import mean_interval, paired_bootstrap, paired_randomisation

_ROWS = 2_000  # rows for figures that need all pairs or all axes
_SHOWN, _MAPPED, _CLUSTERS, _AXES = 8, 400, 8, 32
_METRICS = ("ndcg@10", "recall@10")


def compare_vectors(
    old: np.ndarray,
    new: np.ndarray,
    *,
    texts: Sequence[str] | None = None,
    queries: tuple[np.ndarray, np.ndarray] | None = None,
    qrels: Sequence[Mapping[int, int]] | None = None,
    query_texts: Sequence[str] | None = None,
    k: int = 10,
    sample: int = 1_000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares two versions of the vectors of the same items.

    Args:
        old: [items, dim] floats.
        new: [items, dim'] floats; row i is the same item.
        texts: of the items, to show which moved and why.
        queries: vectors of the same queries by the old and the new model.
        qrels: for each query {item: grade}.
        query_texts: of the queries.
        k: neighbours compared.
        sample: items whose neighbours are looked up.
        seed: of the samples.

    Returns:
        "neighbours" (overlap and rank-biased overlap with 95 % intervals), "similarity" (linear
        CKA, Procrustes residual), "distances" (if both have one width), "geometry" of each,
        "movers", "map", and with qrels "metrics" and "wins". Plain values for a report.

    Raises:
        UserError: other numbers of rows, vectors that are not finite, or too few items for k.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(300, 8))
        >>> found = compare_vectors(rows, rows @ np.linalg.qr(rows[:8])[0], sample=50)
        >>> round(found["neighbours"]["overlap"][0], 6), round(found["similarity"]["cka"], 6)
        (1.0, 1.0)
    """
    old, new = _checked(old, new, k)
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(old))[:sample])
    found = [nearest(rows, rows[chosen], k, chosen)[0] for rows in (old, new)]
    shared, ranked = overlaps(*found), rank_biased_overlap(*found)
    some = np.sort(rng.permutation(len(old))[:_ROWS])
    left, right = (np.float64(unit(rows[some])) for rows in (old, new))
    tree = {
        "items": len(old),
        "dims": [old.shape[1], new.shape[1]],
        "k": k,
        "sample": len(chosen),
        "neighbours": {
            "overlap": [float(shared.mean()), *mean_interval(shared)],
            "rank_biased_overlap": [float(ranked.mean()), *mean_interval(ranked)],
        },
        "similarity": {"cka": linear_cka(left, right), "procrustes": procrustes(left, right)},
        "geometry": [_geometry(rows) for rows in (left, right)],
        "distances": _distances(left, right) if old.shape[1] == new.shape[1] else {},
        "movers": _movers(chosen, found, shared, texts, old, seed),
        "map": _maps(some[:_MAPPED], old, new, texts, seed),
    }
    if queries is not None and qrels is not None:
        tree |= _judged((old, new), queries, qrels, query_texts, k)
    return tree


def linear_cka(left: np.ndarray, right: np.ndarray) -> float:
    """Linear centred kernel alignment |Y'X|_F^2 / (|X'X|_F |Y'Y|_F); 1 up to rotation and scale.

    Args:
        left: [rows, dim] floats.
        right: [rows, dim'] floats.

    Reference: Kornblith, Norouzi, Lee and Hinton, Similarity of neural network representations
        revisited, 2019, arXiv 1905.00414.
    """
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    shared = np.sum(np.square(right.T @ left))
    sizes = [np.linalg.norm(rows.T @ rows) for rows in (left, right)]
    return float(shared / (sizes[0] * sizes[1])) if all(sizes) else 0.0


def procrustes(left: np.ndarray, right: np.ndarray) -> float:
    """What the best rotation, shift and scale leaves of the squared distance: 0 to 1.

    1 - (sum of the singular values of X'Y)^2 of centred sets of unit norm; the narrower set is
    widened by zeros

    Args:
        left: [rows, dim] floats.
        right: [rows, dim'] floats.
    """
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    sizes = [np.linalg.norm(rows) for rows in (left, right)]
    if not all(sizes):
        return 1.0
    values = np.linalg.svd(left.T @ right / (sizes[0] * sizes[1]), compute_uv=False)
    return float(max(0.0, 1 - values.sum() ** 2))


def shared_words(left: str, right: str) -> list[str]:
    """Words of three letters or more that two texts have in common."""
    return sorted(set(word_shares([left])) & set(word_shares([right])))


def _checked(old, new, k: int) -> tuple[np.ndarray, np.ndarray]:
    for name, rows in (("old", old), ("new", new)):
        if np.ndim(rows) != 2 or np.asarray(rows[:1]).dtype.kind != "f":
            raise UserError(f"{name}: expected [items, dim] floats, got shape {np.shape(rows)}")
        if not np.isfinite(np.sum(rows, dtype=np.float64)):
            raise UserError(f"{name}: expected finite values, got NaN or infinity")
    if len(old) != len(new):
        raise UserError(f"old has {len(old)} items and new {len(new)}; give the same items")
    if len(old) < k + 2:
        raise UserError(f"{len(old)} items are too few for {k} neighbours of each")
    return old, new


def _geometry(rows: np.ndarray) -> dict[str, float]:
    kept = rows[np.any(rows != 0, axis=1)]
    return {
        "effective_rank": geometry.effective_rank(kept),
        "isotropy": geometry.isotropy(kept),
        "mean_cosine": geometry.mean_cosine(kept),
    }


def _distances(left: np.ndarray, right: np.ndarray) -> dict[str, list[float]]:
    """Distance and expected value without change, on the old version's main axes."""
    values, axes = np.linalg.eigh(np.cov(left, rowvar=False))
    axes = axes[:, values > 1e-9 * values[-1]][:, -_AXES:]
    on_axes = left @ axes, right @ axes
    z = distances.RandomFeatures(left.shape[1], distances.median_distance(left))
    made = {
        "mean shift": distances.mean_shift(left, right),
        "mmd": distances.mmd_features(z(left), z(right)),
        "frechet": distances.frechet(*on_axes),
        "energy": distances.energy(left[:1_000], right[:1_000]),
    }
    if len(left) > 2 * on_axes[0].shape[1]:
        made["gaussian kl"] = distances.gaussian_kl(*on_axes)
    return {name: [one.value, one.expected] for name, one in made.items()}


def _movers(chosen, found, shared, texts, old, seed: int) -> list[dict[str, Any]]:
    """The items that lost most neighbours, and why lost and gained ones are near."""
    clusters = k_means(unit(old[:_ROWS]), 32, seed=seed)
    moved = []
    for row in np.argsort(shared, kind="stable")[:_SHOWN]:
        before, now = (list(rows[row]) for rows in found)
        item = int(chosen[row])
        sides = {
            "lost": [other for other in before if other not in now],
            "gained": [other for other in now if other not in before],
        }
        one = {"item": item, "overlap": float(shared[row])}
        if texts is not None:
            one["text"] = texts[item][:200]
        for side, others in sides.items():
            shown = [int(other) for other in others[:3]]
            own = nearest_centre(unit(old[[item, *shown]]), clusters)[0]
            one[side] = [
                {
                    "item": other,
                    "same_cluster": bool(own[0] == cluster),
                    **(
                        {}
                        if texts is None
                        else {
                            "text": texts[other][:200],
                            "words": shared_words(texts[item], texts[other]),
                        }
                    ),
                }
                for other, cluster in zip(shown, own[1:], strict=True)
            ]
        moved.append(one)
    return moved


def _maps(rows, old, new, texts, seed: int) -> dict[str, Any]:
    """Places of the same items in both versions; the new map is turned onto the old one."""
    left, right = (np.float64(unit(each[rows])) for each in (old, new))
    before, now = project(left), project(right)
    now = aligned(before, now)
    groups = nearest_centre(left, k_means(left, _CLUSTERS, seed=seed))[0]
    shown = [texts[row][:120] if texts is not None else f"item {row}" for row in rows]
    return {
        "groups": [f"cluster {group}" for group in groups],
        "texts": shown,
        "old": before.tolist(),
        "new": now.tolist(),
    }


def aligned(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """A map turned, mirrored and scaled so that its points are nearest to those of another.

    Args:
        before: [points, 2] centred.
        now: [points, 2] centred.
    """
    left, values, right = np.linalg.svd(now.T @ before)
    size = np.sum(np.square(now))
    return (now @ left @ right) * (values.sum() / size if size else 1.0)


def _judged(corpora, queries, qrels, query_texts, k: int) -> dict[str, Any]:
    """Figures of both versions by the queries' own judgements, with paired tests."""
    figures = []
    for corpus, asked in zip(corpora, queries, strict=True):
        if len(asked) != len(qrels):
            raise UserError(f"queries: {len(asked)} vectors, but {len(qrels)} are judged")
        rows, _ = nearest(corpus, asked, min(max(k, 10), len(corpus)))
        figures.append(retrieval_metrics(rows, qrels, recall_at=(10,)))
    metrics = {}
    for name in _METRICS:
        old, new = (np.asarray(one[name], np.float64) for one in figures)
        test = paired_bootstrap(old, new)
        metrics[name] = {
            "old": float(old.mean()),
            "new": float(new.mean()),
            **test._asdict(),
            "p_randomisation": paired_randomisation(old, new),
        }
    change = np.asarray(figures[1]["ndcg@10"]) - np.asarray(figures[0]["ndcg@10"])
    order = np.argsort(change, kind="stable")
    wins = {
        "better": [int(i) for i in order[::-1][:_SHOWN] if change[i] > 0],
        "worse": [int(i) for i in order[:_SHOWN] if change[i] < 0],
    }
    shown = {
        side: [
            {
                "query": query_texts[i] if query_texts is not None else f"query {i}",
                "old": float(figures[0]["ndcg@10"][i]),
                "new": float(figures[1]["ndcg@10"][i]),
            }
            for i in rows
        ]
        for side, rows in wins.items()
    }
    counts = [int(np.sum(c)) for c in (change > 0, change < 0, change == 0)]
    return {"metrics": metrics, "wins": shown | {"counts": counts}}
