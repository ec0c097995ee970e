"""Encodes long lists: sorted by length, in buckets, with results read after later dispatches."""

import collections
import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tqdm import tqdm

from gemb.models.execution import Execution
from gemb.parallel.mesh import make_mesh
from gemb.parallel.placement import place_batch
from gemb.processors.processor import Example, Processor
from gemb.structs import Inputs

# Padded tokens in one batch. On CPU the activations of about a thousand tokens stay in cache, and
# larger batches are 20-30 % slower; accelerators need work for all their cores.
CPU_BUDGET = 1024
ACCELERATOR_BUDGET = 65_536
# Batches dispatched before the oldest is read: the device never waits for the host.
IN_FLIGHT = 8


@functools.cache
def program(apply: Callable, execution: Execution = Execution()) -> Callable:
    """The jitted (params, Inputs) -> [rows, dim] of a model; models of the same shape share it.

    Args:
        apply: `embed` of `gemb.models.functional.functional`, which is the same object for equal
            specs.
        execution: execution settings.
    """
    return jax.jit(lambda params, inputs: apply(params, inputs, execution))


def place(params: dict, devices: Sequence | None = None) -> dict:
    """Copies the parameters to every device that encodes.

    Args:
        params: {path: array}.
        devices: default all devices of this process, but only one CPU device, because virtual ones
    """
    if devices is None:
        devices = jax.local_devices()[: 1 if jax.default_backend() == "cpu" else None]
    if len(devices) == 1:
        return jax.device_put(params, devices[0])
    return jax.device_put(params, NamedSharding(make_mesh(devices=devices), PartitionSpec()))


def encode_examples(
    apply: Callable[[dict, Inputs], jax.Array],
    params: dict,
    examples: Sequence[Example],
    processor: Processor,
    *,
    dim: int,
    budget: int | None = None,
    progress: str = "",
) -> np.ndarray:
    """Applies a model to prepared values, in batches of similar sizes.

    Args:
        apply: jitted (params, Inputs of `rows` rows) -> [rows, dim], called with few distinct
            shapes.
        params: from `place`; the rows of a batch are split over their devices.
        examples: from the processor's `prepare`.
        processor: the processor that pads them.
        dim: coordinates per embedding.
        budget: padded positions per batch and device; the default depends on the kind of device.
        progress: label of the progress bar; '' for none.

    Returns:
        [len(examples), dim] float32, in the order of `examples`.
    """
    vectors = np.empty((len(examples), dim), np.float32)
    for rows, output in outputs(apply, params, examples, processor, budget, progress):
        vectors[rows] = output
    return vectors


def outputs(
    apply: Callable[[dict, Inputs], jax.Array],
    params: dict,
    examples: Sequence[Example],
    processor: Processor,
    budget: int | None = None,
    progress: str = "",
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Applies a function to prepared values, those of like size together.

    Args:
        apply: (params, Inputs of `rows` rows) -> [rows, ...]; see `encode_examples` for the rest.
        params, examples, processor, budget, progress: the same.

    Yields:
        Numbers of examples, and their rows of the output, padding left out.
    """
    if budget is None:
        budget = CPU_BUDGET if jax.default_backend() == "cpu" else ACCELERATOR_BUDGET
    sharding = next(iter(params.values())).sharding
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    ways = mesh.size if mesh else 1
    budget *= ways
    sizes = np.fromiter((example.size for example in examples), np.int64, len(examples))
    pending = collections.deque()
    context = jax.set_mesh(mesh) if mesh else contextlib.nullcontext()
    with (
        context,
        tqdm(total=len(examples), desc=progress, unit="text", disable=not progress) as bar,
    ):

        def read() -> tuple[np.ndarray, np.ndarray]:
            rows, output = pending.popleft()
            bar.update(len(rows))
            return rows, np.asarray(output)[: len(rows)]

        for rows in _batches_of(examples, sizes, processor, budget):
            size = processor.bucket(int(sizes[rows].max()))
            count = _row_bucket(len(rows), max(1, budget // size), ways)
            inputs = processor.collate([examples[row] for row in rows], size, count)
            inputs = place_batch(inputs, mesh) if mesh else inputs
            pending.append((rows, apply(params, inputs)))
            if len(pending) > IN_FLIGHT:
                yield read()
        while pending:
            yield read()


def _batches_of(
    examples: Sequence[Example], sizes: np.ndarray, processor: Processor, budget: int
) -> Iterator[np.ndarray]:
    """Row numbers of each batch; of a processor of several kinds, each batch is of one kind."""
    groups = getattr(processor, "groups", None)
    for group in [range(len(examples))] if groups is None else groups(examples):
        places = np.fromiter(group, np.int64, len(group))
        for rows in _batches(sizes[places], processor.bucket, budget):
            yield places[rows]


def _batches(sizes: np.ndarray, bucket: Callable[[int], int], budget: int) -> Iterator[np.ndarray]:
    """Row numbers of each batch, longest first, so that memory peaks in the first batch."""
    order = np.argsort(-sizes, kind="stable")
    start = 0
    while start < len(order):
        count = max(1, budget // bucket(int(sizes[order[start]])))
        yield order[start : start + count]
        start += count


def _row_bucket(rows: int, full: int, ways: int) -> int:
    """Rows with padding: a full batch or the next power of two, to keep the shapes few.

    Every device gets the same number.
    """
    return -(-min(full, 1 << (rows - 1).bit_length()) // ways) * ways
