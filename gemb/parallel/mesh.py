"""The device mesh. `make_mesh` is the only place that builds one."""

import math

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh

from gemb.checks import UserError

AXES = ("replica", "fsdp", "tensor")


def make_mesh(replica: int = -1, fsdp: int = 1, tensor: int = 1, devices=None) -> Mesh:
    """Builds the mesh (replica, fsdp, tensor) over the devices of all hosts.

    The batch is split over replica and fsdp; parameters over fsdp and tensor. Every axis is Auto:
    under Explicit axes the in-batch matmul and embedding look-ups raise.

    One of the sizes may be -1: it takes the devices that the other two leave.

    Args:
        replica: copies of the parameters.
        fsdp: ways to split parameters and batch alike.
        tensor: ways to split heads and feed-forward columns.
        devices: jax devices; default all of them. A number gives an abstract mesh of so many, for
            shapes and shardings without devices.

    Raises:
        UserError: for a size that is no number of ways, or if they do not multiply to the number of
            devices.
    """
    devices = jax.devices() if devices is None else devices
    count = devices if isinstance(devices, int) else len(devices)
    sizes, types = [replica, fsdp, tensor], (AxisType.Auto,) * 3
    for name, size in zip(AXES, sizes, strict=True):
        if not isinstance(size, int) or (size < 1 and size != -1):
            raise UserError(f"mesh: {name}: expected a number of ways from 1, or -1, got {size!r}")
    if sizes.count(-1) > 1:
        raise UserError("mesh: only one of replica, fsdp and tensor may be -1")
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(1, count // -math.prod(sizes))
    if math.prod(sizes) != count:
        product = " x ".join(f"{name} {size}" for name, size in zip(AXES, sizes, strict=True))
        raise UserError(
            f"mesh: {product} = {math.prod(sizes)}, but there are {count} devices; set "
            "mesh.make_mesh.* so that they multiply up"
        )
    if isinstance(devices, int):
        return AbstractMesh(tuple(sizes), AXES, axis_types=types)
    return jax.make_mesh(tuple(sizes), AXES, axis_types=types, devices=list(devices))
