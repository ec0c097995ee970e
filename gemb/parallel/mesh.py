"""The device mesh. Only `make_mesh` builds one."""

import math

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh

from gemb.checks import UserError

AXES = ("replica", "fsdp", "tensor")


def make_mesh(replica: int = -1, fsdp: int = 1, tensor: int = 1, devices=None) -> Mesh:
    """Builds the mesh (replica, fsdp, tensor) over the devices of all hosts.

    The batch is split over replica and fsdp; parameters over fsdp and tensor. Every axis is Auto:
    under Explicit axes the in-batch matmul and embedding look-ups raise.

    One of the sizes may be -1: it uses the devices that remain.

    Args:
        replica: number of copies of the parameters.
        fsdp: number of parts of parameters and batch.
        tensor: number of parts of heads and feed-forward columns.
        devices: jax devices; default all. A number gives an abstract mesh of this size, for
            shapes and shardings without devices.

    Raises:
        UserError: for an invalid size, or if the product of the sizes is not the number of
            devices.
    """
    devices = jax.devices() if devices is None else devices
    count = devices if isinstance(devices, int) else len(devices)
    sizes, types = [replica, fsdp, tensor], (AxisType.Auto,) * 3
    for name, size in zip(AXES, sizes, strict=True):
        if not isinstance(size, int) or (size < 1 and size != -1):
            raise UserError(f"mesh: {name}: expected 1 or more, or -1, got {size!r}")
    if sizes.count(-1) > 1:
        raise UserError("mesh: only one of replica, fsdp and tensor may be -1")
    if -1 in sizes:
        sizes[sizes.index(-1)] = max(1, count // -math.prod(sizes))
    if math.prod(sizes) != count:
        product = " x ".join(f"{name} {size}" for name, size in zip(AXES, sizes, strict=True))
        raise UserError(
            f"mesh: {product} = {math.prod(sizes)}, but there are {count} devices; set "
            "mesh.make_mesh.* so that the product matches"
        )
    if isinstance(devices, int):
        return AbstractMesh(tuple(sizes), AXES, axis_types=types)
    return jax.make_mesh(tuple(sizes), AXES, axis_types=types, devices=list(devices))
