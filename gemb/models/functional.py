"""The functional face of an NNX model: a flat dict of parameters and a pure apply.

Training, checkpoints, import and export all speak of parameters as {path: array} with paths such as
"text/stack/layers/0/up/kernel", so that rules over paths need no knowledge of NNX.
"""

import contextlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gemb.checks import check
from gemb.models.embedder import EmbeddingModel
from gemb.models.execution import Execution
from gemb.models.spec import ModelSpec, PairSpec

TEMPERATURE = "temperature/log"


class Functional(NamedTuple):
    """What a model is without its numbers.

    Attributes:
        apply: (params, Tokens, execution, dropout key) -> [batch, dim] float32; see
            EmbeddingModel.__call__ for shapes and defaults. Of a pair, that of the documents.
        query: the same for queries.
        temperature: params -> the learned temperature, a scalar; None where there is none.
        hidden: the same arguments -> [batch, length, width], the encoder's token vectors.
        every_layer: the same arguments -> ([batch, dim] as apply, [layers, batch, length, width],
            the token vectors of each layer).
        all_heads: the same arguments -> {head: [batch, width of the head]}.
        head: (params, [batch, inputs]) -> [batch, dim], the projection's last layer by itself.
        shapes: {path: jax.ShapeDtypeStruct}.
        logical_axes: {path: tuple of logical axis names}.
    """

    apply: Callable
    query: Callable
    temperature: Callable | None
    hidden: Callable
    every_layer: Callable
    all_heads: Callable
    head: Callable
    shapes: dict[str, jax.ShapeDtypeStruct]
    logical_axes: dict[str, tuple]


@cache
def functional(spec: ModelSpec | PairSpec) -> Functional:
    """Builds the functional face of a spec, allocating nothing.

    The parameters of a pair are those of its one model or, under "query/" and "document/", of its
    two; a learned temperature is "temperature/log".

    Raises:
        ValueError: naming a parameter without logical axes, or with axes that do not fit its shape.
    """
    if isinstance(spec, PairSpec):
        return _pair(spec)
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

    def apply(params, tokens, execution=Execution(), key=None):
        with _precision(execution):
            return model(params)(tokens, execution, key)

    def hidden(params, tokens, execution=Execution(), key=None):
        with _precision(execution):
            return model(params).text(tokens.ids, tokens.mask, execution, key)

    def every_layer(params, tokens, execution=Execution(), key=None):
        with _precision(execution):
            return model(params).every_layer(tokens, execution, key)

    def all_heads(params, tokens, execution=Execution(), key=None):
        with _precision(execution):
            return model(params).all_heads(tokens, execution, key)

    def head(params, vectors, execution=Execution()):
        with _precision(execution):
            return model(params).head(vectors)

    faces = (apply, apply, None, hidden, every_layer, all_heads, head)
    return Functional(*faces, _flatten(abstract), axes)


def rounded_kernels(params: dict, execution: Execution) -> dict:
    """The layers' kernels in matmul_dtype, once for many batches; the rest as it is."""
    if not execution.matmul_dtype:
        return params
    return {
        path: value.astype(execution.matmul_dtype) if is_layer_kernel(path) else value
        for path, value in params.items()
    }


def is_layer_kernel(path: str) -> bool:
    """Whether a parameter is the matrix of a linear map in a layer of the transformer."""
    return "stack/layers/" in path and path.endswith("/kernel")


def _precision(execution: Execution):
    """float32 means float32: accelerators multiply it in bfloat16 or TF32 unless told not to."""
    if execution.dtype != "float32" or jax.config.jax_default_matmul_precision is not None:
        return contextlib.nullcontext()
    return jax.default_matmul_precision("highest")


def _pair(spec: PairSpec) -> Functional:
    sides = {"query": functional(spec.query), "document": functional(spec.document)}
    if spec.shared:
        face = sides["document"]
    else:
        document, query = (_of_side(sides[side], side) for side in ("document", "query"))
        face = document._replace(
            query=query.apply,
            shapes=query.shapes | document.shapes,
            logical_axes=query.logical_axes | document.logical_axes,
        )
    if not spec.temperature:
        return face
    return face._replace(
        temperature=lambda params: jnp.exp(params[TEMPERATURE]),
        shapes=face.shapes | {TEMPERATURE: jax.ShapeDtypeStruct((), jnp.float32)},
        logical_axes=face.logical_axes | {TEMPERATURE: ()},
    )


def _of_side(face: Functional, side: str) -> Functional:
    """The face of one of two towers, whose parameters stand under its name."""

    def of(function):
        return lambda params, *args, **kwargs: function(side_of(params, side), *args, **kwargs)

    return face._replace(
        apply=of(face.apply),
        query=of(face.query),
        hidden=of(face.hidden),
        every_layer=of(face.every_layer),
        all_heads=of(face.all_heads),
        head=of(face.head),
        shapes={f"{side}/{path}": shape for path, shape in face.shapes.items()},
        logical_axes={f"{side}/{path}": axes for path, axes in face.logical_axes.items()},
    )


def side_of(params: dict, side: str) -> dict:
    """The parameters of one of two towers, under the paths that they have by themselves."""
    start = f"{side}/"
    return {path.removeprefix(start): v for path, v in params.items() if path.startswith(start)}


def initial_params(spec: ModelSpec | PairSpec, key: jax.Array) -> dict[str, jax.Array]:
    """Random parameters of a spec; call it inside jax.jit to have them made in place."""
    if isinstance(spec, ModelSpec):
        return _flatten(nnx.state(_build(spec, key)))
    if spec.shared:
        params = initial_params(spec.document, key)
    else:
        keys = dict(zip(("query", "document"), jax.random.split(key), strict=True))
        params = {
            f"{side}/{path}": value
            for side, k in keys.items()
            for path, value in initial_params(getattr(spec, side), k).items()
        }
    if spec.temperature:
        params[TEMPERATURE] = jnp.log(jnp.float32(spec.temperature))
    return params


def _build(spec: ModelSpec, key: jax.Array) -> EmbeddingModel:
    return EmbeddingModel(spec, key=key)


def _flatten(state) -> dict:
    return {_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def _name(path) -> str:
    return "/".join(str(key.key) for key in path if hasattr(key, "key"))
