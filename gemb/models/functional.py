"""The functional face of an NNX model: a flat dict of parameters and a pure apply.

Training, checkpoints, import and export all speak of parameters as {path: array} with paths such as
"text/stack/layers/0/up/kernel", so that rules over paths need no knowledge of NNX.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
from flax import nnx

from gemb.checks import check
from gemb.models.embedder import EmbeddingModel, ModelSpec


class Functional(NamedTuple):
    """What a model is without its numbers.

    Attributes:
        apply: (params, ids [batch, length], mask [batch, length], dtype) -> [batch, dim] float32.
        shapes: {path: jax.ShapeDtypeStruct}.
        logical_axes: {path: tuple of logical axis names}.
    """

    apply: Callable
    shapes: dict[str, jax.ShapeDtypeStruct]
    logical_axes: dict[str, tuple]


@cache
def functional(spec: ModelSpec) -> Functional:
    """Builds the functional face of a spec, allocating nothing.

    Raises:
        ValueError: naming a parameter without logical axes, or with axes that do not fit its shape.
    """
    graph, abstract = nnx.split(nnx.eval_shape(lambda: _build(spec, jax.random.key(0))))
    axes = {}
    for path, variable in nnx.to_flat_state(abstract):
        name = "/".join(map(str, path))
        axes[name] = variable.get_metadata().get("logical_axes")
        rank = len(variable.get_value().shape)
        check(axes[name] is not None, f"{name}: parameter without logical_axes")
        check(len(axes[name]) == rank, f"{name}: logical_axes {axes[name]} for rank {rank}")

    def apply(params, ids, mask, *args):
        state = jax.tree_util.tree_map_with_path(lambda path, _: params[_name(path)], abstract)
        return nnx.merge(graph, state)(ids, mask, *args)

    return Functional(apply, _flatten(abstract), axes)


def initial_params(spec: ModelSpec, key: jax.Array) -> dict[str, jax.Array]:
    """Random parameters of a spec; call it inside jax.jit to have them made in place."""
    return _flatten(nnx.state(_build(spec, key)))


def _build(spec: ModelSpec, key: jax.Array) -> EmbeddingModel:
    return EmbeddingModel(spec, key=key)


def _flatten(state) -> dict:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _name(path) -> str:
    return "/".join(str(key.key) for key in path if hasattr(key, "key"))
