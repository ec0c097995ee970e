"""Tables of ids over all devices: rows are looked up and updated without the table ever moving.

Row r of a table is on device r mod D, so that the most frequent ids, which have the lowest rows,
are spread over all devices. A batch's ids are made unique, each device takes the rows that it
holds, and one psum brings them together: the traffic is batch x dim, whatever the table.

Gradients are those of the rows that were taken, and `take` gives their positions, so that an
optimizer for rows (gemb.training.row_optimizers) touches nothing else.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gemb.checks import check


class Taken(NamedTuple):
    """The distinct rows of a batch.

    Attributes:
        ids: [unique] int32 distinct ids in order; places that are left over hold `rows`.
        vectors: [unique, dim] their rows; zeros in places that are left over.
        place: the shape of the batch's ids, int32: where each id is among the distinct ones.
    """

    ids: jax.Array
    vectors: jax.Array
    place: jax.Array


def padded_rows(rows: int, mesh: Mesh) -> int:
    """Rows with which every device of the mesh gets the same number.

    Example:
        >>> padded_rows(10, jax.make_mesh((1,), ("fsdp",)))
        10
    """
    return -(-rows // mesh.size) * mesh.size


def table_sharding(mesh: Mesh) -> NamedSharding:
    """The layout of a table as `spread_rows` orders it: blocks of rows over all mesh axes."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def spread_rows(table: jax.Array, mesh: Mesh) -> jax.Array:
    """Puts row r on device r mod D: [rows, dim] in the order of ids to [rows, dim] over the mesh.

    Raises:
        ValueError: if the rows do not divide over the devices.
    """
    devices, rows = mesh.size, table.shape[0]
    check(
        rows % devices == 0,
        f"table: {rows} rows do not divide over {devices} devices; fill it up to "
        f"{padded_rows(rows, mesh)}",
    )
    ordered = table.reshape(rows // devices, devices, -1).swapaxes(0, 1).reshape(table.shape)
    return jax.device_put(ordered, table_sharding(mesh))


def gathered_rows(table: jax.Array, mesh: Mesh) -> jax.Array:
    """The inverse of `spread_rows`: the table in the order of ids, on one device."""
    table = jax.device_put(table, jax.devices()[0])
    rows = table.shape[0]
    return table.reshape(mesh.size, rows // mesh.size, -1).swapaxes(0, 1).reshape(table.shape)


def unique_ids(ids: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    """([unique] the distinct ids, filled up with `rows`; the place of each id among them)."""
    found, place = jnp.unique(ids, size=math.prod(ids.shape), fill_value=rows, return_inverse=True)
    return found.astype(jnp.int32), place.reshape(ids.shape).astype(jnp.int32)


def take(table: jax.Array, ids: jax.Array, mesh: Mesh, *, spread: bool = True) -> Taken:
    """Looks a batch's ids up.

    `vectors[place]` are the vectors of the batch. Differentiate with respect to `vectors`: the
    gradients of equal ids are then summed.

    Args:
        table: [rows, dim] with the layout of `table_sharding`.
        ids: int32 of any shape; those outside of 0 to rows - 1 get zeros.
        mesh: of the table.
        spread: whether `spread_rows` ordered it; if not, its rows are in the order of ids.

    Returns:
        The distinct rows; each device has its share of the vectors, or all of them where the number
        of ids does not divide over the devices.
    """
    rows, axes, devices = table.shape[0], mesh.axis_names, mesh.size
    found, place = unique_ids(jnp.where((ids >= 0) & (ids < rows), ids, rows), rows)
    whole = found.shape[0] % devices != 0

    def local(part, found):
        mine, where = _held(found, jax.lax.axis_index(axes), devices, rows, spread)
        vectors = jnp.where(mine[:, None], part[where], 0)
        if whole:
            return jax.lax.psum(vectors, axes)
        return jax.lax.psum_scatter(vectors, axes, tiled=True)

    split = PartitionSpec(axes)
    vectors = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(split, PartitionSpec()),
        out_specs=PartitionSpec() if whole else split,
        check_vma=False,
    )(table, found)
    return Taken(found, vectors, place)


def update(
    function, table, state, ids: jax.Array, gradient: jax.Array, mesh: Mesh, *, spread: bool = True
):
    """Changes the rows of `ids` where they are held.

    Args:
        function: (rows [n, dim], state of rows [n, ...], gradient [n, dim]) -> (rows, state).
        table: [rows, dim] with the layout of `table_sharding`.
        state: [rows, ...] in the same order.
        ids: [unique] distinct ids, from `take`; `rows` for none.
        gradient: [unique, dim] of the taken vectors.
        mesh: of the table.
        spread: as for `take`.

    Returns:
        The table and the state. Under jax.jit with both donated nothing of the table is copied.
    """
    rows, axes, devices = table.shape[0], mesh.axis_names, mesh.size

    def local(part, kept, found, slope):
        mine, where = _held(found, jax.lax.axis_index(axes), devices, rows, spread)
        new, fresh = function(part[where], kept[where], slope)
        target = jnp.where(mine, where, part.shape[0])  # beyond the last row: dropped
        return (
            part.at[target].set(new, mode="drop"),
            kept.at[target].set(fresh, mode="drop"),
        )

    split, whole = PartitionSpec(axes), PartitionSpec()
    return jax.shard_map(
        local, mesh=mesh, in_specs=(split, split, whole, whole), out_specs=(split, split),
        check_vma=False,
    )(table, state, ids, gradient)  # fmt: skip


def _held(ids, device, devices: int, rows: int, spread: bool):
    """Which ids a device holds, and where in its part they are (0 for others)."""
    each = rows // devices
    owner, where = (ids % devices, ids // devices) if spread else (ids // each, ids % each)
    mine = (owner == device) & (ids < rows)
    return mine, jnp.where(mine, where, 0)
