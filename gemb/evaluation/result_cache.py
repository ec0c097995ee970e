"""What need not be measured again: a file for each model, task and setting, or pair of models."""

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gemb.evaluation.tasks.task_type import Measured
from gemb.files import atomic_file, cache_dir

# Raise it when a figure changes its meaning, so that no older one is taken for it.
EVALUATORS = 3


class ResultCache:
    """Measured figures by width, under the fingerprints of model and task.

    Args:
        model: fingerprint of the model, prompts included.
        task: fingerprint of the task.
        main: the task's main metric, whose items are kept.
        folder: where; default below `gemb.files.cache_dir()`.
    """

    def __init__(self, model: str, task: str, main: str, folder: Path | None = None):
        folder = folder or cache_dir() / "evaluation"
        key = json.dumps([EVALUATORS, model, task, main])
        self.path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
        self._main = main

    def load(self) -> dict[int, Measured]:
        """The results there are, by width; none where the file is missing or broken."""
        # A broken file is not the user's mistake: it is measured again and replaced.
        broken = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
        with contextlib.suppress(*broken), np.load(self.path, allow_pickle=False) as file:
            rows = json.loads(str(file["figures"]))
            return {
                int(width): Measured(figures, {self._main: file[f"items_{width}"]}, details)
                for width, (figures, details) in rows.items()
            }
        return {}

    def save(self, results: dict[int, Measured]) -> None:
        """Writes the results of every width.

        Raises:
            UserError: when the disk is full or the place cannot be written.
        """
        figures = json.dumps({width: (one.figures, one.details) for width, one in results.items()})
        items = {f"items_{width}": one.items[self._main] for width, one in results.items()}
        with atomic_file(self.path) as temporary, open(temporary, "wb") as file:
            np.savez(file, figures=np.array(figures), **items)


def remembered(
    what: list[str],
    items: list[np.ndarray],
    make: Callable[[], Any],
    folder: Path | None = None,
    *,
    force: bool = False,
) -> Any:
    """What `make` gives, kept as JSON under a hash of everything that it depends on.

    Args:
        what: texts that it depends on.
        items: arrays that it depends on.
        make: makes it.
        folder: where; default below `gemb.files.cache_dir()`.
        force: make it again even if it is there.

    Returns:
        What `make` returned, now or in an earlier run.

    Raises:
        UserError: when the disk is full or the place cannot be written.
    """
    digest = hashlib.sha256(json.dumps([EVALUATORS, *what]).encode())
    for array in items:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    path = (folder or cache_dir() / "evaluation") / f"{digest.hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError):
        if not force:
            return json.loads(path.read_text(encoding="utf-8"))
    made = make()
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(made), encoding="utf-8")
    return made
