"""Checkpoints: the only importer of Orbax.

A checkpoint holds the train state and the data pipeline's position. It is written beside its final
name and renamed when whole, so a kill leaves the last one as it was.
"""

import shutil
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp

from gemb.checks import UserError
from gemb.training.state import TrainState

DISCARDED = "unreadable_checkpoints"


class Checkpoints:
    """The checkpoints of one run, newest last.

    One that cannot be read is put aside, in unreadable_checkpoints/ beside the folder, and the one
    before it is taken.

    Args:
        folder: where they are kept.
        keep: how many of the newest to keep.

    Example:
        >>> with Checkpoints(folder, keep=2) as checkpoints:  # doctest: +SKIP
        ...     checkpoints.save(state, {"batches": 10})
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self._keep = Path(folder), keep
        self._orbax = self._open()

    def _open(self):
        return ocp.training.Checkpointer(
            self.folder.absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=ocp.training.preservation_policies.LatestN(self._keep),
            cleanup_tmp_directories=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._orbax.close()

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return self._orbax.latest.step if self._orbax.latest else None

    def save(self, state: TrainState, data: dict[str, int]) -> None:
        """Writes a checkpoint of the state and the data pipeline's position, and waits for it.

        Raises:
            UserError: when it cannot be written, as on a full disk; earlier ones stay.
        """
        step = int(state.step)
        if step == self.latest:
            return
        tree = {"state": _flatten(state), "data": {k: np.array(v) for k, v in data.items()}}
        try:
            self._orbax.save(step, tree)
        except Exception as error:  # Orbax and TensorStore raise many kinds for one full disk
            raise UserError(
                f"{self.folder}: the checkpoint of step {step} could not be written "
                f"({_first_line(error)}); free the disk and run the same command to go on from "
                f"step {self.latest or 0}"
            ) from error

    def restore(self, abstract: TrainState) -> tuple[TrainState, dict[str, int]]:
        """Reads the newest readable checkpoint onto the shardings of `abstract`.

        Args:
            abstract: TrainState of jax.ShapeDtypeStruct with shardings.

        Returns:
            (state, data position), as they were saved.

        Raises:
            UserError: when the checkpoint is of another model, or none can be read.
        """
        step, tree = self._newest_readable()
        flat, wanted = tree["state"], _flatten(abstract)
        for path in sorted(wanted.keys() | flat.keys()):
            ours, theirs = wanted.get(path), flat.get(path)
            if ours is None or theirs is None or ours.shape != theirs.shape:
                there, here = (getattr(leaf, "shape", "missing") for leaf in (theirs, ours))
                raise UserError(
                    f"{self.folder}/{step}: the checkpoint is of another model: {path} is "
                    f"{there} there, {here} here"
                )
        placed = {path: jax.device_put(flat[path], leaf.sharding) for path, leaf in wanted.items()}
        leaves = [placed[path] for path in _paths(abstract)]
        state = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
        return state, {name: int(value) for name, value in tree["data"].items()}

    def _newest_readable(self) -> tuple[int, dict]:
        steps, tree = [checkpoint.step for checkpoint in self._orbax.checkpoints], None
        for step in reversed(steps):
            try:
                tree = self._orbax.load(step)
                _ = tree["state"], tree["data"]
            except Exception as error:  # Orbax and TensorStore raise many kinds
                print(
                    f"{self.folder}/{step}: the checkpoint cannot be read ({_first_line(error)}); "
                    f"put aside in {DISCARDED}/"
                )
                self._put_aside(step)
            else:
                return step, tree
        raise UserError(
            f"{self.folder}: no checkpoint can be read (of steps {steps}); --force begins anew"
        )

    def _put_aside(self, step: int) -> None:
        self._orbax.close()
        aside = self.folder.parent / DISCARDED
        aside.mkdir(exist_ok=True)
        shutil.rmtree(aside / str(step), ignore_errors=True)
        (self.folder / str(step)).rename(aside / str(step))
        self._orbax = self._open()


def _paths(tree) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _flatten(tree) -> dict:
    return dict(zip(_paths(tree), jax.tree.leaves(tree), strict=True))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
