"""Fits adapters between two models on pairs of vectors, and measures what they keep.

Every kind is fitted on nine tenths of the pairs. The kind whose neighbours agree most with those of
encoding again, on the held-out tenth, is fitted on all pairs. What it keeps is estimated by five
folds, so that every pair is mapped by an adapter that has not seen it and neighbours are looked up
among all pairs: among a tenth of them there are fewer neighbours to confuse, which flatters. The
estimate is reported next to that of the old model left alone, because between architectures an
adapter for queries is often worse than the latter.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gemb.analysis.neighbours import nearest, overlaps, unit
from gemb.checks import UserError
from gemb.metrics.ranking import retrieval_metrics
from gemb.models.adapters import Adapter

_RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean variance
_RANK, _WIDTH, _STEPS, _RATE = 64, 256, 300, 1e-3
_QUERIES = 1_000  # held-out rows that agreement is measured with
_NEAR = 0.005  # a simpler kind that agrees as well but for this is taken
_FOLDS = 5
_LEAST = 0.9  # agreement below which the pairs are probably of another domain
Arrays = dict[str, np.ndarray]


def fit_adapter(
    old: np.ndarray,
    new: np.ndarray,
    *,
    direction: str = "documents",
    fingerprints: tuple[str, str] = ("", ""),
    kinds: Sequence[str] = (),
    about: Mapping = {},
    seed: int = 0,
) -> Adapter:
    """Fits an adapter between the spaces of two models.

    Args:
        old: [pairs, dim] vectors by the old model.
        new: [pairs, dim'] vectors of the same texts by the new one.
        direction: "documents" maps old documents into the new space, "queries" new queries into
            the old one.
        fingerprints: of the old and the new model.
        kinds: names of `KINDS` to try; default all.
        about: kept with the adapter.
        seed: of the split and of the network.

    Returns:
        The adapter; `measured` has "cosine", "rows", for each kind "agreement" (neighbours shared
        with encoding again, among the held-out tenth, by which the kind is chosen), "estimate" (of
        the chosen kind, by folds, among all pairs), "old_agreement" (of the old model left alone,
        likewise), and "warning", "" if there is none.

    Raises:
        UserError: other numbers of pairs, fewer pairs than the width, values that are not finite,
            or two equal models.
    """
    _check(old, new, fingerprints)
    source, target = (old, new) if direction == "documents" else (new, old)
    x, y = unit(source), unit(target)
    order = np.random.default_rng(seed).permutation(len(x))
    held, rest = order[: len(x) // 10], order[len(x) // 10 :]
    ends = fingerprints if direction == "documents" else fingerprints[::-1]
    trials = {
        kind: Adapter(kind, direction, *ends, KINDS[kind](x[rest], y[rest]))(x[held])
        for kind in kinds or KINDS
    }
    agreement = {kind: _agreement(trial, y[held], direction) for kind, trial in trials.items()}
    enough = max(agreement.values()) - _NEAR
    best = next(kind for kind in agreement if agreement[kind] >= enough)
    estimate = _agreement(_by_folds(KINDS[best], x, y, seed), y, direction)
    alone = _agreement(x, y, direction, alone=x)
    measured = {
        "cosine": float(np.mean(np.einsum("nd,nd->n", trials[best], y[held]))),
        "rows": len(held),
        "pairs": len(x),
        "agreement": agreement,
        "estimate": estimate,
        "old_agreement": alone,
        "warning": _warning(estimate, alone),
    }
    return Adapter(best, direction, *ends, KINDS[best](x, y), measured, dict(about))


def judged_retention(
    adapter: Adapter,
    documents: tuple[np.ndarray, np.ndarray],
    queries: tuple[np.ndarray, np.ndarray],
    qrels: Sequence[Mapping[int, int]],
) -> dict[str, Any]:
    """What an adapter keeps by the judgements of queries.

    Args:
        adapter: between the two models.
        documents: vectors of the same documents by the old and the new model.
        queries: vectors of the same queries by the old and the new model.
        qrels: for each query {document: grade}.

    Returns:
        recall@10 of "old" left alone, "new" after encoding again, "adapter", and the shares
        "of_new" and "of_old" that the adapter keeps.
    """

    def recall(corpus, asked) -> float:
        rows, _ = nearest(corpus, asked, min(10, len(corpus)))
        return float(np.mean(retrieval_metrics(rows, qrels, recall_at=(10,))["recall@10"]))

    if adapter.direction == "documents":
        mapped = recall(adapter(documents[0]), queries[1])
    else:
        mapped = recall(documents[0], adapter(queries[1]))
    old, new = (recall(*pair) for pair in zip(documents, queries, strict=True))
    shares = {
        name: mapped / value if value else 0.0 for name, value in (("new", new), ("old", old))
    }
    return {
        "old": old,
        "new": new,
        "adapter": mapped,
        "of_new": shares["new"],
        "of_old": shares["old"],
    }


def rotation(x: np.ndarray, y: np.ndarray) -> Arrays:
    """Centred orthogonal Procrustes: U S V' = (x - mx)' (y - my), weights U V'.

    Reference: Schoenemann, A generalized solution of the orthogonal Procrustes problem, 1966.
    """
    mean, shift = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    left, _, right = np.linalg.svd((x - mean).T @ (y - shift), full_matrices=False)
    return _arrays(mean, left @ right, shift)


def affine(x: np.ndarray, y: np.ndarray) -> Arrays:
    """Ridge regression; its strength is the best one on a tenth of the pairs."""
    mean, shift = x.mean(axis=0, dtype=np.float64), y.mean(axis=0, dtype=np.float64)
    left, right = x - mean, y - shift
    held = np.arange(len(x)) % 10 == 0
    found = [
        np.mean(np.square(left[held] @ weights - right[held]))
        for weights in _ridges(left[~held], right[~held], _RIDGES)
    ]
    [weights] = _ridges(left, right, [_RIDGES[int(np.argmin(found))]])
    return _arrays(mean, weights, shift)


def low_rank(x: np.ndarray, y: np.ndarray) -> Arrays:
    """Reduced-rank regression: the affine map, kept on the main axes of what it gives."""
    made = affine(x, y)
    return made | {"weights": _reduced(x - made["mean"], made["weights"])}


def rotation_low_rank(x: np.ndarray, y: np.ndarray) -> Arrays:
    """The centred rotation, plus a low-rank affine map of what it leaves."""
    turned = rotation(x, y)
    left = (x - turned["mean"]) @ turned["weights"] + turned["shift"]
    rest = affine(x, y - left)
    weights = turned["weights"] + _reduced(x - rest["mean"], rest["weights"])
    return _arrays(turned["mean"], weights, turned["shift"] + rest["shift"])


def mlp(x: np.ndarray, y: np.ndarray) -> Arrays:
    """The affine map plus a network of one hidden layer, trained on the cosine."""
    import jax
    import jax.numpy as jnp
    import optax

    start = affine(x, y)
    left = jnp.asarray(x - start["mean"])
    base, goal = left @ start["weights"] + start["shift"], jnp.asarray(y)
    width, rng = _WIDTH, np.random.default_rng(0)
    params = {
        "hidden": jnp.asarray(rng.normal(0, x.shape[1] ** -0.5, (x.shape[1], width)), jnp.float32),
        "hidden_bias": jnp.zeros(width),
        "out": jnp.zeros((width, y.shape[1])),
    }
    optimizer = optax.adamw(_RATE, weight_decay=1e-2)

    def loss(params, rows):
        inner = jax.nn.gelu(left[rows] @ params["hidden"] + params["hidden_bias"])
        made = base[rows] + inner @ params["out"]
        made /= jnp.linalg.norm(made, axis=1, keepdims=True)
        return 1 - jnp.mean(jnp.sum(made * goal[rows], axis=1))

    @jax.jit
    def step(params, state, rows):
        updates, state = optimizer.update(jax.grad(loss)(params, rows), state, params)
        return optax.apply_updates(params, updates), state

    state, size = optimizer.init(params), min(512, len(x))
    for _ in range(_STEPS):
        params, state = step(params, state, jnp.asarray(rng.integers(0, len(x), size)))
    return start | {name: np.asarray(value, np.float32) for name, value in params.items()}


KINDS: dict[str, Callable[[np.ndarray, np.ndarray], Arrays]] = {
    "rotation": rotation,
    "affine": affine,
    "rotation_low_rank": rotation_low_rank,
    "low_rank": low_rank,
    "mlp": mlp,
}


def _arrays(mean, weights, shift) -> Arrays:
    named = {"mean": mean, "weights": weights, "shift": shift}
    return {name: np.asarray(value, np.float32) for name, value in named.items()}


def _ridges(left: np.ndarray, right: np.ndarray, strengths: Sequence[float]):
    """Weights of ridge regression for each strength, by one eigendecomposition."""
    left, right = np.float64(left), np.float64(right)
    values, vectors = np.linalg.eigh(left.T @ left)
    turned = vectors.T @ (left.T @ right)
    mean = max(values.mean(), 1e-12)
    return [vectors @ (turned / (values + each * mean)[:, None]) for each in strengths]


def _reduced(left: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights kept on the main axes of what they give."""
    _, _, axes = np.linalg.svd(np.float64(left) @ weights, full_matrices=False)
    kept = axes[: min(_RANK, *weights.shape)]
    return weights @ kept.T @ kept


def _by_folds(fit: Callable, x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """[pairs, dim'] each pair mapped by an adapter that was fitted on the other folds."""
    fold = np.random.default_rng(seed).permutation(len(x)) % _FOLDS
    made = np.empty(y.shape, np.float32)
    for number in range(_FOLDS):
        own = fold == number
        made[own] = Adapter("", "documents", "", "", fit(x[~own], y[~own]))(x[own])
    return made


def _agreement(mapped, truth, direction: str, alone: np.ndarray | None = None) -> float:
    """The share of ten neighbours that encoding again finds as well.

    Documents: new queries (some of the rows themselves) over mapped documents. Queries: mapped
    queries over old documents. `alone` gives the lists of the model that is left alone.
    """
    rows = np.arange(min(len(truth), _QUERIES))
    k = min(10, len(truth) - 1)
    wanted, _ = nearest(truth, truth[rows], k, rows)
    if alone is not None:
        found, _ = nearest(alone, alone[rows], k, rows)
    elif direction == "documents":
        found, _ = nearest(mapped, truth[rows], k, rows)
    else:
        found, _ = nearest(truth, mapped[rows], k, rows)
    return float(overlaps(wanted, found).mean())


def _warning(kept: float, alone: float) -> str:
    if kept < alone:
        return (
            f"the adapter agrees less with encoding again ({kept:.1%}) than the old model left "
            f"alone ({alone:.1%}): leave the old model in place and encode again"
        )
    if kept < _LEAST:
        return (
            f"{kept:.1%} of neighbours agree with encoding again: fit on texts of the domain that "
            "is served, and encode again soon"
        )
    return ""


def _check(old, new, fingerprints: tuple[str, str]) -> None:
    if len(old) != len(new):
        raise UserError(f"old has {len(old)} pairs and new {len(new)}; give the same texts")
    for name, rows in (("old", old), ("new", new)):
        if np.ndim(rows) != 2 or not np.isfinite(np.sum(rows, dtype=np.float64)):
            raise UserError(f"{name}: expected [pairs, dim] finite floats")
    width = max(old.shape[1], new.shape[1])
    if len(old) < width:
        raise UserError(
            f"{len(old)} pairs are fewer than the width {width}; give 2,000 or more of the domain "
            "that is served"
        )
    same = old.shape == new.shape and np.array_equal(old, new)
    if same or (fingerprints[0] and fingerprints[0] == fingerprints[1]):
        raise UserError("old and new are the same model; there is nothing to adapt")
