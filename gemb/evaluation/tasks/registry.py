"""The types of evaluation task, and the tasks of a folder, ready to be run.

The files of a folder say what it is (each may be gzipped, with `.gz` behind its name):

    corpus.jsonl, queries.jsonl, qrels/test.tsv    retrieval, in BEIR's layout
    train.tsv, test.tsv     classification; columns text, label
    NAME.tsv                sts: sentence1, sentence2, score (any numbers, higher for more alike)
                            pair_classification: sentence1, sentence2, label (1 or 0)
                            bitext: source, target (or english), and perhaps lang
    captions.jsonl, images.zip      pictures: a folder of `gemb harvest-pictures`, its split test
    captions.jsonl, clips.zip       videos: the same with videos or animations
    NAME.jsonl              reranking: {"query": text, "positive": [texts], "negative": [texts]}

TSV has a header line and no quoting; other columns are left alone. NAME_train, NAME_dev and
NAME_val are not evaluated. A folder with none of these is searched for folders of tasks. Where
files alone do not say (clustering never does), a `task.json` in the folder describes one or a list:

    {"kind": "clustering",                      one of TASK_TYPES; all else may be left out
     "name": "intents",                         default the folder's
     "files": {"test": "test.tsv.gz"},          next to task.json, or elsewhere by a full path;
                                                roles: test, train (classification), folder (BEIR)
     "columns": {"label": "domain"},            role -> column, where it has another name
     "prompts": {"query": "...", "document": "..."},   in place of the model's own
     "main": "v_measure",                       the metric that is averaged and tested
     "limit": 1000,                             this many items (queries, pairs), evenly spaced
     "split": "test"}                           of a BEIR folder

The kind picture_classes names the classes of such pictures without training, by their column group
(or "columns": {"label": "caption"}). Of pictures, "columns": {"labels": "labels"} adds a figure per
language.

Queries of retrieval and reranking are encoded as queries, every other text as a document.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemb.checks import UserError, suggest
from gemb.evaluation.tasks import (
    bitext,
    classification,
    clustering,
    pair_classification,
    pictures,
    reranking,
    retrieval,
    sts,
)
from gemb.evaluation.tasks.folders import find_tasks
from gemb.evaluation.tasks.task_type import Data, Source, TaskType

TASK_TYPES: dict[str, TaskType] = {
    "retrieval": retrieval.TASK_TYPE,
    "reranking": reranking.TASK_TYPE,
    "sts": sts.TASK_TYPE,
    "pair_classification": pair_classification.TASK_TYPE,
    "classification": classification.TASK_TYPE,
    "clustering": clustering.TASK_TYPE,
    "bitext": bitext.TASK_TYPE,
    "pictures": pictures.TASK_TYPE,
    "videos": pictures.VIDEOS_TYPE,
    "picture_classes": pictures.CLASSES_TYPE,
}


@dataclass(frozen=True)
class EvaluationTask:
    """A task with its data, ready to be run on models.

    Attributes:
        name: unique among the tasks of a run.
        kind: one of TASK_TYPES.
        main: the metric that stands for the task.
        prompts: {"query": ..., "document": ...} in place of the model's own; either may be missing.
        data: what the task's files hold, as its type reads them.
        fingerprint: of kind, prompts and data.
    """

    name: str
    kind: str
    main: str
    prompts: dict[str, str]
    data: Data
    fingerprint: str


def read_tasks(folders: Sequence[str | Path]) -> list[EvaluationTask]:
    """Reads the tasks of some folders.

    Args:
        folders: folders with a task, or with folders of tasks; or files named like task.json.

    Returns:
        The tasks, folder by folder, in the order of their names.

    Raises:
        UserError: in one line, with the file and where there is one the line: no task anywhere, a
            broken file or description, or two tasks of one name.
    """
    tasks: dict[str, EvaluationTask] = {}
    for folder in map(Path, folders):
        if not folder.exists():
            raise UserError(f"{folder}: no such folder; --tasks takes folders with evaluation data")
        found = find_tasks(folder)
        if not found:
            raise UserError(
                f"{folder}: no task in it; see `gemb evaluate --help` for the files that make one"
            )
        for place, description in found:
            task = _task(place, description)
            if task.name in tasks:
                raise UserError(
                    f'{place}: a second task named {task.name!r}; give it another "name" in a '
                    "task.json"
                )
            tasks[task.name] = task
    return list(tasks.values())


def _task(place: Path, description: dict) -> EvaluationTask:
    if (named := description.get("kind")) not in TASK_TYPES:
        hint = suggest(str(named), TASK_TYPES)
        raise UserError(
            f'{place}: "kind" must be one of {", ".join(TASK_TYPES)}; got {named!r}.{hint}'
        )
    task_type = TASK_TYPES[named]
    folder = place if place.is_dir() else place.parent
    prompts = description.get("prompts", {})
    files = description.get("files", {})
    if task_type.files == ("folder",):
        files = {"folder": "."} | files
    columns = task_type.columns | description.get("columns", {})
    _check_roles(place, "files", files, task_type.files)
    _check_roles(place, "columns", columns, (*task_type.columns, *task_type.optional))
    _check_roles(place, "prompts", prompts, ("query", "document"))
    for role in task_type.files:
        if role not in files:
            raise UserError(f'{place}: "files" has no {role!r}; name the file')
    main = description.get("main", task_type.mains[0])
    if main not in task_type.mains:
        raise UserError(
            f'{place}: "main" must be one of {", ".join(task_type.mains)}; got {main!r}'
        )
    paths = {role: folder / path for role, path in files.items()}
    data = task_type.read(Source(paths, columns, description.get("split", "test")))
    if "limit" in description:
        data = task_type.sample(data, description["limit"])
    name = description.get("name") or folder.absolute().name
    print_of = _fingerprint(description["kind"], prompts, data)
    return EvaluationTask(name, description["kind"], main, prompts, data, print_of)


def _check_roles(place: Path, field: str, given: Iterable[str], known: Iterable[str]) -> None:
    for role in given:
        if role not in known:
            raise UserError(f'{place}: "{field}" knows {sorted(known)} here, not {role!r}')


def _fingerprint(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
