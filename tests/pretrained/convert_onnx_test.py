"""ONNX exports of BERT: every way in which exporters and quantisers store a weight."""

import json
import warnings

import numpy as np
import pytest
from foreign_models import OnnxExport, bert_weights, quantized
from safetensors.numpy import load_file

from gemb.checks import UserError
from gemb.pretrained.convert import onnx_bert
from gemb.pretrained.convert.onnx_graph import dequantize

onnx = pytest.importorskip("onnx")


def read(path, **options):
    checkpoint = onnx_bert.read(path, **({"config": None, "heads": 2} | options))
    return checkpoint.config, dict(checkpoint.tensors)


@pytest.mark.parametrize("prefix", ["", "bert.", "0.auto_model.", "model.0.auto_model."])
@pytest.mark.parametrize("linear", ["float", "gemm", "transposed"])
def test_float_exports_give_the_weights_back(tmp_path, prefix, linear):
    weights = bert_weights()
    path = OnnxExport(prefix).bert(weights, linear=linear).save(tmp_path / "model.onnx")
    config, tensors = read(path)
    assert set(tensors) == set(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(tensors[name], value)
    assert config["model_type"] == "bert"
    expected = {
        "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12,
        "max_position_embeddings": 6, "type_vocab_size": 2, "num_attention_heads": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize("embedding", ["before", "after"])
@pytest.mark.parametrize(
    "linear", ["integer", "integer per column", "dequantized", "dequantized per column"]
)
def test_quantized_exports_come_within_half_a_step(tmp_path, linear, embedding):
    weights = bert_weights()
    export = OnnxExport("bert.").bert(weights, linear=linear, embedding=embedding)
    _, tensors = read(export.save(tmp_path / "model.onnx"))
    assert set(tensors) == set(weights)
    differs = 0
    for name, value in weights.items():
        if value.ndim == 1:
            np.testing.assert_array_equal(tensors[name], value)
            continue
        if "_embeddings" in name:
            step = np.abs(value).max() / 127
        elif "per column" in linear:  # of the stored, transposed matrix: a row of this one
            step = np.abs(value).max(axis=1, keepdims=True) / 127
        else:
            step = np.abs(value).max() / 127
        error = np.abs(tensors[name] - value)
        assert (error <= step * 0.5001).all(), name
        differs += error.max() > 0
    assert differs > 5, "nothing was quantised"


@pytest.mark.parametrize("unsigned", [False, True])
def test_dequantize_along_either_axis(unsigned):
    weight = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    values, scale, zero = quantized(weight, per_column=True, unsigned=unsigned)
    expected = np.array(
        [
            [(float(values[i, j]) - float(zero[j])) * float(scale[j]) for j in range(3)]
            for i in range(5)
        ]
    )
    np.testing.assert_allclose(dequantize(values, scale, zero, axis=1), expected, rtol=1e-6)
    np.testing.assert_allclose(dequantize(values.T, scale, zero, axis=0), expected.T, rtol=1e-6)


def test_equal_weights_that_are_stored_once(tmp_path):
    """torch's exporter stores equal vectors once, the other names on Identity nodes."""
    weights = bert_weights(layers=1)
    shared, other = "encoder.layer.0.attention.self.key.bias", "encoder.layer.0.output.dense.bias"
    weights[shared] = weights[other]
    export = OnnxExport().bert(weights)
    export.initializers = [tensor for tensor in export.initializers if tensor.name != shared]
    export.nodes.insert(0, onnx.helper.make_node("Identity", [other], [shared]))
    _, tensors = read(export.save(tmp_path / "model.onnx"))
    for name, value in weights.items():
        np.testing.assert_array_equal(tensors[name], value)


def test_classifier_has_the_names_of_a_cross_encoder(tmp_path):
    weights = bert_weights(labels=1)
    path = OnnxExport("bert.").bert(weights, linear="gemm").save(tmp_path / "model.onnx")
    config, tensors = read(path)
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "LABEL_0"}
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= set(tensors)
    np.testing.assert_array_equal(tensors["classifier.weight"], weights["classifier.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("drop", r"1 tensors are missing: encoder\.layer\.1\.output\.dense\.weight"),
        ("shape", r"pooler\.dense\.weight has shape \(8, 4\), expected \(8, 8\)"),
        ("extra", "1 tensors left over: onnx::MatMul"),
        ("alpha", "has alpha other than 1"),
        ("fused", "ONNX Runtime has fused"),
        ("scale", "no scale for its quantised weight"),
        ("other", "not a BERT export"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    weights, export = bert_weights(), OnnxExport()
    if change == "drop":
        node = "encoder.layer.1.output.dense"
        weights[f"{node}.weight"] = np.zeros((1,), np.float32)  # written as a norm: no matrix
        export.bert(weights)
        export.initializers = [t for t in export.initializers if t.name != f"{node}.weight"]
    elif change == "shape":
        weights["pooler.dense.weight"] = np.zeros((8, 4), np.float32)
        weights["pooler.dense.bias"] = np.zeros(8, np.float32)
        export.bert(weights, linear="gemm")
    elif change == "other":
        export.linear("input", "features.0", np.eye(3, dtype=np.float32), np.zeros(3), "gemm")
    elif change == "scale":
        export.bert(weights)
        export.constant("w", np.ones((8, 8), np.int8))
        export.node("MatMulInteger", "x", "w")
    else:
        export.bert(weights, linear="gemm")
        if change == "extra":
            export.linear("x", "2.linear", np.ones((8, 8), np.float32), np.zeros(8), "float")
        elif change == "alpha":
            bias = export.constant("c", np.zeros(8, np.float32))
            export.node("Gemm", "x", "pooler.dense.weight", bias, alpha=0.5)
            export.constant("pooler.dense.weight", np.zeros((8, 8), np.float32))
        else:
            export.node("Attention", "x", domain="com.microsoft")
    path = export.save(tmp_path / "model.onnx")
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("config", "heads", "message"),
    [
        (None, None, "give --heads"),
        (None, 3, "3 heads do not divide it"),
        ({"model_type": "roberta"}, None, "model_type 'roberta'; expected 'bert'"),
        ({"hidden_size": 16}, None, "hidden_size is 8, but config.json says 16"),
        ({}, 4, "num_attention_heads is 4, but config.json says 2"),
    ],
)
def test_config_and_heads_must_fit(tmp_path, config, heads, message):
    path = OnnxExport().bert(bert_weights()).save(tmp_path / "model.onnx")
    if config is not None:
        whole, _ = read(path)
        assert read(path, config=whole, heads=None)[0] == whole
        config = whole | config
    with pytest.raises(UserError, match=message):
        read(path, config=config, heads=heads)


@pytest.mark.long
@pytest.mark.peers
@pytest.mark.parametrize("random", [False, True], ids=["fresh", "random"])
@pytest.mark.parametrize("kind", ["BertModel", "BertForSequenceClassification"])
def test_exports_of_torch(tmp_path, kind, random):
    """What torch's exporter writes of transformers' model, bit for bit."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models

    from gemb.pretrained.convert import convert

    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "hidden_size": 16, "intermediate_size": 24}
    config = transformers.BertConfig(
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=12, **sizes
    )
    model = getattr(transformers, kind)(config).eval()
    for parameter in model.parameters() if random else ():
        torch.nn.init.normal_(parameter, std=0.3)

    class Positional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.auto_model = model

        def forward(self, ids, mask):
            return self.auto_model(input_ids=ids, attention_mask=mask)[0]

    ids, mask = torch.tensor([[1, 5, 9, 2]]), torch.tensor([[1, 1, 1, 0]])
    axes = {name: {0: "batch", 1: "length"} for name in ("ids", "mask")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Positional().eval(), (ids, mask), tmp_path / "model.onnx",
            dynamo=False, opset_version=17, input_names=["ids", "mask"], dynamic_axes=axes,
        )  # fmt: skip
    Tokenizer(models.WordLevel({"a": 0}, "a")).save(str(tmp_path / "tokenizer.json"))
    folder = convert(tmp_path / "model.onnx", tmp_path / "out", heads=2, say=lambda line: None)
    tensors = load_file(folder / "model.safetensors")
    published = {name: value.numpy() for name, value in model.state_dict().items()}
    unused = {"pooler.dense.weight", "pooler.dense.bias"} if kind == "BertModel" else set()
    assert set(published) - set(tensors) <= unused | {"embeddings.position_ids"}
    for name, value in tensors.items():
        np.testing.assert_array_equal(value, published[name])
    again = getattr(transformers, kind).from_pretrained(folder).eval()
    with torch.no_grad():
        expected, actual = (m(input_ids=ids, attention_mask=mask)[0] for m in (model, again))
    torch.testing.assert_close(actual, expected)
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "float32"
