"""The primitives of JAX that gemb's networks are made of, as operators of ONNX.

A network is traced by JAX, with symbolic sizes; its equations are then rewritten one by one. What
is not in the tables is refused by name, never left out.
"""

import numpy as np

from gemb.checks import UserError
from gemb.export.onnx_graph import OnnxGraph, Value

ELEMENTWISE = {
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max",
    "min": "Min", "exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid", "neg": "Neg",
    "abs": "Abs", "sqrt": "Sqrt", "cos": "Cos", "sin": "Sin", "erf": "Erf", "floor": "Floor",
    "sign": "Sign", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual",
    "eq": "Equal", "and": "And", "or": "Or", "not": "Not", "pow": "Pow",
}  # fmt: skip
CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint"}
SAME = {"copy", "copy_p", "stop_gradient", "optimization_barrier", "sharding_constraint"}
REDUCTIONS = {
    "reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin",
    "reduce_or": "ReduceMax", "reduce_and": "ReduceMin",
}  # fmt: skip


def rewrite(graph: OnnxGraph, jaxpr, constants: list[Value], inputs: list[Value]) -> list[Value]:
    """Adds the nodes of a jaxpr.

    Args:
        graph: grows.
        jaxpr: an open jaxpr.
        constants, inputs: what its constvars and invars stand for.

    Returns:
        The Values of its outputs, in JAX's shapes.

    Raises:
        UserError: for a primitive that has no operator here.
    """
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))

    def read(atom) -> Value:
        if hasattr(atom, "val"):  # a literal
            return graph.constant(np.asarray(atom.val, atom.aval.dtype))
        return known[atom]

    for equation in jaxpr.eqns:
        values = [read(atom) for atom in equation.invars]
        outputs = _equation(graph, equation, values)
        known |= dict(zip(equation.outvars, outputs, strict=True))
    return [graph.whole(read(atom), atom.aval.shape) for atom in jaxpr.outvars]


def _equation(graph: OnnxGraph, equation, values: list[Value]) -> list[Value]:
    name, options = equation.primitive.name, equation.params
    if name in SAME:
        return values
    if name in CALLS:
        inner = options.get("jaxpr") or options["call_jaxpr"]
        consts = [graph.constant(np.asarray(c)) for c in getattr(inner, "consts", ())]
        return rewrite(graph, getattr(inner, "jaxpr", inner), consts, values)
    output = equation.outvars[0].aval
    if name in ELEMENTWISE:
        return [_elementwise(graph, ELEMENTWISE[name], values, output.dtype)]
    if name not in _OTHERS:
        raise UserError(f"the model computes {name!r}, for which gemb has no operator of ONNX")
    if name not in ("broadcast_in_dim", "select_n", *_BROADCASTING):
        shapes = [atom.aval.shape for atom in equation.invars]
        values = [graph.whole(value, shape) for value, shape in zip(values, shapes, strict=True)]
    made = _OTHERS[name](graph, values, output, options)
    return made if isinstance(made, list) else [made]


def _elementwise(graph: OnnxGraph, kind: str, values: list[Value], dtype) -> Value:
    return graph.node(kind, values, _together(values), dtype)


def _together(values: list[Value]) -> tuple:
    """The shape of broadcast values."""
    rank = max(len(value.shape) for value in values)
    padded = [(1,) * (rank - len(value.shape)) + tuple(value.shape) for value in values]
    return tuple(next((n for n in sizes if n != 1), 1) for sizes in zip(*padded, strict=True))


def _broadcast(graph, values, output, options):
    value, axes = values[0], options["broadcast_dimensions"]
    shape = [1] * len(output.shape)
    for axis, size in zip(axes, value.shape, strict=True):
        shape[axis] = size
    return graph.reshape(value, shape)


def _square(graph, values, output, options):
    return _elementwise(graph, "Mul", values * 2, output.dtype)


def _unequal(graph, values, output, options):
    equal = _elementwise(graph, "Equal", values, output.dtype)
    return _elementwise(graph, "Not", [equal], output.dtype)


def _rsqrt(graph, values, output, options):
    root = _elementwise(graph, "Sqrt", values, output.dtype)
    return _elementwise(graph, "Reciprocal", [root], output.dtype)


def _erfc(graph, values, output, options):
    one = graph.constant(np.ones((), output.dtype))
    erf = _elementwise(graph, "Erf", values, output.dtype)
    return _elementwise(graph, "Sub", [one, erf], output.dtype)


def _integer_pow(graph, values, output, options):
    power, result = options["y"], values[0]
    if power < 1:
        raise UserError(f"the model computes a power of {power}, which gemb does not export")
    for _ in range(power - 1):
        result = _elementwise(graph, "Mul", [result, values[0]], output.dtype)
    return result


def _select(graph, values, output, options):
    which, no, yes = values
    return _elementwise(graph, "Where", [which, yes, no], output.dtype)


def _convert(graph, values, output, options):
    return graph.cast(values[0], output.dtype)


_BROADCASTING = {
    "square": _square,
    "ne": _unequal,
    "rsqrt": _rsqrt,
    "erfc": _erfc,
    "integer_pow": _integer_pow,
    "convert_element_type": _convert,
}


def _reduce(kind: str):
    def reduce(graph, values, output, options):
        value, axes = values[0], graph.integers(options["axes"])
        whole = graph.cast(value, np.int32) if value.dtype == bool else value
        made = graph.node(kind, [whole, axes], output.shape, whole.dtype, keepdims=0)
        return graph.cast(made, output.dtype)

    return reduce


def _argmax(graph, values, output, options):
    value = graph.cast(values[0], np.int32) if values[0].dtype == bool else values[0]
    (axis,) = options["axes"]
    made = graph.node("ArgMax", [value], output.shape, np.int64, axis=axis, keepdims=0)
    return graph.cast(made, output.dtype)


def _cumsum(graph, values, output, options):
    if options["reverse"]:
        raise UserError("the model sums backwards, which gemb does not export")
    axis = graph.constant(np.asarray(options["axis"], np.int64))
    return graph.node("CumSum", [values[0], axis], output.shape, output.dtype)


def _transpose(graph, values, output, options):
    order = list(options["permutation"])
    return graph.node("Transpose", values, output.shape, output.dtype, perm=order)


def _reshape(graph, values, output, options):
    return graph.reshape(values[0], output.shape)


def _concatenate(graph, values, output, options):
    axis = options["dimension"]
    return graph.node("Concat", values, output.shape, output.dtype, axis=axis)


def _split(graph, values, output, options):
    sizes, axis = [int(size) for size in options["sizes"]], options["axis"]
    shapes = [(*output.shape[:axis], size, *output.shape[axis + 1 :]) for size in sizes]
    inputs = [values[0], graph.integers(sizes)]
    return graph.node("Split", inputs, shapes, output.dtype, outputs=len(sizes), axis=axis)


def _slice(graph, values, output, options):
    starts, ends = (graph.sizes(options[f"{which}_indices"]) for which in ("start", "limit"))
    axes = graph.integers(range(len(output.shape)))
    steps = graph.integers(options["strides"] or [1] * len(output.shape))
    return graph.node("Slice", [values[0], starts, ends, axes, steps], output.shape, output.dtype)


def _reverse(graph, values, output, options):
    axes = list(options["dimensions"])
    ends = [np.iinfo(np.int64).min] * len(axes)
    parts = ([-1] * len(axes), ends, axes, [-1] * len(axes))
    inputs = [values[0], *map(graph.integers, parts)]
    return graph.node("Slice", inputs, output.shape, output.dtype)


def _iota(graph, values, output, options):
    axis = options["dimension"]
    flat = graph.reshape(graph.size(output.shape[axis]), ())
    start, step = (graph.constant(np.asarray(number, np.int64)) for number in (0, 1))
    run = graph.node("Range", [start, flat, step], (output.shape[axis],), np.int64)
    shape = [1] * len(output.shape)
    shape[axis] = output.shape[axis]
    return graph.reshape(graph.cast(run, output.dtype), shape)


def _dimension(graph, values, output, options):
    return graph.cast(graph.reshape(graph.size(options["dim"]), ()), output.dtype)


def _dot(graph, values, output, options):
    """A MatMul where one dimension is summed and at most one of each side is left, else Einsum."""
    (left_sum, right_sum), (left_batch, right_batch) = options["dimension_numbers"]
    left, right = values
    if not left_batch and len(right.shape) == 2 and tuple(left_sum) == (len(left.shape) - 1,):
        if right_sum[0] == 1:
            shape = right.shape[::-1]
            right = graph.node("Transpose", [right], shape, right.dtype, perm=[1, 0])
        return graph.node("MatMul", [left, right], output.shape, output.dtype)
    batch, rank = len(left_batch), len(left.shape)
    leading = tuple(range(batch))
    matrices = rank == len(right.shape) == batch + 2 and len(left_sum) == 1
    if matrices and tuple(left_batch) == tuple(right_batch) == leading:
        if left_sum[0] != rank - 1:
            left = _swapped(graph, left)
        if right_sum[0] != rank - 2:
            right = _swapped(graph, right)
        return graph.node("MatMul", [left, right], output.shape, output.dtype)
    equation = _einsum(left, right, options["dimension_numbers"])
    return graph.node("Einsum", [left, right], output.shape, output.dtype, equation=equation)


def _swapped(graph, value: Value) -> Value:
    order = [*range(len(value.shape) - 2), len(value.shape) - 1, len(value.shape) - 2]
    shape = [value.shape[axis] for axis in order]
    return graph.node("Transpose", [value], shape, value.dtype, perm=order)


def _einsum(left: Value, right: Value, numbers) -> str:
    (left_sum, right_sum), (left_batch, right_batch) = numbers
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    ours = [next(letters) for _ in left.shape]
    theirs = [next(letters) for _ in right.shape]
    for mine, other in zip((*left_sum, *left_batch), (*right_sum, *right_batch), strict=True):
        theirs[other] = ours[mine]
    free = [a for i, a in enumerate(ours) if i not in (*left_sum, *left_batch)]
    free += [a for i, a in enumerate(theirs) if i not in (*right_sum, *right_batch)]
    result = [ours[axis] for axis in left_batch] + free
    return f"{''.join(ours)},{''.join(theirs)}->{''.join(result)}"


def _gather(graph, values, output, options):
    """Rows of one axis by their indices, a slice from an index, or one row for each text."""
    numbers, (value, index) = options["dimension_numbers"], values
    sizes, starts = options["slice_sizes"], numbers.start_index_map
    wide = graph.cast(index, np.int64)
    batched = tuple(numbers.operand_batching_dims)
    whole = [i for i, n in enumerate(sizes) if n == value.shape[i]]
    if len(starts) == 1 and set(whole) | {*starts, *batched} == set(range(len(sizes))):
        (axis,) = starts
        if not batched and not numbers.collapsed_slice_dims:
            ends = graph.node("Add", [wide, graph.integers([sizes[axis]])], (1,), np.int64)
            inputs = [value, wide, ends, graph.integers([axis])]
            return graph.node("Slice", inputs, output.shape, output.dtype)
        if tuple(numbers.collapsed_slice_dims) == (axis,):
            if batched and batched == tuple(range(axis)):
                return graph.node(
                    "GatherND", [value, wide], output.shape, output.dtype, batch_dims=axis
                )
            at = range(axis, axis + len(index.shape) - 1)
            if not batched and not set(at) & set(numbers.offset_dims):
                wide = graph.reshape(wide, index.shape[:-1])
                return graph.node("Gather", [value, wide], output.shape, output.dtype, axis=axis)
    raise UserError(f"the model picks by {numbers}, for which gemb has no operator of ONNX")


def _squeeze(graph, values, output, options):
    return graph.reshape(values[0], output.shape)


_OTHERS = {
    **_BROADCASTING,
    **{name: _reduce(kind) for name, kind in REDUCTIONS.items()},
    "broadcast_in_dim": _broadcast,
    "select_n": _select,
    "argmax": _argmax,
    "cumsum": _cumsum,
    "transpose": _transpose,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "expand_dims": _squeeze,
    "concatenate": _concatenate,
    "split": _split,
    "slice": _slice,
    "rev": _reverse,
    "iota": _iota,
    "dim_as_value": _dimension,
    "dot_general": _dot,
    "gather": _gather,
}
