"""Steps whose loss or gradient is not finite: kept for replay, passed over, or the end."""

import math
from pathlib import Path

import jax
import numpy as np

from gemb.checks import UserError
from gemb.files import atomic_file
from gemb.structs import Batch

FOLDER = "bad_batches"


class BadSteps:
    """Looks at each step's metrics.

    Args:
        workdir: the run's folder; batches go to its bad_batches/.
        allowed: bad steps in a row that are passed over.
        row: bad steps in a row so far, of a run that goes on.
    """

    def __init__(self, workdir: Path, allowed: int, row: int = 0):
        self._folder, self._allowed, self._row = Path(workdir) / FOLDER, allowed, row

    def look_at(self, step: int, batch: Batch, metrics: dict[str, float]) -> None:
        """Counts a step, and saves its batch if it is bad.

        Raises:
            UserError: at one bad step too many.
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
            print(f"{what}; passed over, {self._row} of at most {self._allowed} in a row")
            return
        raise UserError(
            f"{what}. Lower the learning rate, look at that data, or set "
            "experiment.Experiment.skip_bad_steps. The last checkpoint stays as it was"
        )


def _name(path) -> str:
    return "/".join(str(getattr(key, "name", getattr(key, "key", key))) for key in path)
