"""Finds evaluation tasks in folders, and reads `task.json`.

The layout is described in `gemb.evaluation.tasks.registry`.
"""

import json
from pathlib import Path
from typing import Any

from gemb.checks import UserError, suggest
from gemb.evaluation.tasks import tables

# The columns by which a file is known, and the roles that they then have.
_KNOWN = (
    ("sts", {"first": "sentence1", "second": "sentence2", "score": "score"}),
    ("pair_classification", {"first": "sentence1", "second": "sentence2", "label": "label"}),
    ("bitext", {"source": "source", "target": "target", "group": "lang"}),
    ("bitext", {"source": "source", "target": "english", "group": "lang"}),
    ("bitext", {"source": "source", "target": "target"}),
    ("bitext", {"source": "source", "target": "english"}),
    ("reranking", {"query": "query", "positive": "positive", "negative": "negative"}),
)
_FIELDS = ("kind", "name", "files", "columns", "prompts", "main", "limit", "split")
_SKIPPED = ("train", "dev", "val")
_DESCRIPTION = "task.json"


def find_tasks(folder: Path) -> list[tuple[Path, dict]]:
    """What a folder holds.

    Args:
        folder: a folder with a task, or with folders of tasks; or a file like task.json.

    Returns:
        (place, description) of each task: the folder of the description's files, or
        the file that it was read from; and the fields of a task.json.

    Raises:
        UserError: for a broken description.
    """
    return _described(folder) if folder.is_file() else _found(folder)


def _found(folder: Path) -> list[tuple[Path, dict]]:
    """(place, description) of each task in a folder, or in those below it."""
    if (folder / _DESCRIPTION).is_file():
        return _described(folder / _DESCRIPTION)
    if any((folder / f"corpus.jsonl{gz}").is_file() for gz in ("", ".gz")):
        return [(folder, {"kind": "retrieval", "files": {"folder": "."}})]
    if any((folder / f"captions.jsonl{gz}").is_file() for gz in ("", ".gz")):
        kind = "videos" if (folder / "clips.zip").is_file() else "pictures"
        return [(folder, {"kind": kind, "files": {"folder": "."}})]
    files = {_stem(path): path for path in sorted(folder.iterdir()) if _is_table(path)}
    if {"train", "test"} <= files.keys() and {"text", "label"} <= {*tables.header(files["test"])}:
        named = {split: files[split].name for split in ("train", "test")}
        return [(folder, {"kind": "classification", "files": named})]
    found = [(folder, known) for stem, path in files.items() if (known := _recognised(stem, path))]
    if found:
        return found
    below = (path for path in sorted(folder.iterdir()) if path.is_dir())
    return [task for path in below if not path.name.startswith(".") for task in _found(path)]


def _recognised(stem: str, path: Path) -> dict | None:
    if stem.rpartition("_")[2] in _SKIPPED:
        return None
    columns = set(tables.header(path))
    for kind, roles in _KNOWN:
        if set(roles.values()) <= columns:
            return {"kind": kind, "name": stem, "files": {"test": path.name}, "columns": roles}
    return None


def _described(path: Path) -> list[tuple[Path, dict]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {error}") from error
    descriptions = content if isinstance(content, list) else [content]
    for description in descriptions:
        _check_description(path, description)
    return [(path, description) for description in descriptions]


def _check_description(path: Path, description: Any) -> None:
    if not isinstance(description, dict):
        raise UserError(f"{path}: expected an object or a list of objects, got {description!r}")
    for field in description:
        if field not in _FIELDS:
            known = ", ".join(_FIELDS)
            raise UserError(
                f"{path}: unknown field {field!r}; there are {known}.{suggest(field, _FIELDS)}"
            )
    for field in ("files", "columns", "prompts"):
        value = description.get(field, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise UserError(f'{path}: "{field}" must map names to texts, got {value!r}')
    limit = description.get("limit", 1)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise UserError(f'{path}: "limit" must be a whole number above 0, got {limit!r}')
    for field in ("kind", "name", "main", "split"):
        if not isinstance(description.get(field, ""), str):
            raise UserError(f'{path}: "{field}" must be a text, got {description[field]!r}')


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.endswith(tables.SUFFIXES)


def _stem(path: Path) -> str:
    return path.name.split(".tsv")[0].split(".jsonl")[0]
