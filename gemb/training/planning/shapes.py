"""Costs of a computation from its trace, without arrays and compilation."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec, TowerSpec
from gemb.structs import Inputs


def matmul_flops(function: Callable, *shapes) -> int:
    """FLOPs of all matrix products of a function; those in loops count once per iteration.

    A product of [m, k] and [k, n] counts 2 m k n. Recomputation in the backward pass counts
    again. Elementwise arithmetic does not count. A loop of unknown length counts
    as one iteration.

    Args:
        function: any traceable function.
        *shapes: its arguments; jax.ShapeDtypeStruct will do.

    Example:
        >>> import jax.numpy as jnp
        >>> matmul_flops(lambda x, y: jnp.tanh(x @ y), jnp.zeros((2, 3)), jnp.zeros((3, 5)))
        60
    """
    return _flops(jax.make_jaxpr(function)(*shapes).jaxpr)


def _flops(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = math.prod(left[axis] for axis in contracted)
            total += 2 * math.prod(equation.outvars[0].aval.shape) * inner
            continue
        within = [_flops(inner) for inner in _jaxprs(equation.params)]
        if equation.primitive.name == "cond":
            total += max(within, default=0)
        else:
            total += _times(equation) * sum(within)
    return total


def _times(equation) -> int:
    if equation.primitive.name == "scan":
        return equation.params["length"]
    # the body of a shard_map has the shapes of one device
    return equation.params["mesh"].size if equation.primitive.name == "shard_map" else 1


def _jaxprs(params: dict):
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                yield inner


class Shapes(NamedTuple):
    """The shapes of Inputs as a hashable value; from `shapes_of`.

    Attributes:
        tree: jax's tree definition.
        leaves: one jax.ShapeDtypeStruct per array.
    """

    tree: Any
    leaves: tuple[jax.ShapeDtypeStruct, ...]

    def rows(self, count: int) -> Inputs:
        """Inputs of shapes, with a given number of rows."""
        leaves = [jax.ShapeDtypeStruct((count, *x.shape[1:]), x.dtype) for x in self.leaves]
        return jax.tree.unflatten(self.tree, leaves)

    @property
    def inputs(self) -> Inputs:
        """Inputs of shapes."""
        return jax.tree.unflatten(self.tree, self.leaves)


def shapes_of(inputs: Inputs) -> Shapes:
    """The shapes of Inputs."""
    leaves, tree = jax.tree.flatten(inputs)
    return Shapes(tree, tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves))


@functools.lru_cache(maxsize=256)
def encoder_flops(spec: ModelSpec, query: Shapes, document: Shapes) -> int:
    """Useful FLOPs of a training step's encoders: three times the forward pass of both sides.

    Padding counts, because the chip multiplies it too. Recomputation and the loss do not count.

    Args:
        spec: the model.
        query, document: the Inputs of each side.

    Reference: Chowdhery et al., "PaLM", 2022, arXiv 2204.02311, appendix B.
    """
    model, looped = functional(spec), Execution(layers="scan", attention="plain")

    def forward(embed, shapes: Shapes) -> int:
        return matmul_flops(lambda p, x: embed(p, x, looped, None), model.shapes, shapes.inputs)

    return 3 * (forward(model.query.embed, query) + forward(model.document.embed, document))


def saved_bytes(spec: TowerSpec, shapes: Shapes, execution: Execution) -> int:
    """Bytes per row that autodiff keeps between the forward and the backward pass.

    Args:
        spec: the tower.
        shapes: shapes of its Inputs, with any number of rows.
        execution: execution settings; `remat` decides.
    """
    model = functional(ModelSpec.of(spec))
    # A loop keeps what unrolled layers keep, and is faster to trace.
    execution = dataclasses.replace(execution, layers="scan")

    def kept(rows: int) -> int:
        def backward(params, inputs):
            apply = model.document.embed
            return jax.vjp(lambda params: apply(params, inputs, execution, None), params)[1]

        leaves = jax.tree.leaves(jax.eval_shape(backward, model.shapes, shapes.rows(rows)))
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)

    # What is kept includes the weights; the difference between two sizes does not.
    return kept(2) - kept(1)
