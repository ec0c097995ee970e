"""What a run would be: parameters, sharding, memory and FLOPs, from shapes alone."""

import math

import jax
import numpy as np

from gemb.checks import check_widths
from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.parallel.mesh import make_mesh
from gemb.structs import Tokens
from gemb.training.head import head_of
from gemb.training.optimizers import transformation
from gemb.training.state import TrainState, abstract_state, state_shardings
from gemb.training.step import make_step


def dry_run(
    *,
    model,
    data,
    loss,
    optimizer,
    steps,
    widths=(),
    mesh=make_mesh,
    query_microbatches=1,
    document_microbatches=1,
    execution=Execution(),
    seed=0,
    ema_decay=0.0,
    skip_bad_steps=0,
    teacher=None,
    head_only=False,
    quantize=None,
    **unused,
) -> str:
    """Describes a run without allocating parameters or training.

    Args: those of `gemb.training.loop.train`; one batch is read, for its shapes.

    Returns:
        Text: parameter count, sharding table, bytes a device, FLOPs of the compiled step.
    """
    del unused  # checkpointing says nothing about shapes
    spec = model.spec
    check_widths("widths", widths or model.widths, spec.dim)
    devices = mesh()
    transform = transformation(
        optimizer,
        steps=steps,
        ema_decay=ema_decay,
        skip_bad_steps=skip_bad_steps,
        trained=head_of(model, teacher) if head_only else "",
    )
    places = state_shardings(spec, transform, devices)
    shard = jax.process_index(), jax.process_count()
    batches = data(model.tokenizer_json, seed, shard, model.prompts)
    frozen = teacher.rehearse(spec, loss, batches, devices) if teacher else None
    batch = next(batches)
    abstract = abstract_state(spec, transform, places)
    step = make_step(
        spec,
        loss,
        transform,
        out_shardings=places,
        query_microbatches=query_microbatches,
        document_microbatches=document_microbatches,
        head_only=head_only,
        execution=execution,
        seed=seed,
        teacher=teacher,
        quantize=quantize,
    )
    with jax.set_mesh(devices):
        compiled = step.lower(abstract, jax.tree.map(np.asarray, batch), frozen).compile()
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    flops = compiled.cost_analysis().get("flops", 0)
    return "\n".join(
        [
            f"parameters      {sum(math.prod(s.shape) for s in abstract.params.values()):,}",
            f"devices         {devices.size} as {dict(devices.shape)}",
            f"batch           {_shape(batch.query)} queries, {_shape(batch.document)} documents",
            f"state           {_bytes_per_device(abstract) / 2**20:,.1f} MiB a device",
            f"temporaries     {temporaries / 2**20:,.1f} MiB a device",
            f"FLOPs           {flops / 1e9:,.1f} G a step and device",
            f"steps           {steps}",
            "",
            sharding_table(spec, places),
        ]
    )


def sharding_table(spec, places: TrainState) -> str:
    """One line a parameter: path, shape, logical axes, mesh axes, shape of a device's part."""
    model = functional(spec)
    rows = [("parameter", "shape", "logical axes", "mesh axes", "a device's part")]
    for path, shape in sorted(model.shapes.items()):
        axes = ", ".join(map(str, model.logical_axes[path]))
        place = places.params[path]
        part = place.shard_shape(shape.shape)
        rows.append((path, str(shape.shape), axes, str(tuple(place.spec)), str(part)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _bytes_per_device(state: TrainState) -> int:
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(state)
    )


def _shape(tokens: Tokens) -> str:
    return " x ".join(map(str, tokens.ids.shape))
