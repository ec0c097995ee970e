"""An ONNX graph as a place to look up weights, quantised or not; what they mean is not known."""

from pathlib import Path

import numpy as np

from gemb.checks import UserError

# What a constant may pass through on its way to its use.
_PASSES = ("Identity", "Cast", "Transpose", "DequantizeLinear")
# Between a multiplication and its bias: the steps of a dynamically quantised one.
_TOWARDS_BIAS = ("Cast", "Mul", "Identity")


class Graph:
    """Nodes, and the constants that flow into them.

    Attributes:
        source: the file.
        nodes: in the order of the file.
        initializers: {name: TensorProto}.
        consumers: {name: nodes that take it}.
    """

    def __init__(self, source: Path):
        """Reads a file.

        Raises:
            UserError: if it is no readable ONNX model.
        """
        import onnx
        from google.protobuf.message import DecodeError

        try:
            model = onnx.load(source)
        except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
            raise UserError(f"{source}: not a readable ONNX file ({error})") from None
        self.source = source
        self.nodes = list(model.graph.node)
        if not self.nodes:
            raise UserError(f"{source}: not an ONNX model (it holds no graph)")
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.consumers: dict[str, list] = {}
        self._producers = {}
        for node in self.nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
            for name in node.output:
                self._producers[name] = node

    def constant(self, name: str) -> np.ndarray | None:
        """The array of a name, transposed and dequantised; None if it is computed."""
        from onnx import numpy_helper

        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self._producers.get(name)
        if node is None:
            return None
        if node.op_type == "Constant":
            value = attribute(node, "value")
            return None if value is None else numpy_helper.to_array(value)
        inner = self.constant(node.input[0]) if node.op_type in _PASSES else None
        if inner is not None and node.op_type == "Transpose":
            return inner.transpose(attribute(node, "perm"))
        if inner is not None and node.op_type == "DequantizeLinear":
            return self._dequantize(inner, node)
        return inner

    def parameter(self, name: str) -> np.ndarray | None:
        """A float constant; one that is dequantised only after a Gather counts too."""
        value = self.constant(name)
        if value is None or value.dtype.kind not in "iu":
            return value
        for node in self.consumers.get(name, []):
            after = self.consumers.get(node.output[0], []) if node.op_type == "Gather" else [node]
            for step in after:
                if step.op_type == "DequantizeLinear":
                    return self._dequantize(value, step)
        return None

    def linear_weight(self, node) -> np.ndarray | None:
        """The matrix `[out, in]` of a MatMul, Gemm or MatMulInteger; None if it is computed."""
        weight = self.constant(node.input[1])
        if weight is None or weight.ndim != 2:
            return None
        if node.op_type == "MatMulInteger":
            zero = self.constant(node.input[3]) if len(node.input) > 3 else None
            return dequantize(weight, self._integer_scale(node), zero, axis=1).T
        for factor in ("alpha", "beta"):
            if (attribute(node, factor) or 1.0) != 1.0:
                raise UserError(f"{self.source}: node {node.name} has {factor} other than 1")
        return weight if attribute(node, "transB") else weight.T

    def names(self, name: str) -> list[str]:
        """What a constant is called, from its use down to its initializer; [] if it is computed.

        Exporters store equal weights once: the others' names are left on Identity nodes.
        """
        names = [name]
        while names[-1] not in self.initializers:
            node = self._producers.get(names[-1])
            if node is None or node.op_type not in _PASSES:
                return []
            names.append(node.input[0])
        return names

    def constant_names(self) -> list[str]:
        """Every name of a constant, those on Identity nodes among them."""
        passed = [
            node.output[0]
            for node in self.nodes
            if node.op_type == "Identity" and self.names(node.output[0])
        ]
        return [*self.initializers, *passed]

    def bias_names(self, node) -> list[str]:
        """The names of what is added to the product of a MatMul, Gemm or MatMulInteger."""
        if node.op_type == "Gemm" and len(node.input) > 2:
            return self.names(node.input[2])
        output = node.output[0]
        for _ in range(len(_TOWARDS_BIAS) + 1):
            following = self.consumers.get(output, [])
            if len(following) != 1:
                return []
            step = following[0]
            if step.op_type == "Add":
                return [each for name in step.input if name != output for each in self.names(name)]
            if step.op_type not in _TOWARDS_BIAS:
                return []
            output = step.output[0]
        return []

    def norm_epsilon(self) -> float | None:
        """The epsilon of the first layer norm, fused or written out as sqrt(variance + epsilon)."""
        for node in self.nodes:
            value = attribute(node, "epsilon") if node.op_type == "LayerNormalization" else None
            add = self._producers.get(node.input[0]) if node.op_type == "Sqrt" else None
            if add is not None and add.op_type == "Add":
                constants = [self.constant(name) for name in add.input]
                value = next((c.item() for c in constants if c is not None and c.size == 1), None)
            if value is not None:
                return float(f"{value:.6g}")  # 1e-12 is 9.9999999600e-13 in float32
        return None

    def _integer_scale(self, node) -> np.ndarray:
        """MatMulInteger -> Cast -> Mul by (input's scale * weight's scale): the latter."""
        output = node.output[0]
        for step in self.consumers.get(output, []):
            if step.op_type == "Cast":
                output = step.output[0]
        for step in self.consumers.get(output, []):
            for name in step.input if step.op_type == "Mul" else ():
                scales = self._producers.get(name)
                if name != output and scales is not None and scales.op_type == "Mul":
                    for scale in scales.input:
                        if scale in self.initializers:
                            return self.constant(scale)
        raise UserError(f"{self.source}: node {node.name} has no scale for its quantised weight")

    def _dequantize(self, value: np.ndarray, node) -> np.ndarray:
        scale = self.constant(node.input[1])
        if scale is None:
            raise UserError(f"{self.source}: node {node.name} has a scale that is computed")
        zero = self.constant(node.input[2]) if len(node.input) > 2 else None
        axis = attribute(node, "axis")
        return dequantize(value, scale, zero, axis=1 if axis is None else axis)


def attribute(node, name: str):
    """The value of a node's attribute, or None."""
    from onnx.helper import get_attribute_value

    for item in node.attribute:
        if item.name == name:
            return get_attribute_value(item)
    return None


def dequantize(value: np.ndarray, scale, zero, *, axis: int) -> np.ndarray:
    """(value - zero) * scale in float32, as ONNX defines DequantizeLinear.

    Args:
        value: integers of any shape.
        scale: one float, or one for each index of `axis`.
        zero: integers like `scale`, or None for 0.
        axis: the dimension that `scale` follows where it is a vector.

    Example:
        >>> dequantize(np.array([[3, 1], [5, 1]], np.int8), np.array([0.5, 2.0]), None, axis=1)
        array([[1.5, 2. ],
               [2.5, 2. ]], dtype=float32)
    """
    along = [1] * value.ndim
    if value.ndim:
        along[axis if np.size(scale) > 1 else 0] = -1
    scale = np.asarray(scale, np.float32).reshape(along)
    zero = np.float32(0) if zero is None else np.asarray(zero, np.float32).reshape(along)
    return (value.astype(np.float32) - zero) * scale
