"""Recommenders over the whole catalogue: every model's figures with intervals, and paired tests.

Each baseline is tuned on validation events out of train, fitted again on all of train, and tested
once. A recommender without these baselines next to it says little: popularity and EASE are often
hard to beat.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from gemb import checks, metrics
from gemb.data.interactions.reading import InteractionData
from gemb.data.interactions.splits import Split
from gemb.metrics.recommendation import TAIL
from gemb.recommendation.baselines.baseline import Baseline
from gemb.recommendation.baselines.registry import BASELINES
from gemb.recommendation.baselines.tuning import Tuned, rank_users, tune, validation_split
from gemb.recommendation.fusion import tune_fusion
from gemb.recommendation.vectors import TwoStages, Vectors

CUTS = (10, 20, 100)
MAIN = "ndcg@10"
_LINEAR = "EASE"
FUSED, TOWERS, STAGES = "EASE + texts", "towers", "towers, then EASE"
_LIST = 10  # of the measures of whole lists
_SAMPLES = 2_000


class Measured(NamedTuple):
    """What one model reaches.

    Attributes:
        figures: name -> mean over the test users, or the figure of all lists together.
        intervals: name -> (low, high), 95 %.
        users: name -> [test users] float64, for paired tests.
    """

    figures: dict[str, float | None]
    intervals: dict[str, tuple[float, float]]
    users: dict[str, np.ndarray]


def measure(
    ranked: np.ndarray, wanted: np.ndarray, split: Split, items: int, *, at: Sequence[int] = CUTS
) -> Measured:
    """Measures lists, however they were made.

    Args:
        ranked: [wanted, k] items, best first, -1 for none.
        wanted: [wanted] the users of the rows, in order: those with a test event.
        split: train and test events.
        items: how many items the catalogue has.
        at: cut-offs.

    Returns:
        HR, recall, nDCG and MRR at each cut-off; "coverage@10", "novelty@10", "gini@10";
        "tail_recall@10" over targets with at most ten train events, "cold_recall@10" over those
        without any (None where there are no such targets).

    Raises:
        ValueError: `wanted` are not the users of the test.
    """
    expected = np.unique(split.test.user)
    checks.check(np.array_equal(wanted, expected), "wanted: expected the users of the test")
    place, target = np.searchsorted(wanted, split.test.user), split.test.item
    users = metrics.recommendation_metrics(ranked, place, target, at=at)
    counts = np.bincount(split.train.item, minlength=items)
    lists = ranked[:, :_LIST]
    train_users = len(np.unique(split.train.user))
    together = metrics.catalogue_metrics(lists, counts, train_users)
    figures: dict[str, float | None] = {name: float(value.mean()) for name, value in users.items()}
    figures |= {f"{name}@{_LIST}": value for name, value in together.items()}
    for name, part in (("tail", counts <= TAIL), ("cold", counts == 0)):
        figures[f"{name}_recall@{_LIST}"] = metrics.part_recall(lists, place, target, part)
    shown = [name for name in users if name.endswith(f"@{_LIST}") or name == f"recall@{max(at)}"]
    intervals = {name: metrics.mean_interval(users[name], samples=_SAMPLES) for name in shown}
    return Measured(figures, intervals, users)


class Evaluated(NamedTuple):
    """What `evaluate_recommenders` returns.

    Attributes:
        tree: "data": counts; "notes": what was left out; "models": name -> "figures", "intervals",
            "settings", "validation", "tried", "fit_seconds" (None for given models);
            "comparisons": each model against the best baseline by nDCG@10.
        kept: the fitted models that were asked for, by name.
    """

    tree: dict[str, Any]
    kept: dict[str, Baseline]


def evaluate_recommenders(
    data: InteractionData,
    split: Split,
    *,
    baselines: Sequence[str] = tuple(BASELINES),
    models: Mapping[str, Baseline] | None = None,
    texts: tuple[np.ndarray, np.ndarray] | None = None,
    towers: Vectors | None = None,
    budget: int = 0,
    seed: int = 0,
    keep: Collection[str] = (),
    progress: bool = True,
) -> Evaluated:
    """Tunes and measures baselines, and measures given models next to them.

    Args:
        data: the events, with the tables of users and items.
        split: its train and test events.
        baselines: names of `BASELINES`; one that needs times is left out where there are none.
        models: other models by name, already trained on the train events alone.
        texts: vectors of the users' and of the items' texts: `FUSED`, their late fusion with EASE,
            is then measured too, if EASE is among the baselines.
        towers: vectors of all users and items of towers that were trained on the train events
            alone: `TOWERS` is then measured too, and `STAGES` if EASE is among the baselines.
        budget: settings of a baseline to try at most; 0: its whole grid.
        seed: of the validation split, and of the draw of settings.
        keep: names of models to return.
        progress: whether to show a progress bar.
    """
    counts = (len(data.users.ids), len(data.items.ids))
    names = [n for n in baselines if data.events.time is not None or not BASELINES[n].needs_times]
    one_each = len(np.unique(split.test.user)) == len(split.test.user)
    validation = validation_split(split.train, one_each=one_each, seed=seed)
    makers: dict[str, Callable[[], Tuned]] = {}
    linear: dict[str, Tuned] = {}  # EASE, which other models are made of

    def tuned(name: str) -> Tuned:
        found = tune(name, split.train, validation, *counts, budget=budget, seed=seed)
        linear.update({name: found} if name == _LINEAR else {})
        return found

    for name in names:
        makers[name] = partial(tuned, name)
    if texts is not None and _LINEAR in names:
        makers[FUSED] = lambda: tune_fusion(linear[_LINEAR], _LINEAR, texts, validation, *counts)
    if towers is not None:
        makers[TOWERS] = lambda: _given(towers)
        if _LINEAR in names:
            makers[STAGES] = lambda: _given(TwoStages(towers, linear[_LINEAR].model))
    for name, model in (models or {}).items():
        makers[name] = partial(_given, model)
    rows: dict[str, dict[str, Any]] = {}
    users: dict[str, np.ndarray] = {}
    kept: dict[str, Baseline] = {}
    for name, make in tqdm(makers.items(), desc="models", disable=not progress):
        model, *about = make()
        found = measure(*rank_users(model, split, *counts, max(CUTS)), split, counts[1])
        rows[name] = dict(zip(Tuned._fields[1:], about, strict=True))
        rows[name] |= {"figures": found.figures, "intervals": found.intervals}
        users[name] = found.users[MAIN]
        if name in keep:
            kept[name] = model
    tree = {
        "data": {
            "users": counts[0],
            "items": counts[1],
            "train": len(split.train.user),
            "test": len(split.test.user),
            "test_users": len(np.unique(split.test.user)),
            "validation": len(validation.test.user),
        },
        "notes": data.notes + split.notes,
        "models": rows,
        "comparisons": _compare(users, names),
    }
    return Evaluated(tree, kept)


def _given(model: Baseline) -> Tuned:
    return Tuned(model, None, None, None, None)


def _compare(users: Mapping[str, np.ndarray], baselines: Sequence[str]) -> list[dict[str, Any]]:
    """Each model less the best baseline, by nDCG@10 of the same users."""
    if not baselines:
        return []
    best = max(baselines, key=lambda name: users[name].mean())
    rows = []
    for name in users:
        if name != best:
            found = metrics.paired_bootstrap(users[best], users[name], samples=_SAMPLES)
            rows.append({"model": name, "baseline": best, **found._asdict()})
    return rows
