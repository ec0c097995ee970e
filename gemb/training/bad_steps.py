"""Handles steps whose loss or gradient is not finite: saves the batch, skips or stops."""

import math
from pathlib import Path

import jax
import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_file
from gemb.structs import Batch

FOLDER = "bad_batches"


class BadSteps:
    """Checks the metrics of each step.

    Args:
        workdir: the run's folder; bad batches are saved in its bad_batches/.
        allowed: how many bad steps in a row are skipped.
        row: bad steps in a row so far, for a resumed run.
    """

    def __init__(self, workdir: Path, allowed: int, row: int = 0):
        self._folder, self._allowed, self._row = Path(workdir) / FOLDER, allowed, row

    def look_at(self, step: int, batch: Batch, metrics: dict[str, float]) -> None:
        """Counts a step, and saves its batch if it is bad.

        Raises:
            UserError: if more bad steps in a row occur than are allowed.
        """
        names = [name for name in ("loss", "gradient_norm") if name in metrics]
        bad = [name for name in names if not math.isfinite(metrics[name])]
        if not bad:
            self._row = 0
            return
        self._row += 1
        mine = f"_process_{jax.process_index()}" if jax.process_count() > 1 else ""
        file = self._folder / f"step_{step}{mine}.npz"
        with atomic_file(file) as temporary, open(temporary, "wb") as out:
            leaves = jax.tree_util.tree_leaves_with_path(batch)
            np.savez(out, **{_name(path): np.asarray(leaf) for path, leaf in leaves})
        what = f"step {step}: {bad[0]} is {metrics[bad[0]]}; the batch is in {file}"
        if self._row <= self._allowed:
            print(f"{what}; skipped ({self._row} in a row, at most {self._allowed} are allowed)")
            return
        raise UserError(
            f"{what}. Lower the learning rate, inspect the batch, or set "
            "experiment.Experiment.skip_bad_steps. The last checkpoint is unchanged"
        )


def _name(path) -> str:
    return "/".join(str(getattr(key, "name", getattr(key, "key", key))) for key in path)
