"""Estimates what a step needs on each device of any mesh: bytes, FLOPs, communication.

State bytes and FLOPs are exact, from abstract shapes and from the trace of the step. The rest is an
estimate from what autodiff keeps, within about 20 % of what XLA allocates on CPU devices
(`tests/training/scale_test.py`). The model is neither compiled nor allocated.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp

from gemb import losses
from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.training.objectives.objective import Encoding
from gemb.training.planning.shapes import matmul_flops, saved_bytes
from gemb.training.planning.workload import Settings, Workload, abstract_on, held
from gemb.training.step import batch_loss, make_step
from gemb.training.watching import ROWS


def memory(work: Workload, settings: Settings) -> dict[str, float]:
    """Bytes of a device by purpose: state, weights, gradients, activations, loss."""
    here = held(work, settings)
    size = jnp.dtype(settings.execution.dtype).itemsize
    # Two layers (one is prefetched) and the table are gathered over fsdp at a time.
    gathered = (2 * here.largest_layer + here.tables) * size / settings.tensor
    stacked = here.params * size
    cached = max(settings.query_microbatches, settings.document_microbatches) > 1
    embeddings = sum(rows * one.dim * 4 for one, rows, _ in work.sides)
    return {
        "state": here.state,
        # a loop stacks the weights in the compute dtype
        "weights in use": gathered + (stacked if settings.execution.layers == "scan" else 0),
        # with gradient caching each side accumulates its own gradients
        "gradients": here.params * 4 * (2 if cached and work.towers == 1 else 1),
        "activations": _activations(work, settings),
        "embeddings": 2 * embeddings,
        "loss": _loss_temporaries(work) / settings.ways,
    }


def flops(work: Workload, settings: Settings) -> tuple[float, float]:
    """FLOPs of the matrix products of a step, on each device: (executed, useful).

    Executed FLOPs include recomputation; useful FLOPs are three times the forward pass,
    which is what model FLOPs utilisation counts.
    """
    # Two microbatches need as many FLOPs as any other number.
    parts = tuple(part if part % 2 else 2 for part in settings.parts)
    executed = _executed_flops(work, settings.execution, *parts)
    return executed / settings.devices, _useful_flops(work) / settings.devices


@functools.lru_cache(maxsize=64)
def _executed_flops(work: Workload, execution: Execution, *parts: int) -> int:
    execution = dataclasses.replace(execution, layers="scan")  # faster to trace
    encoding = Encoding(functional(work.spec), execution, *parts)
    step = make_step(encoding, work.loss, work.optimizer)
    state = abstract_on(work, 1, 1, 1)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    return matmul_flops(step, state, work.batch)


@functools.lru_cache(maxsize=8)
def _useful_flops(work: Workload) -> int:
    def forward(params, batch):
        looped = Encoding(functional(work.spec), Execution(layers="scan"))
        return batch_loss(looped, work.loss, params, batch)[0]

    return 3 * matmul_flops(forward, functional(work.spec).shapes, work.batch)


def traffic(work: Workload, settings: Settings, *, scatter: bool = True) -> dict[str, float]:
    """Bytes that a device receives in a step, by kind.

    As XLA does it: every microbatch of each side gathers the matrices of all layers over fsdp, once
    forward, once more if it is gradient-cached, and once backward unless layers are unrolled; an
    unrolled step in one pass gathers them once. Every microbatch of each side sums its gradients.
    Embeddings are gathered three times for the loss and, if all queries are logged, twice for that.
    Weights that fsdp does not divide are replicated. A ring of n devices moves
    (n - 1) / n of an array to gather or scatter it, twice that to sum it.

    Args:
        work: the computation.
        settings: execution settings and mesh.
        scatter: False if gradients are summed completely before each device takes its part, as in
            the CPU's compiler.
    """
    size = jnp.dtype(settings.execution.dtype).itemsize
    here = held(work, settings)
    looped = settings.execution.layers == "scan"
    parts, fetches, sums = settings.parts, 0, 0.0
    for (spec, rows, length), part in zip(work.sides, parts, strict=True):
        fetches += part * (1 + (part > 1) + looped)
        vectors = rows * length * spec.encoder.stack.width * size / settings.ways
        # two sums a layer forward and two backward
        passes = 2 + (part > 1) + (settings.execution.remat != "none")
        sums += 2 * spec.encoder.stack.layers * vectors * passes
    if not looped and max(parts) == 1:
        fetches = 1
    matrices = fetches * here.split_layers + min(fetches, sum(parts)) * here.split_tables
    one = sum(parts) * size / settings.tensor
    if work.towers == 2:  # each side has about half of all weights
        matrices, one = matrices / (2 if fetches > 1 else 1), one / 2
    split = one * (here.split_layers + here.split_tables)
    whole = one * sum(math.prod(s.shape) for s in functional(work.spec).shapes.values()) - split
    fsdp, ways = _part(settings.fsdp), _part(settings.ways)
    if scatter:  # each device then sums its own part over the replicas
        gradients = split * (fsdp + 2 * _part(settings.replica) / settings.fsdp)
    else:
        gradients = 2 * split * ways
    vectors = sum(rows * spec.dim * 4 * (5 if rows <= ROWS else 3) for spec, rows, _ in work.sides)
    return {
        "weights": matrices * size / settings.tensor * fsdp,
        "gradients": gradients + 2 * whole * ways,
        "activations": 2 * sums * _part(settings.tensor),
        "embeddings": vectors * ways,
    }


_saved = functools.lru_cache(maxsize=64)(saved_bytes)


def _activations(work: Workload, settings: Settings) -> float:
    """Bytes kept until the backward pass, and bytes that one layer needs in it.

    The backward pass of a layer holds what that layer computed and, about half as large, the
    gradients of it. Tensor parallelism splits heads and columns, but not the residual stream.
    """
    kept, working = 0.0, 0.0
    plain = dataclasses.replace(settings.execution, remat="none")
    sides = zip(work.sides, work.inputs, settings.parts, strict=True)
    for (spec, rows, _), inputs, parts in sides:
        here = rows / settings.ways / parts
        saved = here * _saved(spec, inputs, settings.execution)
        layer = here * _saved(spec, inputs, plain) / max(spec.encoder.stack.layers, 1)
        if settings.execution.remat == "none":
            saved, layer = saved / settings.tensor, 0.5 * layer / settings.tensor
        else:
            layer = 1.5 * layer / settings.tensor
        if parts == 1:  # kept from the forward pass of the batch to its backward pass
            kept += saved
            working = max(working, layer)
        else:
            working = max(working, saved + layer)
    return kept + working


@functools.lru_cache(maxsize=8)
def _loss_temporaries(work: Workload) -> int:
    """Bytes that XLA allocates for the loss of the whole batch and its gradient on one device."""
    (query, rows, _), (document, candidates, _) = work.sides
    vectors = (
        jax.ShapeDtypeStruct((rows, query.dim), jnp.float32),
        jax.ShapeDtypeStruct((candidates, document.dim), jnp.float32),
    )
    named = ("query_id", "document_id", "query_mask", "document_mask")
    fields = {name: getattr(work.batch, name) for name in named} | (work.batch.fields or {})
    if work.spec.temperature or "temperature" in fields:
        fields["temperature"] = jax.ShapeDtypeStruct((), jnp.float32)
    if work.spec.bias is not None:
        fields["bias"] = jax.ShapeDtypeStruct((), jnp.float32)

    def total(vectors, positive, fields):
        return losses.evaluate(work.loss, *vectors, positive, fields)[0].sum()

    gradient = jax.jit(jax.value_and_grad(total))
    # compiled but never run, so the quality of the machine code does not matter
    quickly = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    lowered = gradient.lower(vectors, work.batch.positive, fields)
    compiled = lowered.compile(compiler_options=quickly)
    return compiled.memory_analysis().temp_size_in_bytes


def _part(ways: int) -> float:
    return (ways - 1) / ways
