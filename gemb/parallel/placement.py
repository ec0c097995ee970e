"""Moves host batches onto the mesh."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from gemb.checks import UserError
from gemb.parallel.rules import spec_at_rest


def place_batch(batch, mesh: Mesh):
    """Turns this host's numpy arrays into global arrays, rows split over the data axes.

    Args:
        batch: a pytree of numpy arrays [rows of this host, ...].
        mesh: the mesh of make_mesh.

    Returns:
        The same pytree of jax.Array [rows of all hosts, ...].

    Raises:
        UserError: if a row count does not divide over the data axes.
    """
    ways = mesh.shape["replica"] * mesh.shape["fsdp"]

    def place(array):
        rows = array.shape[0] * jax.process_count()
        if rows % ways:
            raise UserError(
                f"batch: {rows} rows do not divide over replica x fsdp = {ways}; "
                "choose BATCH_SIZE as a multiple"
            )
        axes = ("batch",) + (None,) * (array.ndim - 1)
        sharding = NamedSharding(mesh, spec_at_rest(axes))
        return jax.make_array_from_process_local_data(sharding, np.asarray(array))

    return jax.tree.map(place, batch)
