"""The same tasks for seqio: registered, mixed, cached, read. Imports seqio, and so TensorFlow.

seqio does here: the registry of tasks and mixtures under names, its offline cache (written by
`gemb.data.offline`), its tools, and the reading of TensorFlow Datasets. Training does not come
through here: `gemb.data.pipeline` reads the same records in numpy, because a tf.data pipeline
neither resumes at a step without replaying all before it nor yields each record once an epoch, and
masks one element at a time.
"""

import itertools
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import seqio
import tensorflow as tf

from gemb.checks import UserError
from gemb.data.assembly import Row, TaskRows, to_batch
from gemb.data.mixing import Task, record_numbers, resolve_rates
from gemb.data.selection import Selection
from gemb.data.sources.records import digest
from gemb.files import atomic_file, cache_dir
from gemb.processors.processor import Example
from gemb.processors.text import collate
from gemb.structs import SIDES, Batch, Processors

SPLIT = "train"
_CHUNK = 256  # pairs made at a time
_SHARD_RECORDS = 10_000  # of a shard that one worker reads when a task is cached
_PLACES = 2**62


def register(
    name: str,
    processors: Processors,
    *,
    tasks: Mapping[str, Task],
    rates: str | Mapping[str, float] = "proportional",
    rate_temperature: float = 1.0,
) -> str:
    """Registers tasks, and their mixture, in seqio.

    A task's examples are {"query", "document"}: int32 token ids, as training sees them, unpadded
    and without hard negatives. What is drawn for them, such as masks, comes from seqio's seed and
    differs between epochs. An offline cache holds the records before that, see `records_of`.

    Args:
        name: of the mixture; its tasks become `name_task`.
        processors: the model's, of texts.
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
        add_task(f"{name}_{key}", task, selection, processors)
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
    use_cached: bool = False,
) -> Iterator[Batch]:
    """Converts a registered task or mixture to batches of pairs.

    Args:
        name: of the task or mixture.
        batch_size: pairs of this host.
        query_length: tokens that queries are cut and padded to.
        document_length: likewise.
        seed: of mixing and shuffling.
        epochs: how many; a last part of a batch is left out.
        shard: (index, count) of hosts.
        use_cached: whether to read the offline cache, in the folders of
            `seqio.add_global_cache_dirs`.
    """
    dataset = seqio.get_mixture_or_task(name).get_dataset(
        sequence_length=dict(zip(SIDES, (query_length, document_length), strict=True)),
        split=SPLIT,
        use_cached=use_cached,
        shuffle=True,
        seed=seed,
        shard_info=seqio.ShardInfo(*shard) if shard[1] > 1 else None,
        num_epochs=epochs,
    )
    examples = dataset.as_numpy_iterator()
    while len(part := list(itertools.islice(examples, batch_size))) == batch_size:
        rows = [Row(*(_example(example[side]) for side in SIDES), [], 1.0) for example in part]
        yield to_batch(
            rows,
            collate=(collate, collate),
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
        data_dir: the folder of prepared or downloaded data.

    Returns:
        The file.

    Raises:
        UserError: for a builder or split that does not exist, or one of pictures.
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
            for key, value in example.items():
                if getattr(value, "ndim", 0) > 2:
                    raise UserError(
                        f"tfds: {name}: the field {key!r} holds pictures; read the builder's files "
                        "with reading.files and pictures.with_images"
                    )
            row = {key: _plain(value) for key, value in example.items()}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def add_task(
    name: str,
    task: Task,
    selection: Selection,
    processors: Processors,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Registers one task in seqio, in the place of what has the name already.

    Args:
        name: of the task.
        task: the task.
        selection: its records.
        processors: the model's, of texts.
        progress: called with the number of records that were read just now.

    Raises:
        UserError: for a name that seqio does not take.
    """
    if not re.fullmatch(r"[\w.]+", name):
        raise UserError(f"{name}: seqio takes names of letters, digits, '_' and '.' only")
    if name in seqio.TaskRegistry.names():
        seqio.TaskRegistry.remove(name)
    feature = seqio.Feature(seqio.PassThroughVocabulary(1), add_eos=False, dtype=tf.int32)
    seqio.TaskRegistry.add(
        name,
        source=_Source(selection, task.neighbours, progress),
        preprocessors=[seqio.CacheDatasetPlaceholder(), _pairs(task, processors)],
        output_features=dict.fromkeys(SIDES, feature),
        shuffle_buffer_size=None,  # the source shuffles whole
    )


def records_of(selection: Selection, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Examples of records as the offline cache holds them.

    Args:
        selection: the records.
        numbers: [n] which.

    Returns:
        "number" [n] int64, its place in the selection, by which a reader finds the order again;
        "size" [n] int64, as for `Selection.sizes`; "record" [n] bytes: JSON of the form's columns.
    """
    rows = [json.dumps(selection[int(n)], ensure_ascii=False, default=float) for n in numbers]
    rows = [row.encode("utf-8", "surrogatepass") for row in rows]
    try:
        sizes = selection.sizes(numbers)
    except UserError:  # Arrow does not tell
        sizes = [len(row) for row in rows]
    return {
        "number": np.asarray(numbers, np.int64),
        "size": np.asarray(sizes, np.int64),
        "record": np.array(rows, object),
    }


class _Source(seqio.DataSource):
    """Records by number, so that any shard of them is read without what comes before."""

    def __init__(self, selection: Selection, neighbours: int, progress):
        super().__init__((SPLIT,), {SPLIT: len(selection)}, performs_internal_shuffling=True)
        self._selection, self._neighbours, self._progress = selection, neighbours, progress

    @property
    def supports_arbitrary_sharding(self) -> bool:
        return True

    def list_shards(self, split: str) -> list[str]:
        count = -(-len(self._selection) // _SHARD_RECORDS)
        return [f"{split}-{number:05}-of-{count:05}" for number in range(count)]

    def get_dataset(self, split=SPLIT, shuffle=True, seed=None, shard_info=None, **unused):
        size = len(self._selection)
        index, count = (shard_info.index, shard_info.num_shards) if shard_info else (0, 1)
        order = 0 if seed is None else int(seed)

        def read(places: np.ndarray) -> tuple[np.ndarray, ...]:
            numbers = places
            if shuffle:
                numbers = record_numbers(places, size, order, neighbours=self._neighbours)
            made = records_of(self._selection, numbers)
            if self._progress:
                self._progress(len(places))
            return tuple(made.values())

        def examples(places: tf.Tensor) -> dict[str, tf.Tensor]:
            kinds = {"number": tf.int64, "size": tf.int64, "record": tf.string}
            made = tf.numpy_function(read, [places], list(kinds.values()))
            named = zip(kinds, made, strict=True)
            return {name: tf.ensure_shape(value, [None]) for name, value in named}

        # Places of an order that all shards share, so that they are disjoint and leave nothing out.
        places = tf.data.Dataset.range(index * size // count, (index + 1) * size // count)
        return places.batch(_CHUNK).map(examples).unbatch()


def _pairs(task: Task, processors: Processors) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """The preprocessor from cached records to token ids, many at a time."""

    @seqio.map_over_dataset(num_seeds=1)
    def draw(example, seed):
        place = tf.random.stateless_uniform([], seed, 0, _PLACES, tf.int64)
        return {"record": example["record"], "place": place}

    def cut(example):
        return {side: example[side][: example[f"{side}_length"]] for side in SIDES}

    def preprocess(dataset: tf.data.Dataset) -> tf.data.Dataset:
        held: list[dict] = []
        rows, alone = TaskRows(task, held, processors, 0), threading.Lock()

        def make(contents: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, ...]:
            with alone:  # a dataset may be iterated by several at once
                held[:] = map(json.loads, contents)
                made = rows.make(np.arange(len(held)), places)
            return (*_dense([row.query for row in made]), *_dense([row.document for row in made]))

        def chunk(examples):
            kinds = [tf.int32, tf.int32] * 2
            made = tf.numpy_function(make, [examples["record"], examples["place"]], kinds)
            names = [name for side in SIDES for name in (side, f"{side}_length")]
            shapes = ([None, None], [None]) * 2
            named = zip(names, made, shapes, strict=True)
            return {name: tf.ensure_shape(value, shape) for name, value, shape in named}

        return draw(dataset).batch(_CHUNK).map(chunk).unbatch().map(cut)

    return preprocess


def _example(ids: np.ndarray) -> Example:
    """An example of token ids alone; two texts of equal ids count as equal."""
    return Example(str(ids.tolist()), ids.tolist(), len(ids))


def _dense(examples: Sequence[Example]) -> tuple[np.ndarray, np.ndarray]:
    """[rows, longest] int32 ids, and [rows] int32 lengths."""
    lengths = np.array([example.size for example in examples], np.int32)
    dense = np.zeros((len(examples), lengths.max()), np.int32)
    ids = itertools.chain.from_iterable(example.content for example in examples)
    dense[np.arange(lengths.max()) < lengths[:, None]] = list(ids)
    return dense, lengths


def _plain(value):
    """A tensor's value as JSON holds it."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
