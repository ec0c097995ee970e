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
from gemb.recommendation.baselines.tuning import Tuned, inner_split, rank_users, tune
from gemb.recommendation.fusion import tune_fusion, tune_towers
from gemb.recommendation.vectors import TwoStages, Vectors

CUTS = (10, 20, 100)
MAIN = "ndcg@10"
_LINEAR = "EASE"
FUSED, TOWERS, STAGES = "EASE + texts", "towers", "towers, then EASE"
SUMMED, TWIN = "EASE + towers", "towers of ids alone"
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


class Towers(NamedTuple):
    """Vectors of all users and items by towers that were trained on the train events alone.

    Attributes:
        vectors: of the towers that are measured.
        of_validation: of the same towers, trained without the validation events, by which the
            weight of two stages is chosen; None leaves it at the default.
        twin: of towers without features, to show what features add; None for none.
    """

    vectors: Vectors
    of_validation: Vectors | None = None
    twin: Vectors | None = None


def tower_models(*, twin: bool, linear: bool, tuned: bool) -> list[str]:
    """Names of what is measured with towers.

    Args:
        twin: whether there is a twin without features.
        linear: whether EASE is among the baselines.
        tuned: whether there are towers for validation.
    """
    return [TOWERS] + [TWIN] * twin + [STAGES] * linear + [SUMMED] * (linear and tuned)


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
    towers: Towers | None = None,
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
        towers: `TOWERS` is then measured too, `STAGES` if EASE is among the baselines, with
            towers for validation also `SUMMED`, and with a twin `TWIN`.
        budget: settings of a baseline to try at most; 0: its whole grid.
        seed: of the validation split, and of the draw of settings.
        keep: names of models to return.
        progress: whether to show a progress bar.
    """
    counts = (len(data.users.ids), len(data.items.ids))
    names = [n for n in baselines if data.events.time is not None or not BASELINES[n].needs_times]
    validation = inner_split(split, seed=seed)
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
        makers |= _with_towers(towers, linear if _LINEAR in names else None, validation, counts)
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
        "comparisons": _compare(users, names) + _compare_twin(users),
    }
    return Evaluated(tree, kept)


def _with_towers(
    towers: Towers, linear: dict[str, Tuned] | None, validation: Split, counts: tuple[int, int]
) -> dict[str, Callable[[], Tuned]]:
    """What makes the models with towers; `linear` has the tuned EASE when they are called."""
    both: list[Tuned] = []

    def combined(place: int) -> Tuned:
        if not both:
            of_validation = towers.of_validation
            both.extend(
                tune_towers(
                    linear[_LINEAR], _LINEAR, towers.vectors, of_validation, validation, *counts
                )
            )
        return both[place]

    def by_default() -> Tuned:
        return _given(TwoStages(towers.vectors, linear[_LINEAR].model))

    tuned = towers.of_validation is not None
    makers = {
        TOWERS: lambda: _given(towers.vectors),
        TWIN: lambda: _given(towers.twin),
        STAGES: partial(combined, 0) if tuned else by_default,
        SUMMED: partial(combined, 1),
    }
    names = tower_models(twin=towers.twin is not None, linear=linear is not None, tuned=tuned)
    return {name: makers[name] for name in names}


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


def _compare_twin(users: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The towers less their twin without features, by nDCG@10 of the same users."""
    if TWIN not in users:
        return []
    found = metrics.paired_bootstrap(users[TWIN], users[TOWERS], samples=_SAMPLES)
    return [{"model": TOWERS, "baseline": TWIN, **found._asdict()}]
