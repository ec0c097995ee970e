"""Moves batches and parameters from the host onto the mesh."""

import functools

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from gemb.checks import UserError
from gemb.parallel.rules import spec_at_rest


@functools.cache  # called for every batch
def data_shard(mesh: Mesh) -> tuple[int, int]:
    """Which part of a global batch this process reads, as (index, count).

    Processes that hold different columns of the same rows (if `tensor` spans hosts) read the
    same part.

    Args:
        mesh: the mesh of make_mesh.

    Raises:
        UserError: if the mesh does not split the batch into equal parts over processes.
    """
    devices = mesh.devices.reshape(-1, mesh.shape["tensor"])  # one row per part of the batch
    me = jax.process_index()
    own = [i for i, row in enumerate(devices) if any(device.process_index == me for device in row)]
    first, size = own[0], len(own)
    if own != list(range(first, first + size)) or first % size or len(devices) % size:
        raise UserError(
            f"mesh: process {me} would hold parts {own} of a batch of {len(devices)} parts, which "
            "are not one equal share; make fsdp x tensor a divisor or a multiple of the devices "
            "per host"
        )
    return first // size, len(devices) // size


def place_batch(batch, mesh: Mesh):
    """Makes global arrays from this host's numpy arrays, with rows split over the data axes.

    Args:
        batch: a pytree of numpy arrays [rows of this host, ...], the part that `data_shard` names.
        mesh: the mesh of make_mesh.

    Returns:
        The same pytree of jax.Array [rows of all hosts, ...].

    Raises:
        UserError: if a row count does not divide over the data axes.
    """
    ways, parts = mesh.shape["replica"] * mesh.shape["fsdp"], data_shard(mesh)[1]

    def place(array):
        rows = array.shape[0] * parts
        if rows % ways:
            raise UserError(
                f"batch: {rows} rows do not divide over replica x fsdp = {ways}; "
                "choose BATCH_SIZE as a multiple"
            )
        axes = ("batch",) + (None,) * (array.ndim - 1)
        sharding = NamedSharding(mesh, spec_at_rest(axes))
        shape = (rows, *array.shape[1:])
        return jax.make_array_from_process_local_data(sharding, np.asarray(array), shape)

    return jax.tree.map(place, batch)


def place_params(params: dict, shardings: dict[str, NamedSharding]) -> dict:
    """Shards parameters of which every host has a full copy.

    Args:
        params: {path: numpy array}.
        shardings: {path: NamedSharding}.
    """
    return {
        path: jax.make_array_from_callback(
            np.shape(value), shardings[path], lambda index, value=value: np.asarray(value)[index]
        )
        for path, value in params.items()
    }
