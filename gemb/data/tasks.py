"""The same tasks for seqio: registered, mixed, cached, read. Imports seqio, and so TensorFlow.

seqio does here: the registry of tasks and mixtures under names, its offline cache, its tools, and
the reading of TensorFlow Datasets. Training does not come through here: `gemb.data.pipeline` reads
the same records in numpy, because a tf.data pipeline neither resumes at a step without replaying
all before it nor yields each record once an epoch, and masks one element at a time.
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from gemb.cache import atomic_file, cache_dir
from gemb.checks import UserError
from gemb.data.assembly import Rows, TaskRows, to_batch
from gemb.data.mixing import Task, record_numbers, resolve_rates
from gemb.data.selection import Selection
from gemb.data.sources.records import digest
from gemb.structs import Batch

_CHUNK = 256  # pairs made at a time
_SIDES = ("query", "document")


def register(
    name: str,
    tokenizer_json: str,
    *,
    tasks: Mapping[str, Task],
    rates: str | Mapping[str, float] = "proportional",
    rate_temperature: float = 1.0,
) -> str:
    """Registers tasks, and their mixture, in seqio.

    A task's examples are {"query", "document"}: int32 token ids, as training sees them, unpadded
    and without hard negatives. The order is drawn from seqio's seed; each epoch repeats it.

    Args:
        name: of the mixture; its tasks become `name_task`.
        tokenizer_json: the model's tokenizer.
        tasks: name -> task.
        rates: as in `gemb.data.pipeline.mixture`.
        rate_temperature: likewise.

    Returns:
        The name. What the registries hold under it already is replaced.

    Raises:
        UserError: for bad records or rates.
    """
    sizes = {}
    for key, task in tasks.items():
        selection = Selection(task.records, task.form, task.columns, task.max_bad_fraction, key)
        sizes[key] = len(selection)
        _add_task(f"{name}_{key}", task, selection, tokenizer_json)
    shares = resolve_rates(rates, sizes, rate_temperature)
    if name in seqio.MixtureRegistry.names():
        seqio.MixtureRegistry.remove(name)
    named = zip((f"{name}_{key}" for key in tasks), shares.tolist(), strict=True)
    seqio.MixtureRegistry.add(name, list(named))
    return name


def batches(
    name: str,
    *,
    batch_size: int,
    query_length: int,
    document_length: int,
    seed: int = 0,
    epochs: int | None = 1,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Converts a registered task or mixture, cached or not, to batches of pairs.

    Args:
        name: of the task or mixture.
        batch_size: pairs of this host.
        query_length: tokens that queries are cut and padded to.
        document_length: likewise.
        seed: of mixing and shuffling.
        epochs: how many; a last part of a batch is left out.
        shard: (index, count) of hosts.
    """
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        sequence_length=dict(zip(_SIDES, (query_length, document_length), strict=True)),
        split="train",
        shuffle=False,
        seed=seed,
        shard_info=seqio.ShardInfo(*shard) if shard[1] > 1 else None,
        num_epochs=epochs,
    )
    examples = dataset.as_numpy_iterator()
    while len(part := list(itertools.islice(examples, batch_size))) == batch_size:
        ids = [[example[side].tolist() for example in part] for side in _SIDES]
        query, document = (Rows(side, list(map(str, side))) for side in ids)
        yield to_batch(
            query,
            document,
            [Rows([], [])] * batch_size,
            lengths=(query_length, document_length),
            count=0,
            offset=shard[0] * batch_size,
            fields=None,
        )


def unpack_tfds(name: str, split: str, data_dir: str | None = None) -> Path:
    """Writes a split of a TensorFlow Datasets builder as JSON lines into the cache, once.

    Args:
        name: the builder, with its version.
        split: which split.
        data_dir: where prepared data lies or is downloaded to.

    Returns:
        The file.

    Raises:
        UserError: for a builder or split that is not there.
    """
    path = cache_dir() / "data" / "tfds" / f"{digest(name, split, str(data_dir))}.jsonl"
    if path.exists():
        return path
    try:
        source = seqio.TfdsDataSource(name, data_dir, splits=[split])
        dataset = source.get_dataset(split, shuffle=False)
    except Exception as error:  # tfds raises many kinds
        raise UserError(f"tfds: {name} {split}: {str(error).strip().splitlines()[0]}") from None
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for example in dataset.as_numpy_iterator():
            row = {key: _plain(value) for key, value in example.items()}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def _add_task(name: str, task: Task, selection: Selection, tokenizer_json: str) -> None:
    def dataset(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
        del split, shuffle_files  # one split; always in the seed's order
        rows = TaskRows(task, selection, tokenizer_json, seed or 0)
        ids = tf.TensorSpec([None], tf.int32)
        return tf.data.Dataset.from_generator(
            lambda: _epoch(rows, selection, task, seed or 0),
            output_signature=dict.fromkeys(_SIDES, ids),
        )

    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    feature = seqio.Feature(seqio.PassThroughVocabulary(1), add_eos=False, dtype=tf.int32)
    seqio.TaskRegistry.add(
        name,
        source=seqio.FunctionDataSource(dataset, ("train",), {"train": len(selection)}),
        preprocessors=[seqio.CacheDatasetPlaceholder()],
        output_features=dict.fromkeys(_SIDES, feature),
    )


def _epoch(rows: TaskRows, selection: Selection, task: Task, seed: int) -> Iterator[dict]:
    size = len(selection)
    for start in range(0, size, _CHUNK):
        places = np.arange(start, min(start + _CHUNK, size))
        numbers = record_numbers(places, size, seed, neighbours=task.neighbours)
        query, document, *_ = rows.make(numbers, places)
        for pair in zip(query, document, strict=True):
            yield {side: np.array(ids, np.int32) for side, ids in zip(_SIDES, pair, strict=True)}


def _plain(value):
    """A tensor's value as JSON holds it."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
