"""Exported ONNX files against gemb, for every family, pooler and shape."""

import numpy as np
import pytest
from exported_models import CONFIGS, of, projected

from gemb import Embedder
from gemb.checks import UserError
from gemb.export import onnx_file, onnx_graph, onnx_operators

pytestmark = pytest.mark.extra("export")
TEXTS = ["a", "hello world", "", "UPPER naïve 日本語 🙂", "word " * 30]


def check(model, folder, texts=TEXTS):
    """The file's vectors of all widths, in batches of two lengths, against gemb's."""
    tower, embedder = model.document, Embedder(model)
    run = onnx_file.OnnxEncoder(onnx_file.write(tower, folder))
    widths = list(dict.fromkeys((tower.spec.dim, *tower.spec.widths)))
    for rows in (texts, texts[1:3]):
        examples = tower.processor.prepare(rows, "document")
        size = max(1, *(example.size for example in examples))
        inputs = tower.processor.collate(examples, size)
        given = [value for value in inputs if value is not None]
        for width, vectors in zip(widths, run(*given), strict=True):
            expected = embedder.encode_document(rows, dim=width)
            assert vectors.shape == expected.shape == (len(rows), width)
            np.testing.assert_allclose(vectors, expected, atol=3e-6)
            assert np.abs(expected).max() > 0.01


@pytest.mark.long
@pytest.mark.parametrize("kind", [*CONFIGS, "static"])
def test_every_family(tmp_path, kind):
    check(of(kind), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize(
    "pooling", ["cls", "lasttoken", "max", "weightedmean", "attention", "latent_attention"]
)
def test_every_pooler(tmp_path, pooling):
    check(of("bert", pooling=pooling), tmp_path)


def test_projection_and_nested_widths(tmp_path):
    check(projected(), tmp_path)


@pytest.mark.long
def test_vectors_that_are_not_normalised_stay_so(tmp_path):
    model = projected(normalize=False)
    check(model, tmp_path)
    lengths = np.linalg.norm(Embedder(model).encode(TEXTS), axis=1)
    assert np.abs(lengths - 1).max() > 0.01


def test_prompts_that_the_pooler_does_not_see(tmp_path):
    model = of("bert")
    processor = model.document.processor
    prompts = processor.prompts._replace(document="text: ", pooled=False)
    import dataclasses

    processor = dataclasses.replace(processor, prompts=prompts)
    hidden = type(model).of(dataclasses.replace(model.document, processor=processor))
    check(hidden, tmp_path)


def test_what_has_no_operator_is_refused_by_name():
    import jax
    import jax.numpy as jnp

    traced = jax.make_jaxpr(jnp.arctan)(jnp.ones(2))
    graph = onnx_graph.OnnxGraph()
    with pytest.raises(UserError, match="'atan'"):
        onnx_operators.rewrite(graph, traced.jaxpr, [], [graph.constant(np.ones(2, np.float32))])


def test_int8_keeps_the_order_of_neighbours(tmp_path):
    import onnx

    model = of("bert")
    path = onnx_file.write_int8(model.document, tmp_path)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert "MatMulInteger" in kinds
    inputs = model.document.processor.prepare(TEXTS, "document")
    inputs = model.document.processor.collate(inputs, 32)
    (vectors,) = onnx_file.OnnxEncoder(path)(inputs.ids, inputs.mask)
    cosines = (vectors * Embedder(model).encode(TEXTS)).sum(1)
    assert 0.98 < cosines.min() < 1 - 1e-7
