"""Evaluation tasks on disk: what lies in a folder, as a list of tasks to run.

A folder tells what it is by its files (each may be gzipped: `.gz` behind the name):

    corpus.jsonl, queries.jsonl, qrels/test.tsv    retrieval, in BEIR's layout
    train.tsv, test.tsv     classification; columns text, label
    NAME.tsv                sts: sentence1, sentence2, score (any numbers, higher for more alike)
                            pair_classification: sentence1, sentence2, label (1 or 0)
                            bitext: source, target (or english), and perhaps lang
    NAME.jsonl              reranking: {"query": text, "positive": [texts], "negative": [texts]}

TSV has a header line and no quoting; other columns are left alone. NAME_train, NAME_dev and
NAME_val are not evaluated. A folder with none of these is looked into for folders of tasks. Where
that does not tell (clustering never does), a `task.json` in the folder describes one or a list:

    {"kind": "clustering",                      one of KINDS; all else may be left out
     "name": "intents",                         default the folder's
     "files": {"test": "test.tsv.gz"},          beside task.json, or elsewhere by a full path;
                                                roles: test, train (classification), folder (BEIR)
     "columns": {"label": "domain"},            role -> column, where it has another name
     "prompts": {"query": "...", "document": "..."},   in place of the model's own
     "main": "v_measure",                       the metric that is averaged and tested
     "limit": 1000,                             so many items (queries, pairs), evenly spaced
     "split": "test"}                           of a BEIR folder

Queries of retrieval and reranking are encoded as queries, every other text as a document.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemb.checks import UserError, suggest
from gemb.evaluation import (
    bitext,
    classify,
    cluster,
    pair_classification,
    rerank,
    retrieve,
    similarity,
)
from gemb.evaluation.kind import Data, Kind, Source
from gemb.evaluation.task_files import find_tasks

KINDS: dict[str, Kind] = {
    "retrieval": retrieve.KIND,
    "reranking": rerank.KIND,
    "sts": similarity.KIND,
    "pair_classification": pair_classification.KIND,
    "classification": classify.KIND,
    "clustering": cluster.KIND,
    "bitext": bitext.KIND,
}


@dataclass(frozen=True)
class Task:
    """A task ready to be run.

    Attributes:
        name: unique among the tasks of a run.
        kind: one of KINDS.
        main: the metric that stands for the task.
        prompts: {"query": ..., "document": ...} in place of the model's own; either may be missing.
        data: what the kind's files hold.
        fingerprint: of kind, prompts and data.
    """

    name: str
    kind: str
    main: str
    prompts: dict[str, str]
    data: Data
    fingerprint: str


def read_tasks(folders: Sequence[str | Path]) -> list[Task]:
    """Reads the tasks of some folders.

    Args:
        folders: folders with a task, or with folders of tasks; or files named like task.json.

    Returns:
        The tasks, folder by folder, in the order of their names.

    Raises:
        UserError: in one line, with the file and where there is one the line: no task anywhere, a
            broken file or description, or two tasks of one name.
    """
    tasks: dict[str, Task] = {}
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


def _task(place: Path, description: dict) -> Task:
    if (named := description.get("kind")) not in KINDS:
        hint = suggest(str(named), KINDS)
        raise UserError(f'{place}: "kind" must be one of {", ".join(KINDS)}; got {named!r}.{hint}')
    kind = KINDS[named]
    folder = place if place.is_dir() else place.parent
    prompts = description.get("prompts", {})
    files = description.get("files", {})
    if kind.files == ("folder",):
        files = {"folder": "."} | files
    columns = kind.columns | description.get("columns", {})
    _check_roles(place, "files", files, kind.files)
    _check_roles(place, "columns", columns, (*kind.columns, *kind.optional))
    _check_roles(place, "prompts", prompts, ("query", "document"))
    for role in kind.files:
        if role not in files:
            raise UserError(f'{place}: "files" lacks {role!r}: which file holds it?')
    main = description.get("main", kind.mains[0])
    if main not in kind.mains:
        raise UserError(f'{place}: "main" must be one of {", ".join(kind.mains)}; got {main!r}')
    paths = {role: folder / path for role, path in files.items()}
    data = kind.read(Source(paths, columns, description.get("split", "test")))
    if "limit" in description:
        data = kind.sample(data, description["limit"])
    name = description.get("name") or folder.absolute().name
    print_of = _fingerprint(description["kind"], prompts, data)
    return Task(name, description["kind"], main, prompts, data, print_of)


def _check_roles(place: Path, field: str, given: Iterable[str], known: Iterable[str]) -> None:
    for role in given:
        if role not in known:
            raise UserError(f'{place}: "{field}" knows {sorted(known)} here, not {role!r}')


def _fingerprint(*parts: Any) -> str:
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
