"""Batches of pairs for training, from what a config says: the functions that gin binds as DATA.

No TensorFlow and no seqio: training hosts need neither. `gemb.data.seqio_tasks` gives the same
tasks to seqio.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from gemb.checks import UserError
from gemb.data.assembly import TaskRows
from gemb.data.batches import PairBatches, Part
from gemb.data.forms import Pairs
from gemb.data.mixing import Schedule, Task, resolve_rates
from gemb.data.randomness import bits
from gemb.data.selection import Selection
from gemb.data.sources.reading import files
from gemb.data.workers import Workers
from gemb.structs import Processors

_ORDER = 2  # raise it when the same state would give other batches


def mixture(
    processors: Processors,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    *,
    tasks: Mapping[str, Task],
    batch_size: int,
    rates: str | Mapping[str, float] = "proportional",
    rate_temperature: float = 1.0,
    homogeneous: bool = True,
    buckets: Sequence[int] = (),
    prefetch: int = 2,
    workers: int = 0,
    folder: str = "",
) -> PairBatches:
    """Batches of a mixture of tasks.

    Args:
        processors: the model's.
        seed: of shuffling, mixing, prompts, masks and negatives.
        shard: (index, count) of hosts. The batches do not depend on the count.
        tasks: name -> task.
        batch_size: pairs in a batch over all hosts, for tasks that set none.
        rates: share of each task by name, of batches where these are homogeneous, else of pairs;
            or "proportional" to the number of records.
        rate_temperature: flattens the rates where above 1: share ~ rate^(1/temperature).
        homogeneous: whether a batch holds pairs of one task alone.
        buckets: lengths that batches are padded to, the shortest that holds all rows; the tasks'
            own lengths stay the limits. Each is one compilation. None: the limits alone.
        prefetch: batches made ahead, in a thread.
        workers: processes that decode pictures and videos for that thread; 0 decodes in it.
            Batches do not depend on it.
        folder: a harvest or BEIR folder that `gemb evaluate` and `gemb search` default to.

    Raises:
        UserError: for a bad rate, batch size or record, see `Task` and `Selection`.
    """
    if not tasks:
        raise UserError("tasks: the mixture holds none")
    parts, decoding = [], Workers(workers)
    # By name: gin writes dicts sorted, and the config of a run must give the run's batches again.
    for name, task in sorted(tasks.items()):
        size = task.batch_size or batch_size
        _check_sizes(name, task, size, batch_size, homogeneous, shard[1])
        chosen = Selection(task.records, task.form, task.columns, task.max_bad_fraction, name)
        own = int(bits(seed, *name.encode())[0])
        rows = TaskRows(task, chosen, processors, own, decoding)
        parts.append(Part(name, task, chosen, rows, own, size))
    _check_temperatures(tasks, homogeneous)
    if prefetch < 0:
        raise UserError(f"prefetch: expected 0 or more batches, got {prefetch}")
    shares = resolve_rates(rates, {p.name: len(p.selection) for p in parts}, rate_temperature)
    schedule = Schedule(shares, [part.batch_size for part in parts], homogeneous, seed)
    description = _describe(parts, shares, homogeneous, folder)
    return PairBatches(
        parts, processors, schedule, shard, homogeneous, buckets, prefetch, description
    )


def pairs(
    processors: Processors,
    seed: int,
    shard: tuple[int, int] = (0, 1),
    *,
    folder: str | Path,
    batch_size: int,
    rates: Mapping[str, float],
    query_length: int = 32,
    document_length: int = 128,
    prompts: Mapping[str, str] | None = None,
    neighbours: int = 1,
    negatives: int = 0,
    max_bad_fraction: float = 0.0,
) -> PairBatches:
    """Mixed batches of (query, document) pairs from the training files of a folder.

    Args:
        processors: the model's.
        seed: of shuffling and mixing.
        shard: (index, count) of hosts.
        folder: a folder with such files, as `gemb harvest` writes.
        batch_size: pairs in a batch over all hosts.
        rates: name of a .jsonl file in the folder, without its ending -> its share of the pairs.
        query_length: tokens that queries are cut and padded to.
        document_length: tokens that documents are cut and padded to.
        prompts: {"query": ..., "document": ...}, or one of them, put in front of texts in place of
            the model's own.
        neighbours: consecutive lines that stay together when a file is shuffled. Where neighbours
            are alike, as functions of one module, they are each other's hard negatives.
        negatives: hard negatives a query, of the files' "negatives".
        max_bad_fraction: how many lines of a file may be broken; those are left out and counted.

    Raises:
        UserError: for a missing file, a bad rate, or a batch size that the hosts do not divide.
    """
    home = Path(folder).expanduser()
    own = {f"{side}_prompts": (prompt,) for side, prompt in (prompts or {}).items()}
    tasks = {}
    for name in rates:
        path = home / f"{name}.jsonl"
        if not path.exists() or path.stat().st_size == 0:
            raise UserError(
                f"{path}: no training pairs there; run `gemb harvest`, or choose rates among "
                f"{sorted(p.stem for p in home.glob('*.jsonl'))}"
            )
        tasks[name] = Task(
            files(path),
            Pairs(negatives),
            query_length=query_length,
            document_length=document_length,
            **own,
            neighbours=neighbours,
            max_bad_fraction=max_bad_fraction,
        )
    return mixture(
        processors,
        seed,
        shard,
        tasks=tasks,
        batch_size=batch_size,
        rates=rates,
        homogeneous=False,
        folder=str(home.resolve()),
    )


def _check_sizes(
    name: str, task: Task, size: int, batch_size: int, homogeneous: bool, hosts: int
) -> None:
    if size % hosts:
        raise UserError(f"batch_size: {size} does not divide over {hosts} hosts")
    if size < 1:
        raise UserError(f"{name}: batch_size: expected at least 1, got {size}")
    if not homogeneous and (size != batch_size or task.length_window > 1):
        raise UserError(
            f"{name}: batch_size and length_window of a task are for homogeneous batches; mixed "
            "ones have the mixture's batch_size"
        )


def _check_temperatures(tasks: Mapping[str, Task], homogeneous: bool) -> None:
    unset = [name for name, task in tasks.items() if task.temperature is None]
    if len(unset) < len(tasks) and (unset or not homogeneous):
        raise UserError(
            "temperature: tasks have their own in homogeneous batches only, and then all of them; "
            f"{', '.join(unset) or 'batches are mixed'}"
        )


def _describe(parts: Sequence[Part], shares, homogeneous: bool, folder: str) -> dict:
    settings = [_ORDER, homogeneous]
    settings += [
        (p.name, p.selection.fingerprint, p.batch_size, p.task.neighbours, p.task.length_window)
        for p in parts
    ]
    digest = hashlib.sha256(repr((settings, shares.tolist())).encode()).hexdigest()[:32]
    tasks = {
        part.name: part.selection.counts | {"pairs": len(part.selection), "rate": float(share)}
        for part, share in zip(parts, shares, strict=True)
    }
    return {"folder": folder, "fingerprint": digest, "tasks": tasks}
