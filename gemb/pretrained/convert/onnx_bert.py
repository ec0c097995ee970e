"""ONNX exports of BERT, float or dynamically quantised, under Hugging Face's names."""

import re
from pathlib import Path

import numpy as np

from gemb.checks import UserError
from gemb.pretrained.convert.checkpoint import Checkpoint, check_tensors
from gemb.pretrained.convert.onnx_graph import Graph, attribute

# Exporters put the name of the wrapping module in front: "bert.", "0.auto_model.", ...
_NAME = re.compile(
    r"(?:^|\.)((?:embeddings|encoder|pooler|classifier)(?:\..*)?\.(?:weight|bias))(?:_quantized)?$"
)
_LINEARS = ("MatMul", "Gemm", "MatMulInteger")
_WORDS = "embeddings.word_embeddings.weight"


def read(source: Path, *, config: dict | None, heads: int | None) -> Checkpoint:
    """Reads a BERT, with or without its pooler, or a BERT classifier (a cross-encoder).

    Args:
        source: the .onnx file; external data must be next to it.
        config: the published config.json, or None to derive it from the tensors' shapes.
        heads: attention heads, which shapes do not give; needed where `config` is None.

    Returns:
        A Checkpoint whose tensors are float32, or float16 where the file's are.

    Raises:
        UserError: for an unreadable file, another architecture, a tensor that is missing, left over
            or misshapen, a config of another model, or no way to know the heads.
    """
    try:
        graph = Graph(source)
        if any(node.domain == "com.microsoft" for node in graph.nodes):
            raise UserError(
                f"{source}: ONNX Runtime has fused its nodes; convert the export from before that"
            )
        tensors = _tensors(graph)
        sizes = _sizes(tensors, source)
    except (ValueError, TypeError, LookupError, RecursionError) as error:  # from onnx and numpy
        raise UserError(f"{source}: a broken ONNX graph ({error})") from None
    if config is None:
        config = _derived_config(graph, sizes, heads)
    else:
        _check_config(config, sizes, heads, source)
    if "classifier.weight" in tensors:  # HF: the encoder is one part of the classifier
        tensors = {
            name if name.startswith("classifier.") else f"bert.{name}": value
            for name, value in tensors.items()
        }
    return Checkpoint(config, tensors.items(), {})


def _tensors(graph: Graph) -> dict[str, np.ndarray]:
    """{name: array} of all weights, linear ones as `[out, in]`.

    Exporters keep the names of vectors and embeddings. A linear weight is folded with its transpose
    and loses its name: it takes that of the bias which is added to its product.
    """
    tensors = {}
    for name in graph.constant_names():
        known = _known([name])
        value = graph.parameter(name) if known else None
        if value is not None and value.ndim == 1:
            tensors[known] = value
    for node in graph.nodes:
        if node.op_type == "Gather":
            known = _known(graph.names(node.input[0]))
            value = graph.parameter(node.input[0]) if known else None
            if value is not None and value.ndim == 2:
                tensors[known] = value
        elif node.op_type in _LINEARS:
            value = graph.linear_weight(node)
            if value is not None:
                tensors[_linear_name(graph, node)] = value
    return tensors


def _known(names: list[str]) -> str | None:
    """Hugging Face's name of a constant, from the first of its names that has one."""
    matches = (_NAME.search(name) for name in names)
    return next((match[1] for match in matches if match), None)


def _linear_name(graph: Graph, node) -> str:
    own = graph.names(node.input[1])
    bias = _known(graph.bias_names(node)) or ""
    from_bias = f"{bias.removesuffix('.bias')}.weight" if bias.endswith(".bias") else None
    return _known(own) or from_bias or own[-1]  # the last ends up among the left over


def _sizes(tensors: dict, source: Path) -> dict[str, int]:
    """The config's sizes, after a check of every tensor against them."""
    layers = {
        int(m[1]) for m in (re.match(r"encoder\.layer\.(\d+)\.", name) for name in tensors) if m
    }
    inner = "encoder.layer.0.intermediate.dense.weight"
    if not layers or _WORDS not in tensors or inner not in tensors:
        raise UserError(
            f"{source}: not a BERT export: it lacks {_WORDS} or the layers of an encoder"
        )
    rows = {
        kind: len(tensors.get(f"embeddings.{kind}_embeddings.weight", ()))
        for kind in ("position", "token_type")
    }
    sizes = {
        "vocab_size": len(tensors[_WORDS]),
        "hidden_size": tensors[_WORDS].shape[1],
        "num_hidden_layers": max(layers) + 1,
        "intermediate_size": len(tensors[inner]),
        "max_position_embeddings": rows["position"],
        "type_vocab_size": rows["token_type"],
    }
    labels = len(tensors.get("classifier.bias", ()))
    found = {name: value.shape for name, value in tensors.items()}
    check_tensors(found, *_expected_shapes(sizes, labels), source)
    return {**sizes, "labels": labels} if labels else sizes


def _expected_shapes(sizes: dict, labels: int) -> tuple[dict, dict]:
    """({name: shape} of what a BERT has, {name: shape} of its head, if any)."""
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]

    def linear(name: str, rows: int, columns: int) -> dict:
        return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}

    def norm(name: str) -> dict:
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    shapes = {
        _WORDS: (sizes["vocab_size"], width),
        "embeddings.position_embeddings.weight": (sizes["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (sizes["type_vocab_size"], width),
        **norm("embeddings.LayerNorm"),
    }
    for number in range(sizes["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= linear(f"{layer}.attention.{part}", width, width)
        shapes |= norm(f"{layer}.attention.output.LayerNorm")
        shapes |= linear(f"{layer}.intermediate.dense", inner, width)
        shapes |= linear(f"{layer}.output.dense", width, inner)
        shapes |= norm(f"{layer}.output.LayerNorm")
    pooler = linear("pooler.dense", width, width)
    if labels:
        return shapes | pooler | linear("classifier", labels, width), {}
    return shapes, pooler


def _derived_config(graph: Graph, sizes: dict, heads: int | None) -> dict:
    width, labels = sizes["hidden_size"], sizes.get("labels", 0)
    if heads is None or width % heads:
        problem = f"{heads} heads do not divide it" if heads else "shapes do not give the heads"
        raise UserError(
            f"{graph.source}: width {width}, and {problem}: put config.json next to it, or give "
            "--heads (a head is mostly 64 wide, in MiniLM and BGE-small 32)"
        )
    config = {
        "architectures": ["BertForSequenceClassification" if labels else "BertModel"],
        "model_type": "bert",
        **{name: size for name, size in sizes.items() if name != "labels"},
        "num_attention_heads": heads,
        "hidden_act": _activation(graph),
        "layer_norm_eps": graph.norm_epsilon() or 1e-12,
        "position_embedding_type": "absolute",
        "pad_token_id": 0,
    }
    if labels:
        names = [f"LABEL_{number}" for number in range(labels)]
        config["id2label"] = {str(number): name for number, name in enumerate(names)}
        config["label2id"] = {name: number for number, name in enumerate(names)}
    return config


def _activation(graph: Graph) -> str:
    kinds = {node.op_type: node for node in graph.nodes}
    if "Gelu" in kinds:
        return "gelu_new" if attribute(kinds["Gelu"], "approximate") == b"tanh" else "gelu"
    return "gelu" if "Erf" in kinds else "relu" if "Relu" in kinds else "gelu_new"


def _check_config(config: dict, sizes: dict, heads: int | None, source: Path) -> None:
    kind = config.get("model_type")
    if kind != "bert":
        raise UserError(f"{source}: config.json says model_type {kind!r}; expected 'bert'")
    wanted = {name: size for name, size in sizes.items() if name != "labels"}
    if heads is not None:
        wanted["num_attention_heads"] = heads
    for name, size in wanted.items():
        if config.get(name) != size:
            raise UserError(
                f"{source}: {name} is {size}, but config.json says {config.get(name)}: the config "
                "belongs to another model"
            )
    if "num_attention_heads" not in config:
        raise UserError(f"{source}: config.json does not say num_attention_heads")
