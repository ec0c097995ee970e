"""The state of a training run."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gemb.models.functional import functional, initial_params
from gemb.models.spec import ModelSpec
from gemb.parallel.placement import place_params
from gemb.parallel.rules import shardings
from gemb.structs import Array
from gemb.training.row_optimizers import WithRows


class TrainState(NamedTuple):
    """Attributes:
    step: scalar int32, steps done.
    params: {path: array}, float32.
    optimizer: optax's state for the same dict.
    """

    step: Array
    params: dict
    optimizer: optax.OptState


def state_shardings(
    spec: ModelSpec, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """A TrainState of NamedSharding: moments are sharded like their parameters, or replicated.

    It is passed as `out_shardings`, so that the compiler does not choose other shardings.
    """
    model = functional(spec)
    params = shardings(model.logical_axes, model.shapes, mesh)
    whole = NamedSharding(mesh, PartitionSpec())
    if isinstance(optimizer, WithRows):
        rest = [path for path in params if path not in optimizer.columns]
        shapes = {path: model.shapes[path] for path in rest}
        dense = _moments(optimizer.dense, shapes, {path: params[path] for path in rest}, whole)
        return TrainState(whole, *optimizer.shardings(params, dense, model.shapes, mesh))
    return TrainState(whole, params, _moments(optimizer, model.shapes, params, whole))


def _moments(optimizer, shapes: dict, params: dict, whole: NamedSharding):
    """The layouts of an optimizer's state."""

    def masked(leaf) -> bool:  # a frozen parameter's place among the moments
        return isinstance(leaf, optax.MaskedNode)

    # A moment with another shape than its parameter (Adafactor's rows and columns) is small.
    return optax.tree_map_params(
        optimizer,
        lambda moment, place, shape: (
            moment if masked(moment) else place if moment.shape == shape.shape else whole
        ),
        jax.eval_shape(optimizer.init, shapes),
        params,
        shapes,
        transform_non_params=lambda _: whole,
        is_leaf=masked,
    )


def abstract_state(
    spec: ModelSpec, optimizer: optax.GradientTransformation, places: TrainState
) -> TrainState:
    """A TrainState of jax.ShapeDtypeStruct with shardings, for reading a checkpoint.

    Args:
        spec: the model.
        optimizer: the optimizer.
        places: shardings from `state_shardings`.
    """
    shapes = functional(spec).shapes
    step = jax.ShapeDtypeStruct((), jnp.int32)
    state = TrainState(step, shapes, jax.eval_shape(optimizer.init, shapes))
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
        state,
        places,
    )


def initial_state(
    spec: ModelSpec,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    params: dict | None = None,
    seed: int = 0,
) -> TrainState:
    """The state before the first step, created on the mesh.

    Args:
        spec: the model.
        optimizer: the optimizer.
        mesh: the mesh.
        params: initial {path: array}; None for random parameters.
        seed: seed of the random parameters.
    """
    places = state_shardings(spec, optimizer, mesh)
    if params is None:
        init = jax.jit(lambda key: initial_params(spec, key), out_shardings=places.params)
        params = init(jax.random.key(seed))
    else:
        params = place_params(params, places.params)

    def build(params):
        return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))

    return jax.jit(build, out_shardings=places)(params)
