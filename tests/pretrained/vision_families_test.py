"""Published image encoders and pairs against transformers' own classes, with random weights."""

import copy
import dataclasses
import json

import jax
import numpy as np
import pytest

import gemb
from gemb.checks import UserError
from gemb.models.functional import functional
from gemb.models.model import LogitScale, Model, learned_scale
from gemb.models.spec import ModelSpec
from gemb.pretrained import adapt, saving
from gemb.pretrained.vision.folder import pair_tensors, published_tensors
from gemb.pretrained.vision.preprocessing import read_processor
from gemb.structs import Image, Images
from gemb.tokenizers import byte_tokenizer_json

pytestmark = [pytest.mark.extra("images"), pytest.mark.peers("transformers", "torch")]
SMALL = {
    "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
}  # fmt: skip
# transformers takes an end with the number 2 for that of a broken config
END = 299
TEXT = {"vocab_size": 300, "bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}
ALONE = ("vit", "dinov2", "dinov2_with_registers", "dinov3", "dinov3_gated")
TEXTS = ["a dog", "zwei Katzen im Garten", "x"]


def pixels(size=16, rows=3):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (rows, size, size, 3)).astype(np.uint8)


def tokenizer() -> str:
    """One token a byte; the last has the number END."""
    made = byte_tokenizer_json().replace('"[SEP]":2', f'"[SEP]":{END}').replace("[2]", f"[{END}]")
    return made.replace('"id":2,', f'"id":{END},')


def made(kind):
    """A tiny model of transformers with all weights drawn at random."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    vision = SMALL | {"image_size": 16, "patch_size": 8}
    if kind == "clip":
        own = {"text_config": SMALL | TEXT, "vision_config": vision, "projection_dim": 12}
        model = t.CLIPModel(t.CLIPConfig(**own))
    elif kind == "siglip":
        own = {"text_config": SMALL | TEXT | {"max_position_embeddings": 40}}
        model = t.SiglipModel(t.SiglipConfig(**own, vision_config=vision))
    elif kind == "siglip2":
        own = {"text_config": SMALL | TEXT | {"max_position_embeddings": 40}}
        sizes = SMALL | {"patch_size": 8, "num_patches": 9}
        model = t.Siglip2Model(t.Siglip2Config(**own, vision_config=sizes))
    elif kind == "vit":
        model = t.ViTModel(t.ViTConfig(**vision, qkv_bias=False))
    elif kind == "dinov2":
        sizes = {k: v for k, v in vision.items() if k != "intermediate_size"}
        model = t.Dinov2Model(t.Dinov2Config(**sizes, mlp_ratio=2))
    elif kind.startswith("dinov3"):  # heads of 8, as rotary positions want a multiple of 4
        more = {"num_register_tokens": 2, "use_gated_mlp": kind.endswith("gated")}
        model = t.DINOv3ViTModel(t.DINOv3ViTConfig(**vision, **more))
    else:
        sizes = {k: v for k, v in vision.items() if k != "intermediate_size"}
        config = t.Dinov2WithRegistersConfig(**sizes, mlp_ratio=2, num_register_tokens=2)
        model = t.Dinov2WithRegistersModel(config)
    for weight in model.parameters():
        weight.data = torch.randn_like(weight) * 0.2
    return model.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """{kind: (folder, transformers' model)}"""
    places = {}
    for kind in ("clip", "siglip", "siglip2", *ALONE):
        folder, model = tmp_path_factory.mktemp(kind), made(kind)
        model.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(tokenizer(), encoding="utf-8")
        crop = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
        name = "CLIPImageProcessor" if kind == "clip" else "SiglipImageProcessor"
        config = crop if kind == "clip" else {"size": {"height": 16, "width": 16}}
        if kind == "siglip2":
            name, config = "Siglip2ImageProcessor", {"patch_size": 8, "max_num_patches": 12}
        config |= {"image_processor_type": name, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        (folder / "preprocessor_config.json").write_text(json.dumps(config))
        places[kind] = (folder, model)
    return places


def pictures_of_any_size():
    """Four pictures, and what transformers' own processor makes of them."""
    import PIL.Image
    import transformers

    random = np.random.default_rng(1)
    sizes = ((40, 30), (8, 90), (64, 64), (5, 7))
    given = [random.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    reader = transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=12)
    return given, reader([PIL.Image.fromarray(one) for one in given], return_tensors="pt")


def theirs(model, picture):
    """[rows, dim]: the vectors of pictures by transformers."""
    import torch

    values = torch.tensor((picture / 255 - 0.5) / 0.5, dtype=torch.float32).permute(0, 3, 1, 2)
    with torch.no_grad():
        if hasattr(model, "get_image_features"):
            found = model.get_image_features(pixel_values=values)
            vectors = getattr(found, "pooler_output", found)
        else:
            vectors = model(pixel_values=values).last_hidden_state[:, 0]
    return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()


def their_texts(model, ids, mask):
    import torch

    with torch.no_grad():
        given = {} if mask is None else {"attention_mask": torch.tensor(mask.astype(np.int64))}
        found = model.get_text_features(input_ids=torch.tensor(ids.astype(np.int64)), **given)
        vectors = getattr(found, "pooler_output", found)
    return (vectors / vectors.norm(dim=1, keepdim=True)).numpy()


@pytest.mark.long
@pytest.mark.parametrize("kind", ["clip", "siglip", *ALONE])
def test_vectors_of_pictures_are_those_of_transformers(folders, kind):
    folder, model = folders[kind]
    embedder, picture = gemb.load(str(folder)), pixels()
    vectors = embedder.encode([Image(one) for one in picture])
    np.testing.assert_allclose(vectors, theirs(model, picture), atol=1e-5)


def test_pictures_of_any_size_are_those_of_transformers(folders, tmp_path):
    import torch
    import transformers

    folder, model = folders["siglip2"]
    given, read = pictures_of_any_size()
    with torch.no_grad():
        found = model.get_image_features(**read)
        expected = getattr(found, "pooler_output", found)
    expected = (expected / expected.norm(dim=1, keepdim=True)).numpy()
    embedder = gemb.load(str(folder))
    examples = embedder.model.document.processor.prepare([Image(one) for one in given])
    tokens = embedder.model.document.processor.collate(examples, 12)
    np.testing.assert_array_equal(tokens.mask, read["pixel_attention_mask"].numpy())
    values = read["pixel_values"].numpy() * tokens.mask[..., None]
    np.testing.assert_array_equal(tokens.values, values)
    np.testing.assert_allclose(embedder.encode([Image(one) for one in given]), expected, atol=1e-5)
    saving.save(embedder.model, tmp_path / "again")
    again = transformers.Siglip2Model.from_pretrained(tmp_path / "again")
    tensors = model.state_dict()
    for name, value in again.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), tensors[name].numpy(), err_msg=name)
    assert gemb.load(str(tmp_path / "again")).fingerprint == embedder.fingerprint


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_vectors_of_texts_are_those_of_transformers(folders, kind):
    folder, model = folders[kind]
    embedder = gemb.load(str(folder))
    processor = embedder.model.query.processor
    examples = processor.prepare(TEXTS, "query")
    tokens = processor.collate(examples, max(example.size for example in examples))
    if kind == "siglip":
        assert tokens.ids.shape == (3, 40)
        assert tokens.mask.all()
    expected = their_texts(model, tokens.ids, None if kind == "siglip" else tokens.mask)
    np.testing.assert_allclose(embedder.encode(TEXTS, kind="query"), expected, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["vit", "dinov2_with_registers", "dinov3", "dinov3_gated"])
def test_vectors_of_patches_are_those_of_transformers(folders, kind):
    import torch

    folder, model = folders[kind]
    tower = adapt.load(str(folder)).document
    values = ((pixels() / 255 - 0.5) / 0.5).astype(np.float32)
    hidden = functional(ModelSpec.of(tower.spec)).document.hidden
    found = hidden(tower.params, Images(values, np.ones(3, bool)))
    with torch.no_grad():
        expected = model(pixel_values=torch.tensor(values).permute(0, 3, 1, 2)).last_hidden_state
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


@pytest.mark.long
def test_texts_and_pictures_of_one_call_go_to_their_towers(folders):
    embedder = gemb.load(str(folders["clip"][0]))
    picture = [Image(one) for one in pixels()]
    mixed = embedder.encode([picture[0], "a dog", picture[1], "x"])
    np.testing.assert_array_equal(mixed[[0, 2]], embedder.encode(picture[:2], kind="document"))
    np.testing.assert_array_equal(mixed[[1, 3]], embedder.encode(["a dog", "x"], kind="query"))
    assert embedder.encode(picture[0]).shape == embedder.encode("a dog").shape == (12,)
    with pytest.raises(UserError, match=r"values\[1\]: the model reads image and text, not int"):
        embedder.encode([picture[0], 7])
    with pytest.raises(UserError, match=r"values\[2\]: an empty file"):
        embedder.encode(["a dog", picture[0], Image(b"")])


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_saved_pair_is_read_by_transformers_and_by_gemb(folders, kind, tmp_path):
    import transformers as t

    folder, _ = folders[kind]
    model = adapt.load(str(folder))
    saving.save(model, tmp_path / "again")
    again = adapt.load(str(tmp_path / "again"))
    assert gemb.Embedder(again).fingerprint == gemb.Embedder(model).fingerprint
    read = {"clip": t.CLIPModel, "siglip": t.SiglipModel}[kind]
    read = read.from_pretrained(tmp_path / "again").eval()
    vectors = gemb.Embedder(again).encode([Image(one) for one in pixels()])
    np.testing.assert_allclose(vectors, theirs(read, pixels()), atol=1e-5)
    tensors = folders[kind][1].state_dict()
    for name, value in read.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), tensors[name].numpy(), err_msg=name)


@pytest.mark.parametrize("kind", ["vit", "dinov2_with_registers"])
def test_a_saved_image_encoder_is_read_by_gemb(folders, kind, tmp_path):
    model = adapt.load(str(folders[kind][0]), projection=(8,), normalize=True)
    saving.save(model, tmp_path / "again")
    again = adapt.load(str(tmp_path / "again"))
    assert again.spec == model.spec
    assert gemb.Embedder(again).fingerprint == gemb.Embedder(model).fingerprint


@pytest.mark.parametrize("kind", ALONE)
def test_a_saved_image_encoder_is_read_by_transformers(folders, kind, tmp_path):
    import transformers as t

    model = adapt.load(str(folders[kind][0]))
    saving.save(model, tmp_path / "again")
    again = adapt.load(str(tmp_path / "again"))
    assert again.spec == model.spec
    assert gemb.Embedder(again).fingerprint == gemb.Embedder(model).fingerprint
    read = t.AutoModel.from_pretrained(tmp_path / "again").eval()
    assert type(read) is type(folders[kind][1])
    tensors = folders[kind][1].state_dict()
    for name, value in read.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), tensors[name].numpy(), err_msg=name)


def test_learned_numbers_of_logits_are_read_and_written(folders, tmp_path):
    import transformers as t

    folder, theirs = folders["siglip"]
    model = adapt.load(str(folder))
    scale = model.logit_scale
    assert (scale.log, scale.bias) == (theirs.logit_scale.item(), theirs.logit_bias.item())
    assert learned_scale(model).bias == scale.bias
    changed = dataclasses.replace(model, logit_scale=LogitScale(1.5, -3.25))
    saving.save(changed, tmp_path / "again")
    read = t.SiglipModel.from_pretrained(tmp_path / "again")
    assert (read.logit_scale.item(), read.logit_bias.item()) == (1.5, -3.25)
    assert adapt.load(str(tmp_path / "again")).logit_scale == changed.logit_scale
    clip = adapt.load(str(folders["clip"][0]))
    assert clip.logit_scale.log == folders["clip"][1].logit_scale.item()


def probe(rows, dim):
    """What the scalar of a gradient test weighs vectors with."""
    return np.random.default_rng(3).normal(size=(rows, dim)).astype(np.float32)


def check_gradients(found, model, folder):
    """Ours by the names of tensors, against torch's, which transformers itself names in a file."""
    import torch
    from safetensors.numpy import load_file

    held = copy.deepcopy(model)
    for one, source in zip(held.parameters(), model.parameters(), strict=True):
        one.data = torch.zeros_like(source) if source.grad is None else source.grad.clone()
    held.save_pretrained(folder)
    theirs = load_file(folder / "model.safetensors")
    largest = max(np.abs(value).max() for value in theirs.values())
    used = {name for name, value in theirs.items() if np.abs(value).max() > 0}
    assert used <= set(found)
    assert len(used) > 20
    for name in used:
        size = np.abs(theirs[name]).max()
        # keys' biases have a gradient of 0, and what is left of it is rounding
        atol = 1e-4 * size + 1e-7 * largest
        np.testing.assert_allclose(found[name], theirs[name], atol=atol, err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_gradients_of_a_pair_are_those_of_torch(folders, kind, tmp_path):
    import torch

    folder, model = folders[kind]
    ours = adapt.load(str(folder))
    examples = ours.query.processor.prepare(TEXTS, "query")
    tokens = ours.query.processor.collate(examples, max(one.size for one in examples))
    values = ((pixels() / 255 - 0.5) / 0.5).astype(np.float32)
    functions, weights = functional(ours.spec), probe(3, ours.spec.dim)

    def total(params):
        pictures = functions.document.embed(params, Images(values, np.ones(3, bool)))
        return ((functions.query.embed(params, tokens) + pictures) * weights).sum()

    gradients = jax.device_get(jax.jit(jax.grad(total))(ours.params))
    mask = None if kind == "siglip" else torch.tensor(tokens.mask.astype(np.int64))
    given = {"input_ids": torch.tensor(tokens.ids.astype(np.int64)), "attention_mask": mask}
    outputs = (
        model.get_text_features(**given),
        model.get_image_features(pixel_values=torch.tensor(values).permute(0, 3, 1, 2)),
    )
    vectors = [getattr(one, "pooler_output", one) for one in outputs]
    model.zero_grad()
    sum(torch.nn.functional.normalize(one) for one in vectors).mul(
        torch.tensor(weights)
    ).sum().backward()
    check_gradients(pair_tensors(ours.with_params(gradients))[1], model, tmp_path)


@pytest.mark.long
def test_gradients_of_pictures_of_any_size_are_those_of_torch(folders, tmp_path):
    import torch

    folder, model = folders["siglip2"]
    given, read = pictures_of_any_size()
    ours = adapt.load(str(folder))
    processor = ours.document.processor
    inputs = processor.collate(processor.prepare([Image(one) for one in given]), 12)
    apply, weights = functional(ours.spec).document.embed, probe(4, ours.spec.dim)
    gradients = jax.device_get(
        jax.jit(jax.grad(lambda params: (apply(params, inputs) * weights).sum()))(ours.params)
    )
    found = model.get_image_features(**read)
    found = torch.nn.functional.normalize(getattr(found, "pooler_output", found))
    model.zero_grad()
    (found * torch.tensor(weights)).sum().backward()
    check_gradients(pair_tensors(ours.with_params(gradients))[1], model, tmp_path)


@pytest.mark.parametrize("kind", ["vit", "dinov2_with_registers", "dinov3_gated"])
def test_gradients_of_an_image_encoder_are_those_of_torch(folders, kind, tmp_path):
    import torch

    folder, model = folders[kind]
    tower = adapt.load(str(folder)).document
    values = ((pixels() / 255 - 0.5) / 0.5).astype(np.float32)
    apply, weights = functional(ModelSpec.of(tower.spec)).document.embed, probe(3, tower.spec.dim)

    def total(params):
        return (apply(params, Images(values, np.ones(3, bool))) * weights).sum()

    gradients = jax.device_get(jax.jit(jax.grad(total))(tower.params))
    found = model(pixel_values=torch.tensor(values).permute(0, 3, 1, 2)).last_hidden_state[:, 0]
    model.zero_grad()
    (torch.nn.functional.normalize(found) * torch.tensor(weights)).sum().backward()
    tower = dataclasses.replace(tower, params=gradients)
    check_gradients(published_tensors(tower), model, tmp_path)


def test_two_towers_of_different_origin_are_saved_in_two_folders(folders, tmp_path):
    pair = adapt.load(str(folders["clip"][0]))
    vit = adapt.load(str(folders["vit"][0]), projection=(12,))
    model = Model(pair.query, vit.document)
    saving.save(model, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").iterdir()} >= {"query", "document"}
    again = gemb.load(str(tmp_path / "again"))
    assert again.fingerprint == gemb.Embedder(model).fingerprint
    vectors = gemb.Embedder(model).encode(["a dog", Image(pixels()[0])])
    np.testing.assert_allclose(again.encode(["a dog", Image(pixels()[0])]), vectors, atol=1e-6)


def test_texts_that_read_their_padding_have_one_length(folders, tmp_path):
    folder = str(folders["siglip"][0])
    with pytest.raises(UserError, match="max_length"):
        adapt.load(folder, max_length=12)
    pair, vit = adapt.load(folder), adapt.load(str(folders["vit"][0]))
    with pytest.raises(UserError, match="reads its padding"):
        saving.save(Model(pair.query, vit.document), tmp_path / "again")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_pad": True}, "do_pad"), ({"resample": 9}, "resample"),
        ({"image_std": [1, 1, 0]}, "image_std"), ({"sharpen": True}, "sharpen"),
        ({"image_processor_type": "FlavaImageProcessor"}, "FlavaImageProcessor"),
        ({"size": {"shortest_edge": 16}}, "size"), ({"do_rescale": False}, "do_rescale"),
        ({"size": {"height": 0, "width": 8}}, "size"), ({"do_normalize": 0}, "do_normalize"),
    ],
)  # fmt: skip
def test_every_key_of_preprocessor_config_is_read_or_refused(tmp_path, change, message):
    config = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 8, "width": 8}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    assert read_processor(tmp_path).height == 8
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=message):
        read_processor(tmp_path)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("vit", {"qkv_bias": 3}, "qkv_bias"), ("dinov2", {"use_swiglu_ffn": True}, "use_swiglu"),
        ("vit", {"num_channels": 4}, "num_channels"), ("vit", {"patch_size": 7}, "patch"),
        ("vit", {"num_hidden_layers": 3}, "missing"), ("vit", {"hidden_size": 48}, "shape"),
    ],
)  # fmt: skip
def test_a_config_that_does_not_fit_is_one_line(folders, tmp_path, kind, change, message):
    import shutil

    folder = shutil.copytree(folders[kind][0], tmp_path / kind)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=message):
        adapt.load(str(folder))
