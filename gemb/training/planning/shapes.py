"""What a computation costs, read off its trace: no array is made and nothing is compiled."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax

from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec, PairSpec
from gemb.structs import Tokens


def matmul_flops(function: Callable, *shapes) -> int:
    """FLOPs of all matrix products of a function, those in loops as often as they run.

    A product of [m, k] and [k, n] counts 2 m k n. What is recomputed in a backward pass counts
    again; elementwise arithmetic does not count, nor does a loop whose length is not known before
    it runs count more than once.

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
    # a shard_map's body has the shapes of one device
    return equation.params["mesh"].size if equation.primitive.name == "shard_map" else 1


def _jaxprs(params: dict):
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                yield inner


@functools.lru_cache(maxsize=256)
def encoder_flops(
    spec: ModelSpec | PairSpec, query: tuple[int, int], document: tuple[int, int]
) -> int:
    """Useful FLOPs of a training step's encoders: three times the forward pass of both sides.

    Padding counts, as the chip multiplies it too; what is recomputed does not, nor does the loss.

    Args:
        spec: the model, or the pair of models.
        query, document: (rows, length) of each side.

    Reference: Chowdhery et al., "PaLM", 2022, arXiv 2204.02311, appendix B.
    """
    model, looped = functional(spec), Execution(layers="scan", attention="plain")

    def forward(apply, rows: int, length: int) -> int:
        tokens = Tokens(_ints(rows, length), _bools(rows, length))
        return matmul_flops(lambda p, t: apply(p, t, looped, None), model.shapes, tokens)

    return 3 * (forward(model.query, *query) + forward(model.apply, *document))


def saved_bytes(spec: ModelSpec, length: int, execution: Execution) -> int:
    """Bytes that autodiff keeps of one text between the forward and the backward pass.

    Args:
        spec: the model.
        length: tokens of the text.
        execution: how it is computed; `remat` decides.
    """
    model = functional(spec)
    # A loop keeps what unrolled layers keep, and is traced sooner.
    execution = dataclasses.replace(execution, layers="scan")

    def kept(rows: int) -> int:
        tokens = Tokens(_ints(rows, length), _bools(rows, length))

        def backward(params, tokens):
            return jax.vjp(lambda params: model.apply(params, tokens, execution, None), params)[1]

        leaves = jax.tree.leaves(jax.eval_shape(backward, model.shapes, tokens))
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)

    # Weights are among what is kept, whatever the rows: the difference is without them.
    return kept(2) - kept(1)


def _ints(*shape) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, "int32")


def _bools(*shape) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, "bool")
