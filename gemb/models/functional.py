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
from gemb.models.embedder import EmbeddingModel
from gemb.models.execution import Execution
from gemb.models.spec import ModelSpec


class Functional(NamedTuple):
    """What a model is without its numbers.

    Attributes:
        apply: (params, Tokens, execution, dropout key) -> [batch, dim] float32; see
            EmbeddingModel.__call__ for shapes and defaults.
        hidden: the same arguments -> [batch, length, width], the encoder's token vectors.
        all_heads: the same arguments -> {head: [batch, width of the head]}.
        shapes: {path: jax.ShapeDtypeStruct}.
        logical_axes: {path: tuple of logical axis names}.
    """

    apply: Callable
    hidden: Callable
    all_heads: Callable
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

    def model(params) -> EmbeddingModel:
        return nnx.merge(
            graph, jax.tree_util.tree_map_with_path(lambda path, _: params[_name(path)], abstract)
        )

    def apply(params, *args):
        return model(params)(*args)

    def hidden(params, tokens, execution=Execution(), key=None):
        return model(params).text(tokens.ids, tokens.mask, execution, key)

    def all_heads(params, *args):
        return model(params).all_heads(*args)

    return Functional(apply, hidden, all_heads, _flatten(abstract), axes)


def initial_params(spec: ModelSpec, key: jax.Array) -> dict[str, jax.Array]:
    """Random parameters of a spec; call it inside jax.jit to have them made in place."""
    return _flatten(nnx.state(_build(spec, key)))


def _build(spec: ModelSpec, key: jax.Array) -> EmbeddingModel:
    return EmbeddingModel(spec, key=key)


def _flatten(state) -> dict:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _name(path) -> str:
    return "/".join(str(key.key) for key in path if hasattr(key, "key"))
