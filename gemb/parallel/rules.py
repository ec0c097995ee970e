"""The table from logical axes (what a dimension is) to mesh axes (where it is split).

Parameters carry logical names under the metadata key `logical_axes`; nothing else in gemb names a
mesh axis. A new layout is a change of RULES and of nothing else.
"""

import jax
from jax.sharding import NamedSharding, PartitionSpec

from gemb.checks import check

# logical axis -> (mesh axes at rest, mesh axes at the point of use)
RULES = {
    "batch": (("replica", "fsdp"), ("replica", "fsdp")),
    "vocab": ("tensor", "tensor"),
    "width": ("fsdp", None),
    "heads": ("tensor", "tensor"),
    "mlp": ("tensor", "tensor"),
    "norm": (None, None),
    "positions": (None, None),
    None: (None, None),
}


def _spec(logical_axes, column: int) -> PartitionSpec:
    for axis in logical_axes:
        check(axis in RULES, f"logical_axes: {axis!r} is not in {sorted(map(str, RULES))}")
    return PartitionSpec(*(RULES[axis][column] for axis in logical_axes))


def spec_at_rest(logical_axes) -> PartitionSpec:
    """How an array is stored between steps, e.g. ("width", "mlp") -> P("fsdp", "tensor")."""
    return _spec(logical_axes, 0)


def constrain(array: jax.Array, *logical_axes) -> jax.Array:
    """Fixes an activation's or a weight's layout at the point of use; no mesh, no effect.

    Said of activations *and* of weights: with either alone, XLA turns FSDP into activation
    traffic or rematerialises whole tensors (BUILD_NOTES.md, "Sharding").
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return array
    return jax.lax.with_sharding_constraint(array, _spec(logical_axes, 1))


def shardings(logical_axes: dict[str, tuple], mesh) -> dict[str, NamedSharding]:
    """The sharding of each parameter at rest: {path: logical axes} -> {path: NamedSharding}."""
    return {path: NamedSharding(mesh, spec_at_rest(axes)) for path, axes in logical_axes.items()}
