"""The table from logical axes (the meaning of a dimension) to mesh axes (how it is split).

Parameters carry logical names under the metadata key `logical_axes`; nothing else in gemb names a
mesh axis. A new layout only changes RULES.
"""

import math

import jax
from jax.sharding import NamedSharding, PartitionSpec

from gemb.checks import check

# logical axis -> (mesh axes between steps, mesh axes at the point of use)
RULES = {
    "batch": (("replica", "fsdp"), ("replica", "fsdp")),
    "vocab": ("tensor", "tensor"),
    "width": ("fsdp", None),
    "heads": ("tensor", "tensor"),
    "mlp": ("tensor", "tensor"),
    "norm": (None, None),
    "rank": (None, None),
    "dim": (None, None),
    "rows": (("replica", "fsdp", "tensor"), None),
    "positions": (None, None),
    None: (None, None),
}


def spec_at_rest(logical_axes) -> PartitionSpec:
    """How an array is stored between steps, e.g. ("width", "mlp") -> P("fsdp", "tensor")."""
    return PartitionSpec(*(_mesh_axes(axis)[0] for axis in logical_axes))


def constrain(array: jax.Array, *logical_axes) -> jax.Array:
    """Fixes an activation's or a weight's layout at the point of use; no effect without a mesh.

    Needed for activations *and* weights: with either alone, XLA turns FSDP into activation
    traffic or rematerialises whole tensors (BUILD_NOTES.md, "Sharding").
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return array
    return jax.lax.with_sharding_constraint(array, spec_in_use(logical_axes, array.shape, mesh))


def constrain_at_rest(array: jax.Array, *logical_axes) -> jax.Array:
    """Fixes an array's layout to that of weights between steps; no effect without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return array
    spec = _divisible(spec_at_rest(logical_axes), array.shape, mesh)
    return jax.lax.with_sharding_constraint(array, spec)


def spec_in_use(logical_axes, shape, mesh) -> PartitionSpec:
    """The PartitionSpec of an array of this shape at the point of use."""
    return _divisible([_mesh_axes(axis)[1] for axis in logical_axes], shape, mesh)


def shardings(logical_axes: dict[str, tuple], shapes: dict, mesh) -> dict[str, NamedSharding]:
    """The sharding of each parameter between steps.

    A dimension that its mesh axis does not divide is not split, for example an odd vocabulary.

    Args:
        logical_axes: {path: logical axes}.
        shapes: {path: anything with a shape}.
        mesh: the mesh.

    Returns:
        {path: NamedSharding}.
    """
    return {
        path: NamedSharding(mesh, _divisible(spec_at_rest(axes), shapes[path].shape, mesh))
        for path, axes in logical_axes.items()
    }


def _mesh_axes(axis):
    check(axis in RULES, f"logical_axes: {axis!r} is not in {sorted(map(str, RULES))}")
    return RULES[axis]


def _divisible(spec, shape, mesh) -> PartitionSpec:
    """The spec without the entries whose mesh axes do not divide the dimension."""

    def ways(entry) -> int:
        names = (entry,) if isinstance(entry, str) else entry or ()
        return math.prod(mesh.shape[name] for name in names)

    pairs = zip(spec, shape, strict=True)
    return PartitionSpec(*(entry if size % ways(entry) == 0 else None for entry, size in pairs))
