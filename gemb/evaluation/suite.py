"""Models over tasks: each task's figures at each width, averages, and which differences hold."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from gemb import __version__
from gemb.checks import UserError
from gemb.evaluation.comparison import compare_all
from gemb.evaluation.result_cache import ResultCache
from gemb.evaluation.tasks.registry import TASK_TYPES, EvaluationTask
from gemb.evaluation.tasks.task_type import Measured
from gemb.evaluation.wins import all_wins
from gemb.inference.encoded_once import (
    EncodedOnce,
    Encoder,
    scores_fingerprint,
    similarity_of,
    with_prompts,
)
from gemb.metrics.similarity import check_product, prepared, without_direction

WITHOUT_DIRECTION = "without_direction"  # in details: role -> texts whose vector is zero


class ModelResults(NamedTuple):
    """One model's results.

    Attributes:
        fingerprint: of the model.
        dim: size of its vectors.
        similarity: how they are compared, "cosine" or "dot".
        tasks: task's name -> width, widest first -> what was measured.
        seconds: task's name -> seconds that it took, 0 where it was cached.
    """

    fingerprint: str
    dim: int
    similarity: str
    tasks: dict[str, dict[int, Measured]]
    seconds: dict[str, float]


def evaluate_model(
    encoder: Encoder,
    tasks: Sequence[EvaluationTask],
    *,
    widths: Sequence[int] = (),
    force: bool = False,
    cache: Path | None = None,
    label: str = "model",
) -> ModelResults:
    """Measures one model on every task; what was measured before is read.

    Args:
        encoder: the model.
        tasks: from `gemb.evaluation.tasks.read_tasks`.
        widths: coordinates to keep, each 1 to the model's dim; default the model's nested widths.
        force: measure again although it is cached.
        cache: folder of the cache; default below `gemb.files.cache_dir()`.
        label: the model's name, for progress bars and errors.

    Returns:
        The results.

    Raises:
        UserError: a width that the model does not have, nothing but zero vectors, or a similarity
            that evaluation does not compute.
    """
    similarity = check_product(similarity_of(encoder), label)
    for width in widths:
        if not 1 <= width <= encoder.dim:
            raise UserError(f"--widths: {label} has vectors of {encoder.dim}, not of {width}")
    widths = sorted({*widths} or {*encoder.widths}, reverse=True)
    models = {}
    results = ModelResults(encoder.fingerprint, encoder.dim, similarity, {}, {})
    for task in tqdm(tasks, desc=label, unit="task"):
        start = time.perf_counter()
        prompts = tuple(sorted(task.prompts.items()))
        if prompts not in models:
            models[prompts] = EncodedOnce(with_prompts(encoder, task.prompts))
        model = models[prompts]
        identity = scores_fingerprint(model.encoder)
        stored = ResultCache(identity, task.fingerprint, task.main, cache)
        done = {} if force else stored.load()
        missing = [width for width in widths if width not in done]
        if missing:
            done |= measure(model, task, missing, label)
            stored.save(done)
        results.tasks[task.name] = {width: done[width] for width in widths}
        results.seconds[task.name] = time.perf_counter() - start if missing else 0.0
    return results


def measure(
    model: EncodedOnce, task: EvaluationTask, widths: Sequence[int], label: str
) -> dict[int, Measured]:
    """Measures one model on one task, at each width.

    Args:
        model: the model, under the task's prompts.
        task: the task.
        widths: coordinates to keep.
        label: the model's name, for progress bars and errors.

    Raises:
        UserError: for vectors that are all zero, or not finite.
    """
    task_type, full, similarity = TASK_TYPES[task.kind], {}, similarity_of(model.encoder)
    for role, (texts, side) in task_type.texts(task.data).items():
        full[role] = model.vectors(texts, side, f"{label}, {task.name} {role}")
    measured = {}
    for width in tqdm(widths, desc=task.name, unit="width", leave=False):
        try:
            vectors = {role: prepared(rows, width, similarity, role) for role, rows in full.items()}
        except ValueError as error:  # zeros or infinite vectors: the model's fault, not the code's
            raise UserError(f"{label} on {task.name}: {error}") from error
        row = task_type.measure(vectors, task.data)
        zero = {role: n for role, rows in vectors.items() if (n := without_direction(rows))}
        details = {WITHOUT_DIRECTION: zero} if zero else {}
        measured[width] = row._replace(details=row.details | details)
    return measured


def summary(
    tasks: Sequence[EvaluationTask],
    models: Mapping[str, ModelResults],
    cache: Path | None = None,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> dict[str, Any]:
    """All results as one tree, ready for JSON.

    Args:
        tasks: the tasks measured.
        models: name -> results on all of them.
        cache: folder of the cache; default below `gemb.files.cache_dir()`.
        pairs: the models to compare with each other; default all pairs.

    Returns:
        "tasks" (name -> kind, main, fingerprint, and "items": the queries, pairs or texts that its
        main figure counts), "models" (name -> fingerprint, dim, similarity,
        seconds),
        "results" (task -> model -> width -> metric -> figure), "averages" (model -> width ->
        "tasks", the mean of the tasks' main figures, and "kinds", the mean of the kinds' means),
        "comparisons" (a row for each task, two models and width that both have, and for the full
        widths where these differ), "wins" (the items on which each two differ, at full width),
        "details" (task -> model -> further results of a kind, at full width) and "gemb", the
        version.
    """
    items = {
        name: {
            task.name: {w: row.items[task.main] for w, row in one.tasks[task.name].items()}
            for task in tasks
        }
        for name, one in models.items()
    }
    about, results = figures_of(tasks, models)
    return {
        "tasks": about,
        "models": {
            name: {
                "fingerprint": one.fingerprint,
                "dim": one.dim,
                "similarity": one.similarity,
                "seconds": {task: round(taken, 2) for task, taken in one.seconds.items()},
            }
            for name, one in models.items()
        },
        "results": results,
        "averages": {name: averages(about, results, name) for name in models},
        "comparisons": compare_all(tasks, items, cache, pairs=pairs),
        "wins": all_wins(tasks, items, pairs),
        "details": _details(tasks, models),
        "gemb": __version__,
    }


def _details(tasks: Sequence[EvaluationTask], models: Mapping[str, ModelResults]) -> dict[str, Any]:
    found = {
        task.name: {
            name: row.details
            for name, one in models.items()
            if (row := one.tasks[task.name][max(one.tasks[task.name])]).details
        }
        for task in tasks
    }
    return {name: rows for name, rows in found.items() if rows}


def figures_of(
    tasks: Sequence[EvaluationTask], models: Mapping[str, ModelResults]
) -> tuple[dict, dict]:
    """The "tasks" and the "results" of `summary`."""
    any_model = next(iter(models.values()))
    about = {
        task.name: {
            "kind": task.kind,
            "main": task.main,
            "fingerprint": task.fingerprint,
            "items": len(next(iter(any_model.tasks[task.name].values())).items[task.main]),
        }
        for task in tasks
    }
    results = {
        task.name: {
            name: {str(width): row.figures for width, row in one.tasks[task.name].items()}
            for name, one in models.items()
        }
        for task in tasks
    }
    return about, results


def averages(tasks: Mapping[str, Mapping], results: Mapping, model: str) -> dict[str, dict]:
    """Means of one model's main figures by width: over "tasks", and over the means of "kinds".

    Args:
        tasks: name -> {"kind", "main"}, as in `summary`.
        results: task -> model -> width -> metric -> figure.
        model: which one.
    """
    found = {}
    for width in next(iter(results.values()))[model]:
        by_kind: dict[str, list[float]] = {}
        for task, about in tasks.items():
            figure = results[task][model][width][about["main"]]
            by_kind.setdefault(about["kind"], []).append(figure)
        found[width] = {
            "tasks": float(np.mean([figure for row in by_kind.values() for figure in row])),
            "kinds": float(np.mean([np.mean(row) for row in by_kind.values()])),
        }
    return found
