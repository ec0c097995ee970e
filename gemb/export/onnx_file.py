"""A tower as an ONNX file, in float32 or with weights and activations rounded to eight bits."""

import logging
from pathlib import Path

import jax
import numpy as np

from gemb.checks import needs
from gemb.export.onnx_graph import OnnxGraph, Value
from gemb.export.onnx_operators import rewrite
from gemb.export.program import program
from gemb.models.model import Tower

NAME = "model.onnx"
_LARGEST = 1_900_000_000  # bytes of a protobuf; larger weights go into a file of their own


def write(tower: Tower, folder: Path) -> Path:
    """Writes model.onnx, and model.onnx.data where the weights do not fit into it.

    Returns:
        The path of model.onnx.

    Raises:
        UserError: for a model with an operator that is not known.
    """
    with needs("the format onnx", extra="export"):
        import onnx

    made, graph = program(tower), OnnxGraph()
    shapes = {k: jax.ShapeDtypeStruct(v.shape, np.float32) for k, v in tower.params.items()}
    traced = jax.make_jaxpr(made.call)(shapes, *made.shapes())
    inputs = [
        Value(name, shape.shape, np.dtype(np.int64))
        for name, shape in zip(made.inputs, made.shapes(), strict=True)
    ]
    graph.know_sizes(inputs[0])
    weights = [
        graph.constant(np.asarray(tower.params[path], np.float32), path) for path in sorted(shapes)
    ]
    given = weights + [graph.cast(value, np.int32) for value in inputs]
    constants = [graph.constant(np.asarray(constant)) for constant in traced.consts]
    values = rewrite(graph, traced.jaxpr, constants, given)
    model = graph.model(inputs, dict(zip(made.outputs, values, strict=True)), {})
    size = sum(value.nbytes for value in tower.params.values())
    apart = {"save_as_external_data": True, "location": f"{NAME}.data"} if size > _LARGEST else {}
    onnx.save(model, folder / NAME, **apart)
    return folder / NAME


def write_int8(tower: Tower, folder: Path) -> Path:
    """Writes model.onnx with the matrices as int8, one scale an output; the rest stays float32.

    Activations are rounded while it runs, with a scale that each batch gives.
    """
    with needs("the format onnx-int8", extra="export"):
        from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = write(tower, folder)
    plain = whole.rename(folder / "float32.onnx")
    # The grid of gemb.training.quantisation: weights that were trained on it are kept as they are.
    grid = {"weight_type": QuantType.QInt8, "per_channel": True}
    logging.disable(logging.WARNING)  # it advises a step that symbolic sizes do not need
    try:
        quantize_dynamic(plain, whole, op_types_to_quantize=["MatMul"], **grid)
    finally:
        logging.disable(logging.NOTSET)
    for left in folder.glob("float32.onnx*"):
        left.unlink()
    return whole


class OnnxEncoder:
    """An exported file in ONNX Runtime.

    Args:
        path: the file.
        tower: not read; encoders of other formats want it.
    """

    def __init__(self, path: Path, tower: Tower | None = None):
        with needs("running an ONNX file", extra="export"):
            import onnxruntime

        onnxruntime.set_default_logger_severity(3)
        providers = ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(path), providers=providers)

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """[batch, length] arrays in the order of the program's inputs -> one array an output."""
        names = [given.name for given in self._session.get_inputs()]
        given = {n: v.astype(np.int64) for n, v in zip(names, inputs, strict=True)}
        return self._session.run(None, given)
