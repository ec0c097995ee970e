"""Texts and pictures through one transformer."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_models import tiny

import gemb
from gemb.checks import UserError
from gemb.inference.embedder import Embedder
from gemb.models.encoders.text import TextSpec
from gemb.models.encoders.vision import VisionSpec
from gemb.models.encoders.vision_language import VisionLanguageSpec, adaptive_pool
from gemb.models.functional import functional, initial_params
from gemb.models.model import Model, Tower
from gemb.models.spec import ModelSpec, Rotary, StackSpec, TowerSpec
from gemb.pretrained import adapt, saving
from gemb.pretrained.vision.language import vision_language
from gemb.processors.image import ImageProcessor
from gemb.structs import Image, Tokens, Visual

pytestmark = pytest.mark.extra("images")
VISION = VisionSpec((16, 16), 8, StackSpec(1, 16, 2, 32, norm_place="pre", final_norm=True))
BERT = StackSpec(2, 16, 2, 32)
TEXTS = {
    "bert": TextSpec(40, 16, BERT),
    "roberta": TextSpec(40, 16, BERT, types=1, position_offset=2),
    "gpt2": TextSpec(
        40, 16, dataclasses.replace(BERT, causal=True, norm_place="pre"), types=0,
        embedding_norm=False,
    ),
    "llama": TextSpec(
        40, 0, dataclasses.replace(BERT, causal=True, norm_place="pre", rotary=(Rotary(),) * 2),
        types=0, length_limit=64, embedding_norm=False, embedding_scale=4.0,
    ),
}  # fmt: skip


@functools.cache
def pictures():
    tower = Tower(TowerSpec(VISION), None, ImageProcessor(16, 16))
    params = jax.jit(lambda key: initial_params(ModelSpec.of(tower.spec), key))(jax.random.key(1))
    return Model.of(dataclasses.replace(tower, params=jax.device_get(params)))


@functools.cache
def model(pool="attention"):
    return vision_language(tiny(0), pictures(), tokens=3, pool=pool)


def values(count=3):
    random = np.random.default_rng(0)
    return [Image(random.integers(0, 256, (20, 16, 3)).astype(np.uint8)) for _ in range(count)]


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=[pytest.mark.slow] * (k in ("bert", "gpt2"))) for k in TEXTS]
)
def test_vectors_in_the_place_of_words_go_the_way_of_words(kind):
    """With the table's own vectors as the parts of a picture, a picture is that text."""
    text = TEXTS[kind]
    ids = np.array([[5, 9, 4, 8, 6], [5, 3, 3, 7, 6]], np.int32)
    image = dataclasses.replace(VISION, stack=BERT)
    spec = TowerSpec(VisionLanguageSpec(text, image, 3, "adaptive", (5,), (6,)))
    functions = functional(ModelSpec.of(spec))
    params = jax.jit(lambda key: initial_params(ModelSpec.of(spec), key))(jax.random.key(0))
    words = params["vision_language/text/token/table"][ids[:, 1:4]] * text.embedding_scale
    hidden = jax.jit(functions.document.hidden)
    found = hidden(params, Visual(words, np.ones((2, 3), bool)))
    expected = hidden(params, Tokens(ids, np.ones((2, 5), bool)))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.long
@pytest.mark.peers("torch")
def test_the_pool_without_parameters_is_that_of_torch():
    import torch

    given = np.random.default_rng(0).normal(size=(2, 7, 10)).astype(np.float32)
    for tokens, width in ((3, 4), (7, 10), (5, 16), (9, 3)):
        expected = torch.nn.AdaptiveAvgPool2d((tokens, width))(torch.tensor(given))
        found = adaptive_pool(jnp.asarray(given), jnp.ones((2, 7), bool), tokens, width)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.long
def test_parts_that_do_not_count_change_nothing():
    for pool in ("attention", "adaptive"):
        made = model(pool)
        run = jax.jit(functional(made.spec).document.embed)
        given = np.random.default_rng(1).normal(size=(2, 4, 16)).astype(np.float32)
        mask = np.array([[True, True, False, True]] * 2)
        changed = np.where(mask[..., None], given, 7.0).astype(np.float32)
        params = made.params
        found = [run(params, Visual(one, mask)) for one in (given, changed)]
        np.testing.assert_array_equal(*found)
        assert np.isfinite(run(params, Visual(given, np.zeros((2, 4), bool)))).all()


@pytest.mark.long
def test_texts_keep_their_vectors_and_both_stand_in_one_list():
    texts, images = ["a dog", "a cat in a long garden", ""], values()
    embedder = Embedder(model())
    alone = Embedder(tiny(0)).encode(texts)
    np.testing.assert_array_equal(embedder.encode(texts), alone)
    mixed = embedder.encode([images[0], texts[0], images[1], texts[1], texts[2]])
    np.testing.assert_array_equal(mixed[[1, 3, 4]], alone)
    np.testing.assert_allclose(mixed[[0, 2]], embedder.encode(images[:2]), atol=1e-6)
    assert np.abs(mixed[0] - mixed[2]).max() > 1e-4
    with pytest.raises(UserError, match=r"values\[1\]: the model reads texts and gemb.Image"):
        embedder.encode(["a", 3])
    with pytest.raises(UserError, match=r"values\[2\]: an empty file"):
        embedder.encode(["a", images[0], Image(b"")])


@pytest.mark.parametrize("pool", ["attention", pytest.param("adaptive", marks=pytest.mark.slow)])
def test_a_saved_model_is_the_same(pool, tmp_path):
    embedder = Embedder(model(pool))
    assert embedder.save(tmp_path / "model") == embedder.fingerprint
    again = gemb.load(str(tmp_path / "model"))
    assert again.fingerprint == embedder.fingerprint
    assert again.spec == embedder.spec
    np.testing.assert_array_equal(again.encode(values()), embedder.encode(values()))
    text = gemb.load(str(tmp_path / "model" / "text"))
    assert text.fingerprint == Embedder(tiny(0)).fingerprint


@pytest.mark.long
def test_every_part_is_in_the_fingerprint():
    seen = {Embedder(model("attention")).fingerprint, Embedder(model("adaptive")).fingerprint}
    params = model().params
    for path in (
        "vision_language/pool/query", "vision_language/image/first",
        "vision_language/text/token/table",
    ):  # fmt: skip
        seen.add(Embedder(model().with_params(params | {path: params[path] + 1})).fingerprint)
    seen.add(Embedder(vision_language(tiny(0), pictures(), tokens=4)).fingerprint)
    assert len(seen) == 6


def test_what_does_not_fit_is_one_line(tmp_path):
    with pytest.raises(UserError, match="positions"):
        vision_language(tiny(0), pictures(), tokens=64)
    with pytest.raises(UserError, match="pictures"):
        vision_language(tiny(0), tiny(0))
    with pytest.raises(UserError, match="text: expected a model whose queries are texts"):
        vision_language(pictures(), pictures())
    saving.save(model(), tmp_path / "model")
    for change in ({"layers": [0]}, {"attention": "causal"}, {"lora": (2, 4.0)}):
        with pytest.raises(UserError, match=next(iter(change))):
            adapt.load(str(tmp_path / "model"), **change)
    config = tmp_path / "model" / "config.json"
    config.write_text(config.read_text().replace("attention", "adaptive"))
    with pytest.raises(UserError, match="left over"):
        adapt.load(str(tmp_path / "model"))


@pytest.mark.peers("sentence_transformers")
def test_the_text_part_of_a_saved_model_is_read_by_sentence_transformers(tmp_path):
    import sentence_transformers

    embedder, texts = Embedder(model()), ["a dog", "a cat in a long garden"]
    embedder.save(tmp_path / "model")
    theirs = sentence_transformers.SentenceTransformer(str(tmp_path / "model" / "text"))
    np.testing.assert_allclose(theirs.encode(texts), embedder.encode(texts), atol=1e-5)
