"""Describes a run without starting it: parameters, sharding, memory and FLOPs."""

import math

import jax
import numpy as np

from gemb.models.functional import functional
from gemb.structs import Inputs
from gemb.training.experiment import Experiment
from gemb.training.state import TrainState, abstract_state, state_shardings


def dry_run(experiment: Experiment) -> str:
    """Describes a run without allocating parameters or training.

    Args:
        experiment: the run; one batch is read for its shapes.

    Returns:
        Text: parameter count, sharding table, bytes per device, FLOPs of the compiled step.
    """
    e, spec, devices = experiment, experiment.spec, experiment.mesh()
    places = state_shardings(spec, e.transform, devices)
    batches = e.batches((jax.process_index(), jax.process_count()))
    frozen = e.teacher.rehearse(spec, e.loss, batches, devices) if e.teacher else None
    batch = next(batches)
    abstract, step = abstract_state(spec, e.transform, places), e.step(places)
    with jax.set_mesh(devices):
        compiled = step.lower(abstract, jax.tree.map(np.asarray, batch), frozen).compile()
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    flops = compiled.cost_analysis().get("flops", 0)
    return "\n".join(
        [
            f"parameters      {sum(math.prod(s.shape) for s in abstract.params.values()):,}",
            f"devices         {devices.size} as {dict(devices.shape)}",
            f"batch           {_shape(batch.query)} queries, {_shape(batch.document)} documents",
            f"state           {_bytes_per_device(abstract) / 2**20:,.1f} MiB per device",
            f"temporaries     {temporaries / 2**20:,.1f} MiB per device",
            f"FLOPs           {flops / 1e9:,.1f} G per step and device",
            f"steps           {e.steps}",
            "",
            sharding_table(spec, places),
        ]
    )


def sharding_table(spec, places: TrainState) -> str:
    """One line per parameter: path, shape, logical axes, mesh axes, shape on one device."""
    model = functional(spec)
    rows = [("parameter", "shape", "logical axes", "mesh axes", "shape on one device")]
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


def _shape(inputs: Inputs) -> str:
    return " x ".join(map(str, inputs.real.shape))
