"""Reads and writes checkpoints. Only this module imports Orbax.

A checkpoint holds the train state and the data pipeline's position. It is written in the
background under a temporary name and renamed when complete, so a kill keeps the previous one.
"""

import contextlib
import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint.experimental.v1 as ocp
from orbax.checkpoint.experimental.v1.training import preservation_policies as policies

from gemb.checks import UserError
from gemb.parallel import hosts
from gemb.runs.interruption import LostProcess
from gemb.training.state import TrainState

DISCARDED = "unreadable_checkpoints"
_SCORE, _STEP = "score", "step"
_DISK = re.compile("space|quota|permission|read-only", re.IGNORECASE)


class Checkpoints:
    """The checkpoints of one run, newest last; every process calls every method.

    A checkpoint that cannot be read is moved to unreadable_checkpoints/ next to the folder if an
    older one can be read.

    Args:
        folder: the folder of the checkpoints.
        keep: how many of the newest checkpoints to keep.
        keep_every: also keep checkpoints whose step is a multiple of this; 0 for none.
        keep_best: also keep this many checkpoints with the highest scores.

    Example:
        >>> with Checkpoints(folder, keep=2) as checkpoints:  # doctest: +SKIP
        ...     checkpoints.save(state, {"batches": 10})
    """

    def __init__(self, folder: Path, keep: int = 2, keep_every: int = 0, keep_best: int = 0):
        self.folder = Path(folder)
        kept = [policies.LatestN(keep)]
        if keep_every:
            kept.append(policies.EveryNSteps(keep_every))
        if keep_best:
            best = policies.BestN(
                get_metric_fn=_rank,
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
            kept.append(best)
        self._policy = policies.AnyPreservationPolicy(kept)
        self._orbax = self._open()

    def _open(self):
        return ocp.training.Checkpointer(
            self.folder.absolute(),
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            preservation_policy=self._policy,
            cleanup_tmp_directories=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, kind, *error):
        if kind is None:
            with self._reported("the last checkpoint"):
                self._orbax.close()
        elif jax.process_count() == 1:  # otherwise it would wait for processes that may have ended
            with contextlib.suppress(Exception):  # the first error matters more
                self._orbax.close()

    @property
    def steps(self) -> list[int]:
        """The steps of the checkpoints, oldest first."""
        return [checkpoint.step for checkpoint in self._orbax.checkpoints]

    @property
    def latest(self) -> int | None:
        """The step of the newest checkpoint, or None."""
        return self._orbax.latest.step if self._orbax.latest else None

    @property
    def best(self) -> int | None:
        """The step of the first checkpoint with the highest score; None if none has a score."""
        scored = [checkpoint for checkpoint in self._orbax.checkpoints if checkpoint.metrics]
        return max(scored, key=lambda one: one.metrics[_SCORE]).step if scored else None

    def save(self, state: TrainState, data: Mapping[str, int], score: float | None = None) -> None:
        """Starts to write a checkpoint of the state and the data pipeline's position.

        The arrays are copied before it returns; files are written in the background. `wait`, the
        next save and the end of the `with` block wait for them.

        Args:
            state: the state.
            data: the position.
            score: the score for keep_best; NaN counts as none.

        Raises:
            UserError: if this checkpoint or the previous one cannot be written, for example on a
                full disk; older ones are kept.
        """
        step = int(state.step)
        if step == self.latest:
            return
        tree = {"state": _flatten(state), "data": {k: np.array(v) for k, v in data.items()}}
        with self._reported(f"the checkpoint of step {step}"):
            scored = score is not None and not math.isnan(score)
            metrics = {_SCORE: score, _STEP: step} if scored else None
            self._orbax.save_async(step, tree, metrics=metrics)

    def wait(self) -> None:
        """Waits until all checkpoints are on disk.

        Raises:
            UserError: if a checkpoint cannot be written.
        """
        with self._reported("the last checkpoint"):
            self._orbax.wait()

    def restore(
        self, abstract: TrainState, step: int | None = None
    ) -> tuple[TrainState, dict[str, int]]:
        """Reads a checkpoint onto the shardings of `abstract`, from any mesh that it was saved on.

        Args:
            abstract: TrainState of jax.ShapeDtypeStruct with shardings.
            step: the step of the checkpoint; default the newest that can be read.

        Returns:
            (state, data position) as saved.

        Raises:
            UserError: if the checkpoint is of another model, or none can be read.
        """
        self.wait()
        if step is None:
            tree = self._newest_readable(abstract)
        else:
            tree, problem = self._attempt(step, abstract)
            if problem:
                raise UserError(f"{self.folder}/{step}: the checkpoint cannot be read ({problem})")
        leaves = [tree["state"][path] for path in _paths(abstract)]
        state = jax.tree.unflatten(jax.tree.structure(abstract), leaves)
        return state, {name: int(value) for name, value in tree["data"].items()}

    def _attempt(self, step: int, abstract: TrainState) -> tuple[dict | None, str]:
        """(checkpoint, "") or (None, why it cannot be read)."""
        try:
            return self._read(step, abstract), ""
        except UserError:
            raise
        except Exception as error:  # Orbax and TensorStore raise many kinds
            return None, _first_line(error)

    def _newest_readable(self, abstract: TrainState) -> dict:
        """The newest checkpoint that all processes can read; newer ones are then moved away."""
        steps, broken = self.steps, []
        for step in reversed(steps):
            tree, problem = self._attempt(step, abstract)
            if problem:
                print(f"{self.folder}/{step}: the checkpoint cannot be read ({problem})")
            if not hosts.any_says(bool(problem)):
                for newer in broken:
                    self._put_aside(newer)
                return tree
            broken.append(step)
        raise UserError(
            f"{self.folder}: no checkpoint can be read (of steps {steps}; all are kept unchanged)"
            "; fix what the lines above report and run the same command, or start over with "
            "--force"
        )

    def _read(self, step: int, abstract: TrainState) -> dict:
        """Reads this process's shards without waiting for others, so that errors are reported."""
        wanted, saved = _flatten(abstract), self._orbax.metadata(step).metadata
        if not saved:
            raise ValueError("its metadata is damaged")
        for path in sorted(wanted.keys() | saved["state"].keys()):
            here, there = (
                getattr(x.get(path), "shape", "missing") for x in (wanted, saved["state"])
            )
            if here != there:
                raise UserError(
                    f"{self.folder}/{step}: the checkpoint is of another model: {path} is "
                    f"{there} there, {here} here"
                )
        me, context = jax.process_index(), ocp.Context()
        context.multiprocessing.primary_host = me
        context.multiprocessing.active_processes = {me}
        position = {name: np.zeros(x.shape, x.dtype) for name, x in saved["data"].items()}
        with context:
            return ocp.load(self.folder.absolute() / str(step), {"state": wanted, "data": position})

    def _put_aside(self, step: int) -> None:
        self._orbax.close()
        aside = self.folder.parent / DISCARDED

        def move():
            aside.mkdir(exist_ok=True)
            shutil.rmtree(aside / str(step), ignore_errors=True)
            (self.folder / str(step)).rename(aside / str(step))
            print(f"{self.folder}/{step}: moved to {DISCARDED}/")

        hosts.on_first(move)
        self._orbax = self._open()

    @contextlib.contextmanager
    def _reported(self, what: str):
        try:
            yield
        except Exception as error:  # Orbax and TensorStore raise many kinds for one full disk
            # Processes wait for each other while they write.
            own = isinstance(error, OSError) or _DISK.search(str(error))
            if jax.process_count() > 1 and not own:
                raise LostProcess(error) from error
            raise UserError(
                f"{self.folder}: {what} could not be written ({_first_line(error)}); free the disk "
                f"and run the same command to go on from step {self._on_disk()}"
            ) from error

    def _on_disk(self) -> int:
        steps = [int(path.name) for path in self.folder.glob("*") if path.name.isdigit()]
        return max(steps, default=0)


def _rank(metrics: Mapping[str, float]) -> tuple:
    """Of two checkpoints with the same score the first is the best."""
    return metrics[_SCORE], -metrics.get(_STEP, 0)


def _paths(tree) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _flatten(tree) -> dict:
    return dict(zip(_paths(tree), jax.tree.leaves(tree), strict=True))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
