"""An ONNX graph under construction: values with their shapes, nodes, constants.

Sizes are ints, or the names of the two sizes that only a caller knows: batch and length. What a
primitive of JAX becomes is `onnx_operators.py`'s business.
"""

from typing import NamedTuple

import numpy as np

OPSET, IR_VERSION = 18, 9  # read by ONNX Runtime 1.14 and newer


class Value(NamedTuple):
    """A tensor of the graph.

    Attributes:
        name: in the graph.
        shape: ints and symbolic sizes of JAX; a 1 may stand where JAX has a larger size, because
            ONNX's elementwise operators broadcast by themselves.
        dtype: numpy's.
    """

    name: str
    shape: tuple
    dtype: np.dtype


class OnnxGraph:
    """Nodes and constants, in the order in which they are added."""

    def __init__(self):
        self.nodes, self.initializers, self._sizes, self._count = [], [], {}, 0
        self._kept = {}

    def constant(self, array, name: str = "") -> Value:
        """A tensor that is written into the file; small ones of equal content are shared."""
        from onnx import numpy_helper

        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 else None
        if not name and key in self._kept:
            return self._kept[key]
        value = Value(name or self._fresh("constant"), array.shape, array.dtype)
        self.initializers.append(numpy_helper.from_array(array, value.name))
        if key and not name:
            self._kept[key] = value
        return value

    def node(self, kind: str, inputs, shape=(), dtype=np.float32, *, outputs=1, **attributes):
        """Adds a node.

        Args:
            kind: the operator of ONNX.
            inputs: Values.
            shape: of the output; of several outputs a list.
            dtype: of the outputs.
            outputs: how many.
            **attributes: the operator's.

        Returns:
            The output's Value, or a list of them.
        """
        from onnx import helper

        names = [self._fresh(kind) for _ in range(outputs)]
        inputs = [value.name for value in inputs]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        if outputs == 1:
            return Value(names[0], tuple(shape), np.dtype(dtype))
        return [Value(n, tuple(s), np.dtype(dtype)) for n, s in zip(names, shape, strict=True)]

    def integers(self, numbers) -> Value:
        """A constant of int64, as axes and shapes are."""
        return self.constant(np.asarray(numbers, np.int64))

    def know_sizes(self, value: Value) -> None:
        """Makes the symbolic sizes of an input known to `size`."""
        shape = self.node("Shape", [value], (len(value.shape),), np.int64)
        for axis, size in enumerate(value.shape):
            if not isinstance(size, int):
                inputs = [shape, self.integers([axis])]
                self._sizes[str(size)] = self.node("Gather", inputs, (1,), np.int64)

    def size(self, size) -> Value:
        """One size as a tensor [1] of int64; a symbolic one may have a number added to it."""
        if isinstance(size, int | np.integer):
            return self.integers([int(size)])
        for name, value in self._sizes.items():
            if str(size) == name:
                return value
            offset = str(size).removeprefix(f"{name} ").replace(" ", "")
            if str(size).startswith(f"{name} ") and offset.lstrip("+-").isdecimal():
                return self.node("Add", [value, self.integers([int(offset)])], (1,), np.int64)
        raise NotImplementedError(f"a size of {size}")

    def sizes(self, shape) -> Value:
        """A shape as a tensor of int64."""
        if all(isinstance(size, int | np.integer) for size in shape):
            return self.integers([int(size) for size in shape])
        parts = [self.size(size) for size in shape]
        return self.node("Concat", parts, (len(shape),), np.int64, axis=0)

    def cast(self, value: Value, dtype) -> Value:
        """The value in another dtype."""
        from onnx import helper

        dtype = np.dtype(dtype)
        if value.dtype == dtype:
            return value
        to = helper.np_dtype_to_tensor_dtype(dtype)
        return self.node("Cast", [value], value.shape, dtype, to=to)

    def reshape(self, value: Value, shape) -> Value:
        """The value in another shape of as many numbers."""
        if tuple(value.shape) == tuple(shape):
            return value
        sizes = []
        for axis, size in enumerate(shape):
            same = axis < len(value.shape) and value.shape[axis] == size
            sizes.append(int(size) if isinstance(size, int | np.integer) else 0 if same else -1)
        wanted = self.integers(sizes) if sizes.count(-1) <= 1 else self.sizes(shape)
        return self.node("Reshape", [value, wanted], shape, value.dtype)

    def whole(self, value: Value, shape) -> Value:
        """The value in JAX's shape, for operators that do not broadcast."""
        if tuple(value.shape) == tuple(shape):
            return value
        return self.node("Expand", [value, self.sizes(shape)], shape, value.dtype)

    def model(self, inputs: list[Value], outputs: dict[str, Value], about: dict[str, str]):
        """The ModelProto, checked.

        Args:
            inputs: of the graph.
            outputs: name -> Value.
            about: texts for the model's metadata.
        """
        import onnx
        from onnx import helper

        from gemb import __version__

        ends = []
        for name, value in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value.name], [name]))
            ends.append(_information(name, value))
        starts = [_information(value.name, value) for value in inputs]
        graph = helper.make_graph(self.nodes, "embedding", starts, ends, self.initializers)
        imports = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=imports, ir_version=IR_VERSION)
        made.producer_name, made.producer_version = "gemb", __version__
        helper.set_model_props(made, about)
        onnx.checker.check_model(made)
        return made

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"{kind}_{self._count}"


def _information(name: str, value: Value):
    from onnx import helper

    shape = [size if isinstance(size, int) else str(size) for size in value.shape]
    dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, dtype, shape)
