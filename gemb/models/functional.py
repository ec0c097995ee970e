"""Models as a flat dict of parameters and pure functions.

Training, checkpoints, import and export use parameters as {path: array} with paths such as
"text/stack/layers/0/up/kernel", so that rules over paths do not depend on NNX.
"""

import contextlib
import operator
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from gemb.checks import check
from gemb.models.execution import Execution
from gemb.models.layers import TransposedKernel
from gemb.models.network import Network
from gemb.models.spec import ModelSpec, TowerSpec
from gemb.structs import SIDES

TEMPERATURE, BIAS = "temperature/log", "temperature/bias"


class TowerFunctions(NamedTuple):
    """The functions of one side of a model; each takes the parameters of the whole model.

    Attributes:
        embed: (params, Inputs, execution, dropout key) -> [batch, dim] float32; see
            `gemb.models.network.Network` for shapes and defaults.
        hidden: the same arguments -> [batch, positions, width], the encoder's output.
        pooled: the same arguments -> [batch, width], the pooled vector before any projection.
        every_layer: the same arguments -> ([batch, dim] as embed, [layers, batch, positions,
            width], the vectors of each layer).
        embed_layers: (params, Inputs, layers, execution, dropout key) -> [len(layers), batch, dim],
            the embeddings from chosen layers, counted from 1.
        all_heads: the arguments of embed -> {head: [batch, width of the head]}.
        head: (params, [batch, inputs]) -> [batch, dim], only the last layer of the projection.
        project: (params, [batch, width], execution) -> [batch, dim], the embeddings of pooled
            vectors.
    """

    embed: Callable
    hidden: Callable
    pooled: Callable
    every_layer: Callable
    embed_layers: Callable
    all_heads: Callable
    head: Callable
    project: Callable


class Functional(NamedTuple):
    """The functions of a model, and the shapes of its parameters.

    Attributes:
        query, document: the functions of each side.
        temperature: params -> the learned temperature, a scalar; None if it is not learned.
        shapes: {path: jax.ShapeDtypeStruct}.
        logical_axes: {path: tuple of logical axis names}.
        bias: params -> the learned bias of the logits, a scalar; None if it is not learned.
        limited: params -> params with a learned temperature that is not below its least; None
            where there is no least.
    """

    query: TowerFunctions
    document: TowerFunctions
    temperature: Callable | None
    shapes: dict[str, jax.ShapeDtypeStruct]
    logical_axes: dict[str, tuple]
    bias: Callable | None = None
    limited: Callable | None = None


@cache
def functional(spec: ModelSpec) -> Functional:
    """Builds the functions of a model without allocating arrays.

    Parameters of a shared tower have no prefix; those of two towers start with "query/"
    and "document/". A learned temperature is "temperature/log", a learned bias of logits
    "temperature/bias".

    Raises:
        ValueError: for a parameter without logical axes, or with axes that do not match its shape.
    """
    shapes, axes, functions = {}, {}, {}
    for start, tower in spec.towers.items():
        own, own_shapes, own_axes = _tower(tower)
        shapes |= {start + path: shape for path, shape in own_shapes.items()}
        axes |= {start + path: names for path, names in own_axes.items()}
        functions[start] = _of_side(own, start) if start else own
    sides = [functions.get(f"{side}/", functions.get("")) for side in SIDES]
    if not spec.temperature:
        return Functional(*sides, None, shapes, axes)
    for path in scale_of(spec):
        shapes[path], axes[path] = jax.ShapeDtypeStruct((), jnp.float32), ()

    def limited(params):
        least = jnp.log(jnp.float32(spec.least_temperature))
        return params | {TEMPERATURE: jnp.maximum(params[TEMPERATURE], least)}

    return Functional(
        *sides,
        lambda params: jnp.exp(params[TEMPERATURE]),
        shapes,
        axes,
        None if spec.bias is None else lambda params: params[BIAS],
        limited if spec.least_temperature else None,
    )


def scale_of(spec) -> dict[str, np.float32]:
    """The initial values of a learned temperature and bias by their paths; {} for none.

    Args:
        spec: a `ModelSpec`, or a `gemb.models.model.Model`.
    """
    if not spec.temperature:
        return {}
    made = {TEMPERATURE: np.log(np.float32(spec.temperature))}
    return made if spec.bias is None else made | {BIAS: np.float32(spec.bias)}


@cache
def _tower(spec: TowerSpec) -> tuple[TowerFunctions, dict, dict]:
    """The functions of one tower over its own parameters, their shapes and logical axes."""
    graph, abstract = nnx.split(nnx.eval_shape(lambda: Network(spec, key=jax.random.key(0))))
    axes = {}
    for path, variable in nnx.to_flat_state(abstract):
        name = "/".join(map(str, path))
        axes[name] = variable.get_metadata().get("logical_axes")
        rank = len(variable.get_value().shape)
        check(axes[name] is not None, f"{name}: parameter without logical_axes")
        check(len(axes[name]) == rank, f"{name}: logical_axes {axes[name]} for rank {rank}")

    def network(params) -> Network:
        return nnx.merge(
            graph, jax.tree_util.tree_map_with_path(lambda path, _: params[_name(path)], abstract)
        )

    def embed(params, inputs, execution=Execution(), key=None):
        with _precision(execution):
            return network(params)(inputs, execution, key)

    def hidden(params, inputs, execution=Execution(), key=None):
        with _precision(execution):
            return network(params).encoder(inputs, execution, key)

    def pooled(params, inputs, execution=Execution(), key=None):
        with _precision(execution):
            return network(params).pool(inputs, execution, key)

    def every_layer(params, inputs, execution=Execution(), key=None):
        with _precision(execution):
            return network(params).every_layer(inputs, execution, key)

    def embed_layers(params, inputs, layers, execution=Execution(), key=None):
        with _precision(execution):
            return network(params).embed_layers(inputs, layers, execution, key)

    def all_heads(params, inputs, execution=Execution(), key=None):
        with _precision(execution):
            return network(params).all_heads(inputs, execution, key)

    def head(params, vectors, execution=Execution()):
        with _precision(execution):
            return network(params).head(vectors)

    def project(params, vectors, execution=Execution()):
        with _precision(execution):
            return network(params).project(vectors)

    functions = TowerFunctions(
        embed, hidden, pooled, every_layer, embed_layers, all_heads, head, project
    )
    return functions, _flatten(abstract), axes


def _of_side(functions: TowerFunctions, start: str) -> TowerFunctions:
    """A tower's functions, taking the parameters of the whole model."""

    def of(function):
        return lambda params, *args, **kwargs: function(part_of(params, start), *args, **kwargs)

    return TowerFunctions(*map(of, functions))


def part_of(params: dict, start: str) -> dict:
    """The parameters of one of two towers: paths that start with `start`, without it."""
    return {path.removeprefix(start): v for path, v in params.items() if path.startswith(start)}


def kernels_for_encoding(params: dict, execution: Execution) -> dict:
    """Rounds or transposes the layers' kernels once for many batches; the rest is unchanged.

    They are cast to matmul_dtype if there is one. On a CPU, with the default execution settings,
    each becomes a `TransposedKernel`.

    Args:
        params: {path: array} of one tower.
        execution: how the tower is computed.
    """
    if execution.matmul_dtype:
        changed = operator.methodcaller("astype", execution.matmul_dtype)
    elif execution == Execution() and jax.default_backend() == "cpu":
        changed = TransposedKernel.of
    else:
        return params
    return {path: changed(v) if is_layer_kernel(path) else v for path, v in params.items()}


def is_layer_kernel(path: str) -> bool:
    """Whether a parameter is the matrix of a linear map in a transformer layer."""
    return "stack/layers/" in path and path.endswith("/kernel")


def _precision(execution: Execution):
    """Makes float32 products exact; by default accelerators use bfloat16 or TF32."""
    if execution.dtype != "float32" or jax.config.jax_default_matmul_precision is not None:
        return contextlib.nullcontext()
    return jax.default_matmul_precision("highest")


def initial_params(spec: ModelSpec, key: jax.Array) -> dict[str, jax.Array]:
    """Random parameters of a model; inside jax.jit they are created on their devices."""
    keys = [key] if spec.shared else jax.random.split(key, len(spec.towers))
    params = {
        start + path: value
        for (start, tower), own in zip(spec.towers.items(), keys, strict=True)
        for path, value in _flatten(nnx.state(Network(tower, key=own))).items()
    }
    return params | {path: jnp.asarray(value) for path, value in scale_of(spec).items()}


def _flatten(state) -> dict:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _name(path) -> str:
    return "/".join(str(key.key) for key in path if hasattr(key, "key"))
