"""Long lists encoded quickly: sorted, in buckets, read only when later batches are dispatched."""

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
from gemb.processors.padding import bucket, pad
from gemb.structs import Tokens

# Padded tokens in one batch. On CPU the activations of about a thousand tokens stay in cache, and
# larger batches are 20-30 % slower; accelerators want work for all their cores.
CPU_BUDGET = 1024
ACCELERATOR_BUDGET = 65_536
# Batches dispatched before the oldest is read: the device never waits for the host.
IN_FLIGHT = 8


@functools.cache
def program(apply: Callable, execution: Execution = Execution()) -> Callable:
    """The jitted (params, Tokens) -> [rows, dim] of a model; models of one shape share it.

    Args:
        apply: of `gemb.models.functional.functional`, which is one object for each spec.
        execution: how to compute the model.
    """
    return jax.jit(lambda params, tokens: apply(params, tokens, execution))


def place(params: dict, devices: Sequence | None = None) -> dict:
    """Parameters, whole, on every device that encodes.

    Args:
        params: {path: array}.
        devices: default all of this process, but one CPU: virtual ones share its cores.
    """
    if devices is None:
        devices = jax.local_devices()[: 1 if jax.default_backend() == "cpu" else None]
    if len(devices) == 1:
        return jax.device_put(params, devices[0])
    return jax.device_put(params, NamedSharding(make_mesh(devices=devices), PartitionSpec()))


def encode_ids(
    apply: Callable[[dict, Tokens], jax.Array],
    params: dict,
    ids: Sequence[Sequence[int]],
    *,
    max_length: int,
    dim: int,
    unpooled: int = 0,
    token_budget: int | None = None,
    progress: str = "",
) -> np.ndarray:
    """Applies a model to tokenized texts.

    Args:
        apply: (params, Tokens [rows, length]) -> [rows, dim]; jitted, called with few distinct
            shapes.
        params: from `place`; the rows of a batch are split over their devices.
        ids: one list of token ids a text.
        max_length: the longest bucket.
        dim: size of an embedding.
        unpooled: leading tokens of each text, those of the prompt, that the pooler does not see.
        token_budget: padded tokens of a batch on one device; default by the kind of device.
        progress: label of the progress bar; '' for none.

    Returns:
        [len(ids), dim] float32, in the order of `ids`.
    """
    if token_budget is None:
        on_cpu = jax.default_backend() == "cpu"
        token_budget = CPU_BUDGET if on_cpu else ACCELERATOR_BUDGET
    sharding = next(iter(params.values())).sharding
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    ways = mesh.size if mesh else 1
    token_budget *= ways
    lengths = np.fromiter(map(len, ids), np.int64, len(ids))
    vectors = np.empty((len(ids), dim), np.float32)
    pending = collections.deque()
    context = jax.set_mesh(mesh) if mesh else contextlib.nullcontext()
    with context, tqdm(total=len(ids), desc=progress, unit="text", disable=not progress) as bar:

        def read():
            rows, output = pending.popleft()
            vectors[rows] = np.asarray(output)[: len(rows)]
            bar.update(len(rows))

        for rows in _batches(lengths, max_length, token_budget):
            width = bucket(int(lengths[rows].max()), max_length)
            size = _row_bucket(len(rows), max(1, token_budget // width), ways)
            tokens = pad([ids[row] for row in rows], width, size, unpooled)
            tokens = place_batch(tokens, mesh) if mesh else tokens
            pending.append((rows, apply(params, tokens)))
            if len(pending) > IN_FLIGHT:
                read()
        while pending:
            read()
    return vectors


def _batches(lengths: np.ndarray, max_length: int, token_budget: int) -> Iterator[np.ndarray]:
    """Row numbers of each batch: longest first, so that memory peaks at once if at all."""
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = bucket(int(lengths[order[start]]), max_length)
        size = max(1, token_budget // width)
        yield order[start : start + size]
        start += size


def _row_bucket(rows: int, full: int, ways: int) -> int:
    """Rows with padding: a full batch, or the next power of two, so that shapes are few.

    Every device gets as many.
    """
    return -(-min(full, 1 << (rows - 1).bit_length()) // ways) * ways
