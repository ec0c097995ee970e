"""Runs of the training loop that take a second: a tiny model, random pairs, any number of hosts.

Also a program, one process of a run of two, or of one where COORDINATOR is "":

    python tests/training/tiny_runs.py WORKDIR COORDINATOR PROCESS_ID JSON_OPTIONS
"""

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax

from gemb import losses
from gemb.models.scratch import from_scratch
from gemb.processors.text import of_bytes
from gemb.structs import Batch, Tokens

MODEL = from_scratch(of_bytes(), layers=1, width=8, heads=2, mlp=16)


class Batches:
    """Batches of random pairs by their number; does `at[step]` before that of a step.

    Args:
        at: step -> "nan" for a loss that is none, or what to call.
        rows: in a global batch.
        negatives: hard negatives a row; with some, rows and negatives are masked here and there.
        shard: (index, count): which part of it is made.
    """

    def __init__(self, at=None, rows=8, negatives=0, shard=(0, 1)):
        self.description = {"folder": "made here", "fingerprint": "0"}
        self._at, self._rows, self._negatives, self._shard = at or {}, rows, negatives, shard
        self._done = 0

    def __next__(self):
        self._done += 1
        random, rows = np.random.default_rng(self._done), self._rows
        candidates = rows * (1 + self._negatives)

        def tokens(count):
            ids = random.integers(3, 99, (count, 6)).astype(np.int32)
            return Tokens(ids, np.arange(6) < random.integers(2, 7, (count, 1)))

        query, document = tokens(rows), tokens(candidates)
        real, there = np.ones(rows, bool), np.ones(candidates, bool)
        if self._negatives:
            real[5], there[rows + 2] = False, False
        weights = np.ones(rows, np.float32)
        action = self._at.get(self._done)
        if action == "nan":
            weights[3] = np.nan
        elif action:
            action()
        return self._part(query, document, real, there, weights)

    def _part(self, query, document, real, there, weights):
        """This host's rows, the positives and then the negatives of each."""
        index, count = self._shard
        size, each = self._rows // count, 1 + self._negatives
        own = slice(index * size, (index + 1) * size)
        extra = slice(self._rows + index * size * (each - 1), None)
        at = np.arange(self._rows * each)
        at = np.concatenate([at[own], at[extra][: size * (each - 1)]])
        return Batch(
            Tokens(*(side[own] for side in query[:2])),
            Tokens(*(side[at] for side in document[:2])),
            np.arange(size, dtype=np.int32) + index * size * each,
            np.arange(self._rows, dtype=np.int32)[own],
            (1000 + at).astype(np.int32),
            real[own],
            there[at],
            {"weights": weights[own]},
        )

    def get_state(self):
        return {"batches": self._done}

    def set_state(self, state):
        self._done = state["batches"]


def run(workdir, at=None, *, rows=8, negatives=0, optimizer=None, **options):
    """Trains for six steps unless told otherwise; returns what `train` returns."""
    from gemb.training.experiment import Experiment
    from gemb.training.loop import train

    options = {
        "checkpoint_steps": 2,
        "steps": 6,
        "model": MODEL,
        "data": lambda processors, seed, shard: Batches(at, rows, negatives, shard),
    } | options
    profile_steps = options.pop("profile_steps", None)
    experiment = Experiment(
        loss=options.pop("loss", partial(losses.info_nce, temperature=0.1)),
        optimizer=lambda steps: optimizer() if optimizer else optax.adamw(1e-3),
        **options,
    )
    return train(experiment, Path(workdir), profile_steps=profile_steps)


# All at once that a step can hold: hard negatives, masks, nested widths, gradient caching.
NESTED = {
    "rows": 16,
    "negatives": 2,
    "widths": (8, 4),
    "loss": partial(
        losses.matryoshka,
        widths=(8, 4),
        loss=partial(losses.info_nce, symmetric=True, temperature=0.1),
    ),
    "query_microbatches": 2,
    "document_microbatches": 2,
}


def gradient(workdir, **options) -> np.ndarray:
    """Of the first step, flat: what plain descent at rate 1e4 moves the weights by."""
    start = run(workdir / "start", steps=0, **NESTED, **options)[0]
    moved = run(workdir / "moved", steps=1, optimizer=lambda: optax.sgd(1e4), **NESTED, **options)
    if start is None:
        return None
    return np.concatenate(
        [(p - moved[0].params[path]).ravel() for path, p in sorted(start.params.items())]
    )


def last_row(model) -> dict[str, float]:
    """An evaluator that needs a device: it computes with the model's last parameter."""
    return {"norm": float(jnp.linalg.norm(jnp.asarray(model.params[max(model.params)])))}


def main(workdir: str, coordinator: str, process_id: str, options: str) -> None:
    from gemb.parallel import distributed, hosts
    from gemb.parallel.mesh import make_mesh

    if coordinator:  # a lost process is told of by collectives, before its heartbeats are missed
        distributed.join(coordinator, int(process_id), 2, heartbeat_seconds=300)
    options, workdir = json.loads(options), Path(workdir)
    pause = options.pop("pause", 0)
    mesh, actions = partial(make_mesh, *options.pop("mesh")), {}
    if pause:
        actions = dict.fromkeys(range(1, options["steps"] + 1), partial(time.sleep, pause))
    signals = options.pop("signals", {}).get(process_id, {})
    for step, name in signals.items():
        actions[int(step)] = partial(os.kill, os.getpid(), getattr(signal, name))
    if options.pop("evaluate", False):
        options |= {"evaluators": {"last": last_row}, "evaluate_steps": 2, "ema_decay": 0.5}
        options["keep_best"] = "last/norm"
    if options.pop("gradient", False):
        found = gradient(workdir, mesh=mesh)
        if found is not None:
            np.save(workdir / "gradient.npy", found)
    run(workdir, actions, **NESTED | {"mesh": mesh} | options)
    hosts.any_says(False)  # neither leaves before the other


if __name__ == "__main__":
    from gemb.checks import UserError

    try:
        main(*sys.argv[1:])
    except UserError as error:
        print(error, flush=True)
        time.sleep(0.1)
        os._exit(error.status)
