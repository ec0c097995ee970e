"""The device mesh. `make_mesh` is the only place that builds one."""

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh

from gemb.checks import UserError

AXES = ("replica", "fsdp", "tensor")


def make_mesh(replica: int = -1, fsdp: int = 1, tensor: int = 1, devices=None) -> Mesh:
    """Builds the mesh (replica, fsdp, tensor) over the devices of all hosts.

    The batch is split over replica and fsdp; parameters over fsdp and tensor. Every axis is Auto:
    under Explicit axes the in-batch matmul and embedding look-ups raise.

    Args:
        replica: copies of the parameters; -1 takes the devices that the other two leave.
        fsdp: ways to split parameters and batch alike.
        tensor: ways to split heads and feed-forward columns.
        devices: jax devices; default all of them. A number gives an abstract mesh of so many, for
            shapes and shardings without devices.

    Raises:
        UserError: if the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    count = devices if isinstance(devices, int) else len(devices)
    if replica == -1:
        replica = max(1, count // (fsdp * tensor))
    if replica * fsdp * tensor != count:
        raise UserError(
            f"mesh: replica {replica} x fsdp {fsdp} x tensor {tensor} = {replica * fsdp * tensor}, "
            f"but there are {count} devices; set mesh.make_mesh.* so that they multiply up"
        )
    sizes, types = (replica, fsdp, tensor), (AxisType.Auto,) * 3
    if isinstance(devices, int):
        return AbstractMesh(sizes, AXES, axis_types=types)
    return jax.make_mesh(sizes, AXES, axis_types=types, devices=list(devices))
