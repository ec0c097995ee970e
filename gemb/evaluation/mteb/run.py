"""Runs mteb's tasks on gemb's models, at several widths, with gemb's cache and report."""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gemb import __version__
from gemb.checks import UserError, suggest
from gemb.evaluation.models import write_results
from gemb.evaluation.mteb.encoder import MtebEncoder, import_mteb
from gemb.evaluation.mteb.local_tasks import local_tasks, task_prompts
from gemb.evaluation.result_cache import remembered
from gemb.evaluation.suite import averages
from gemb.evaluation.tasks.registry import read_tasks
from gemb.inference.encoded_once import Encoder


def get_tasks(names: Sequence[str]) -> list:
    """mteb's tasks by name; a benchmark's name stands for all of its tasks.

    Raises:
        UserError: mteb is not installed, or does not know a name.
    """
    mteb = import_mteb()
    from mteb.get_tasks import TASK_LIST

    known = {task.metadata.name: task for task in TASK_LIST}
    benchmarks = {one.name: one for one in mteb.get_benchmarks()}
    found = []
    for name in names:
        if name in benchmarks:
            found += benchmarks[name].tasks
        elif name in known:
            found.append(known[name]())
        else:
            hint = suggest(name, [*known, *benchmarks])
            raise UserError(f"--mteb: mteb {mteb.__version__} has no task {name!r}.{hint}")
    return _each_once(found)


def _each_once(tasks: Sequence) -> list:
    """One that two benchmarks share is run once; of other languages or splits it is another."""
    kept: dict[str, Any] = {}
    for task in tasks:
        name = task.metadata.name
        first = kept.setdefault(name, task)
        if _parts(first) != _parts(task):
            raise UserError(
                f"--mteb: {name} is named twice, over other languages or splits; run them one by "
                "one, each with its own --output"
            )
    return list(kept.values())


def _parts(task) -> list[str]:
    """The subsets and splits that are measured."""
    return [*sorted(map(str, task.hf_subsets or ())), "/", *sorted(map(str, task.eval_splits))]


def whole_names(parts: Sequence[str]) -> list[str]:
    """The names in a list that was cut at its commas: one may hold a comma, as MTEB(eng, v2)."""
    names: list[str] = []
    for part in parts:
        if names and names[-1].count("(") > names[-1].count(")"):
            names[-1] += f", {part}"
        else:
            names.append(part)
    return names


def named_tasks(names: Sequence[str]) -> tuple[list, dict[str, str]]:
    """Tasks of mteb, and of folders as `gemb.evaluation.tasks.read_tasks` reads them.

    Args:
        names: of mteb's tasks or benchmarks, or folders; as cut at the commas of a flag.

    Returns:
        Objects of mteb's task classes, and the prompts of the folders' tasks by mteb's keys.

    Raises:
        UserError: mteb is not installed or does not know a name, or a folder holds no task.
    """
    asked = whole_names(names)
    folders = [name for name in asked if Path(name).exists()]
    local = read_tasks(folders)
    tasks = get_tasks([name for name in asked if name not in folders])
    return tasks + local_tasks(local), task_prompts(local)


def read_prompts(path: str) -> dict[str, str]:
    """The prompts of a JSON file, {} where the path is "".

    Raises:
        UserError: no file, or another content than an object of texts.
    """
    if not path:
        return {}
    try:
        prompts = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from error
    if not isinstance(prompts, dict) or not all(isinstance(p, str) for p in prompts.values()):
        raise UserError(f'{path}: expected {{"mteb\'s key": "prompt", ...}}, got {prompts!r}')
    return prompts


def evaluate_mteb(
    encoder: Encoder,
    tasks: Sequence,
    *,
    name: str = "model",
    widths: Sequence[int] = (),
    prompts: Mapping[str, str] | None = None,
    force: bool = False,
    cache: Path | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Runs mteb's tasks on one model at some widths; what was measured before is read.

    Args:
        encoder: the model.
        tasks: objects of mteb's task classes.
        name: the model's name.
        widths: coordinates to keep; default the model's nested widths.
        prompts: as for `MtebEncoder`.
        force: measure again although it is cached.
        cache: folder of the cache; default below `gemb.files.cache_dir()`.

    Returns:
        task -> str(width), widest first -> metric -> figure, each the mean over the splits and
        subsets that mteb measures; the task's main metric stands first.

    Raises:
        UserError: mteb is not installed, a width that the model does not have, a task of no text,
            or data that cannot be had.
    """
    mteb = import_mteb()
    for width in widths:
        if not 1 <= width <= encoder.dim:
            raise UserError(f"--widths: {name} has vectors of {encoder.dim}, not of {width}")
    widths = sorted({*widths} or {*encoder.widths} or {encoder.dim}, reverse=True)
    model, results = MtebEncoder(encoder, name, prompts=prompts), {}
    for task in tqdm(tasks, desc=name, unit="task"):
        about = task.metadata
        known = [f"mteb {mteb.__version__}", about.name, str(about.dataset), encoder.fingerprint]
        known += _parts(task)
        known += sorted(f"{key}={prompt}" for key, prompt in (prompts or {}).items())
        results[about.name] = {
            str(width): remembered(
                [*known, str(width)], [], lambda task=task: _run(model, task), cache, force=force
            )
            for width in model.at_widths(widths)
        }
    return results


def evaluate_models(
    encoders: Mapping[str, Encoder], tasks: Sequence, output: str | Path, **settings
) -> dict[str, Any]:
    """Runs mteb's tasks on models and writes results.json and report.html.

    Args:
        encoders: name -> model.
        tasks: objects of mteb's task classes.
        output: folder to write.
        **settings: as for `evaluate_mteb`.

    Returns:
        The content of results.json, see `summary`.

    Raises:
        UserError: as `evaluate_mteb`, or for a file that cannot be written.
    """
    models = {
        name: (encoder, evaluate_mteb(encoder, tasks, name=name, **settings))
        for name, encoder in encoders.items()
    }
    tree = summary(tasks, models)
    write_results(Path(output), tree)
    return tree


def summary(tasks: Sequence, models: Mapping[str, tuple[Encoder, dict]]) -> dict[str, Any]:
    """mteb's results as `gemb.evaluation.suite.summary` gives its own, without paired tests.

    Args:
        tasks: objects of mteb's task classes.
        models: name -> (the model, its results from `evaluate_mteb`).

    Returns:
        The tree; its "items" are None, because mteb gives no figures of single items.
    """
    about = {
        task.metadata.name: {
            "kind": task.metadata.type,
            "main": task.metadata.main_score,
            "fingerprint": str(task.metadata.dataset.get("revision")),
            "items": None,
        }
        for task in tasks
    }
    results = {task: {name: found[task] for name, (_, found) in models.items()} for task in about}
    return {
        "tasks": about,
        "models": {
            name: {"fingerprint": encoder.fingerprint, "dim": encoder.dim, "seconds": {}}
            for name, (encoder, _) in models.items()
        },
        "results": results,
        "averages": {name: averages(about, results, name) for name in models},
        "comparisons": [],
        "wins": [],
        "gemb": __version__,
        "mteb": import_mteb().__version__,
    }


def _run(model: MtebEncoder, task) -> dict[str, float]:
    import mteb

    settings = {"cache": None, "co2_tracker": False, "show_progress_bar": False}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's, of probes on few texts
            found = mteb.evaluate(model, [task], **settings)
    except OSError as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{task.metadata.name}: its data cannot be had: {first}") from error
    (result,) = found.task_results
    rows = [row for split in result.scores.values() for row in split]
    main = task.metadata.main_score
    figures = {main: float(np.mean([row["main_score"] for row in rows]))}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(key) for row in rows]
        if key in ("main_score", "languages", "hf_subset") or key.startswith("nauc"):
            continue
        if all(isinstance(v, int | float) and math.isfinite(v) for v in values):
            figures.setdefault(key, float(np.mean(values)))
    return figures
