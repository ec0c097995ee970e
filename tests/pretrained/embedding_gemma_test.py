"""EmbeddingGemma 2, texts and pictures, against transformers' own classes with random weights."""

import copy
import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import gemb
from gemb.checks import UserError
from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.pretrained import adapt, saving
from gemb.pretrained.families import gemma4
from gemb.pretrained.vision import gemma
from gemb.processors.patches import CellProcessor
from gemb.structs import Image, Tokens, Video
from gemb.tokenizers import byte_tokenizer_json

pytestmark = [pytest.mark.extra("images"), pytest.mark.peers("transformers", "torch")]
TEXT = {
    "vocab_size": 300, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 3,
    "sliding_window_pattern": 2, "global_head_dim": 12, "num_global_key_value_heads": 1,
    "hidden_size_per_layer_input": 10, "embedding_dim": 16, "max_position_embeddings": 512,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
VISION = {
    "model_type": "gemma4_vision", "hidden_size": 24, "intermediate_size": 40,
    "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 8,
    "patch_size": 4, "position_embedding_size": 256,
}  # fmt: skip
AUDIO = {
    "model_type": "gemma4_audio", "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "subsampling_conv_channels": [8, 4], "output_proj_dims": 12,
}  # fmt: skip
BOI, EOI, IMAGE = 280, 281, 282
IDS = {"boi_token_id": BOI, "eoi_token_id": EOI, "image_token_id": IMAGE}
TEXTS = ["a dog", "zwei Katzen im Garten, und noch einiges mehr", "x"]
SIZES = ((40, 30), (8, 90), (84, 120), (5, 7), (300, 3))  # height, width


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder, transformers' model) with all weights drawn at random."""
    import torch
    import transformers as t

    torch.manual_seed(0)
    config = t.EmbeddingGemma2Config(
        text_config=TEXT, vision_config=VISION, audio_config=AUDIO, **IDS
    )
    model = t.EmbeddingGemma2Model(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.randn_like(weight) * 0.3 + ("norm" in name))
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):
                buffer.copy_(torch.rand(1) + 0.5)
    folder = tmp_path_factory.mktemp("gemma")
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(byte_tokenizer_json(), encoding="utf-8")
    reader = json.loads(their_processor().to_json_string())
    (folder / "preprocessor_config.json").write_text(json.dumps(reader))
    return folder, model


def their_processor(**options):
    """The half of transformers' Gemma4ImageProcessor that needs no torchvision."""
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil

    return Gemma4ImageProcessorPil(**{"patch_size": 4, "max_soft_tokens": 70} | options)


def pictures():
    random = np.random.default_rng(1)
    return [random.integers(0, 256, (*size, 3)).astype(np.uint8) for size in SIZES]


def theirs(model, picture):
    """The [tokens, dim] vectors of a picture by transformers, each token's."""
    import PIL.Image
    import torch

    read = their_processor()([PIL.Image.fromarray(picture)], return_tensors="pt")
    count = int(read["num_soft_tokens_per_image"][0])
    ids = torch.tensor([[1, BOI, *[IMAGE] * count, EOI, 2]])
    return model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=read["pixel_values"],
        image_position_ids=read["image_position_ids"],
    ).last_hidden_state[0]


def unit(rows):
    """Means of tokens as vectors of length 1."""
    import torch

    return torch.nn.functional.normalize(torch.stack([one.mean(0) for one in rows]))


def inputs_of(tower, values):
    processor = tower.processor
    examples = processor.prepare(values, "document")
    return processor.collate(examples, max(example.size for example in examples))


@pytest.mark.parametrize("tokens", [70, 280])
def test_pixels_and_places_are_those_of_transformers(tokens):
    import PIL.Image

    random = np.random.default_rng(2)
    sizes = [*SIZES, *random.integers(1, 400, (25, 2)).tolist(), (1, 4000), (2000, 1)]
    ours = CellProcessor(patch=4, most=tokens * 9)
    reader = their_processor(max_soft_tokens=tokens)
    for size in sizes:
        picture = random.integers(0, 256, (*size, 3)).astype(np.uint8)
        read = reader([PIL.Image.fromarray(picture)], return_tensors="np")
        found = ours.collate(ours.prepare([Image(picture)]), ours.most)
        count = int(read["num_soft_tokens_per_image"][0]) * 9
        assert found.mask.sum() == count, size
        places = list(zip(found.column[0, :count], found.row[0, :count], strict=True))
        wanted = {tuple(place): n for n, place in enumerate(read["image_position_ids"][0, :count])}
        order = [wanted[place] for place in places]
        assert sorted(order) == list(range(count))
        values = 2 * (read["pixel_values"][0][order] - 0.5)
        np.testing.assert_allclose(found.values[0, :count], values, atol=3e-7)
        cells = np.array(places).reshape(-1, 9, 2) // 3
        assert (cells == cells[:, :1]).all()  # the patches of a cell stand next to each other


def test_buckets_are_whole_cells():
    processor = CellProcessor(patch=4, most=630)
    sizes = [processor.bucket(size) for size in range(1, 631)]
    assert all(made >= size and made % 9 == 0 for size, made in enumerate(sizes, 1))
    assert sizes[-1] == 630


def test_texts_are_those_of_transformers(made):
    import torch

    folder, model = made
    embedder = gemb.load(str(folder))
    tower = embedder.model.document
    tokens = inputs_of(tower, TEXTS)
    for layers in ("unroll", "scan"):
        hidden = functional(embedder.spec).document.hidden(
            tower.params, tokens, Execution(layers=layers)
        )
        with torch.no_grad():
            expected = model(
                input_ids=torch.tensor(tokens.ids.astype(np.int64)),
                attention_mask=torch.tensor(tokens.mask.astype(np.int64)),
            ).last_hidden_state
        np.testing.assert_allclose(hidden[tokens.mask], expected[tokens.mask], atol=1e-4)
    rows = [row[mask] for row, mask in zip(expected, tokens.mask, strict=True)]
    np.testing.assert_allclose(embedder.encode(TEXTS), unit(rows), atol=1e-5)


def test_pictures_are_those_of_transformers(made):
    import torch

    folder, model = made
    embedder = gemb.load(str(folder))
    given = pictures()
    with torch.no_grad():
        expected = [theirs(model, picture) for picture in given]
    values = [Image(picture) for picture in given]
    np.testing.assert_allclose(embedder.encode(values), unit(expected), atol=1e-5)
    tower = embedder.model.document
    inputs = inputs_of(tower, values)
    hidden = functional(embedder.spec).document.hidden(tower.params, inputs)
    assert len({len(one) for one in expected}) > 2  # rows have padding of different sizes
    for row, one in zip(hidden, expected, strict=True):
        np.testing.assert_allclose(row[: len(one)], one, atol=1e-4)
    mixed = embedder.encode([values[0], "x", values[4]])
    np.testing.assert_allclose(mixed[[0, 2]], embedder.encode(values)[[0, 4]], atol=1e-6)
    np.testing.assert_allclose(mixed[1], embedder.encode("x"), atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "max", "lasttoken", "weightedmean"])
def test_other_poolings_see_the_tokens_of_a_picture(made, pooling):
    import torch

    given = pictures()[:2]
    with torch.no_grad():
        tokens = [theirs(made[1], picture).numpy() for picture in given]
    weights = [np.arange(1, len(one) + 1)[:, None] for one in tokens]
    pooled = {
        "cls": [one[0] for one in tokens],
        "max": [one.max(0) for one in tokens],
        "lasttoken": [one[-1] for one in tokens],
        "weightedmean": [
            (w * one).sum(0) / w.sum() for w, one in zip(weights, tokens, strict=True)
        ],
    }[pooling]
    expected = [one / np.linalg.norm(one) for one in pooled]
    embedder = gemb.Embedder(adapt.load(str(made[0]), pooling=pooling))
    found = embedder.encode([Image(picture) for picture in given])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.long
def test_gradients_are_those_of_torch(made, tmp_path):
    import torch
    from safetensors.numpy import load_file

    folder, model = made
    ours = adapt.load(str(folder))
    tower, given = ours.document, pictures()[:3]
    tokens, seen = inputs_of(tower, TEXTS), inputs_of(tower, [Image(one) for one in given])
    weights = np.random.default_rng(3).normal(size=(3, 16)).astype(np.float32)
    embed = functional(ours.spec).document.embed

    def total(params):
        return ((embed(params, tokens) + embed(params, seen)) * weights).sum()

    found = jax.device_get(jax.jit(jax.grad(total))(ours.params))
    texts = model(
        input_ids=torch.tensor(tokens.ids.astype(np.int64)),
        attention_mask=torch.tensor(tokens.mask.astype(np.int64)),
    ).last_hidden_state
    texts = [row[mask] for row, mask in zip(texts, tokens.mask, strict=True)]
    model.zero_grad()
    both = unit(texts) + unit([theirs(model, picture) for picture in given])
    both.mul(torch.tensor(weights)).sum().backward()
    held = copy.deepcopy(model)
    for one, source in zip(held.parameters(), model.parameters(), strict=True):
        one.data = torch.zeros_like(source) if source.grad is None else source.grad.clone()
    held.save_pretrained(tmp_path)
    expected = load_file(tmp_path / "model.safetensors")
    named = gemma.tensors_of(dataclasses.replace(tower, params=found), "float32")
    trained = {
        name
        for name in expected
        if "audio" not in name and not name.endswith("layer_scalar") and expected[name].any()
    }
    assert len(trained) > 70
    for name in trained:
        size = np.abs(expected[name]).max()
        np.testing.assert_allclose(named[name], expected[name], atol=2e-4 * size, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_saved_folder_is_read_by_transformers_and_by_gemb(made, dtype, tmp_path):
    import torch
    import transformers as t

    folder, model = made
    ours = adapt.load(str(folder), prompts={"query": "find: "})
    identity = saving.save(ours, tmp_path / "again", dtype=dtype)
    again = gemb.load(str(tmp_path / "again"))
    assert again.fingerprint == identity
    assert again.model.spec == ours.spec
    assert again.model.document.processor.prompt("query") == "find: "
    read = t.EmbeddingGemma2Model.from_pretrained(tmp_path / "again", dtype="auto").eval()
    assert read.dtype == getattr(torch, dtype)
    tensors = model.state_dict()
    for name, value in read.state_dict().items():
        wanted = tensors[name].to(value.dtype)
        np.testing.assert_array_equal(value.float(), wanted.float(), err_msg=name)
    if dtype == "float32":
        values = ["a dog", Image(pictures()[0])]
        np.testing.assert_array_equal(again.encode(values), gemb.load(str(folder)).encode(values))
        with pytest.raises(UserError, match="float16"):
            saving.save(ours, tmp_path / "half", dtype="float16")


def test_a_changed_tower_is_saved_for_gemb(made, tmp_path):
    ours = adapt.load(str(made[0]), projection=(8,), max_length=64)
    tower = ours.document
    other = dataclasses.replace(tower.spec.encoder, before=(1,), after=(2,))
    spec = dataclasses.replace(tower.spec, encoder=other)
    for number, one in enumerate((ours, ours.with_tower(dataclasses.replace(tower, spec=spec)))):
        saving.save(one, tmp_path / str(number))
        again = gemb.load(str(tmp_path / str(number)))
        values = ["a dog", Image(pictures()[0])]
        vectors = gemb.Embedder(one).encode(values)
        np.testing.assert_array_equal(again.encode(values), vectors)
        assert again.dim == 8
        assert again.fingerprint == gemb.Embedder(one).fingerprint


def test_a_text_transformer_alone_keeps_its_vectors(made, tmp_path):
    folder, model = made
    whole = gemb.load(str(folder)).encode(TEXTS)
    model.language_model.save_pretrained(tmp_path / "text")
    shutil.copy(folder / "tokenizer.json", tmp_path / "text")
    shutil.copytree(folder, tmp_path / "without")
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "without/config.json").write_text(json.dumps(config | {"vision_config": None}))
    for name in ("text", "without"):
        alone = gemb.load(str(tmp_path / name))
        assert alone.spec.encoder.modality == "text"
        np.testing.assert_allclose(alone.encode(TEXTS), whole, atol=1e-6)
        saving.save(alone.model, tmp_path / f"{name}-again")
        again = gemb.load(str(tmp_path / f"{name}-again"))
        np.testing.assert_array_equal(again.encode(TEXTS), alone.encode(TEXTS))


def test_some_layers_make_a_student(made, tmp_path):
    made[1].language_model.save_pretrained(tmp_path / "text")
    shutil.copy(made[0] / "tokenizer.json", tmp_path / "text")
    student = adapt.load(str(tmp_path / "text"), layers=[0, 3])
    assert student.spec.encoder.stack.layer_heads == ((2, 8), (1, 12))
    saving.save(student, tmp_path / "student")
    assert gemb.load(str(tmp_path / "student")).fingerprint == gemb.Embedder(student).fingerprint
    with pytest.raises(UserError, match="the last layer must be full_attention"):
        adapt.load(str(tmp_path / "text"), layers=[1, 2])


def test_half_precision_that_overflows_is_refused(made):
    embedder = gemb.Embedder(adapt.load(str(made[0])), Execution(dtype="float16"))
    with pytest.raises(ValueError, match="choose bfloat16 or float32"):
        embedder.encode("a dog")
    close = gemb.Embedder(adapt.load(str(made[0])), Execution(dtype="bfloat16"))
    exact = gemb.load(str(made[0]))
    assert (close.encode(TEXTS) * exact.encode(TEXTS)).sum(1).min() > 0.98


def test_videos_are_refused(made):
    with pytest.raises(UserError, match=r"values\[0\]: the model reads texts and gemb.Image"):
        gemb.load(str(made[0])).encode([Video("a.mp4")])


REFUSED = [
    (("vision_config", "use_clipped_linears"), True, "use_clipped_linears"),
    (("vision_config", "standardize"), True, "standardize"),
    (("vision_config", "rope_parameters"), {"rope_type": "linear"}, "rope_type axial"),
    (("vision_config", "model_type"), "siglip_vision_model", "gemma4_vision"),
    (("vision_config", "patch_size"), 0, "patch_size"),
    (("vision_config", "num_hidden_layers"), 10**6, "1000000 layers"),
    (("vision_config", "position_embedding_size"), 16, "tensor"),
    (("vision_config", "pooling_kernel_size"), 2, "merge"),
    (("text_config", "model_type"), "gemma3_text", "embedding_gemma2_text"),
    (("text_config", "layer_types"), ["full_attention"] * 3 + ["sliding_attention"], "last layer"),
    (("text_config", "per_layer_config"), {"1": {"head_dim": 12}}, "different heads"),
    (("text_config", "per_layer_config"), {"1": {"mlp": 12}}, "only head_dim"),
    (("text_config", "rope_parameters"), {
        "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }, "rope_type 'linear'"),
    (("boi_token_id",), "<image>", "boi_token_id"),
    (("eoi_token_id",), 300, "after: expected ids below 300"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "message"), REFUSED)
def test_what_gemb_does_not_compute_is_refused(made, path, value, message, tmp_path):
    folder = tmp_path / "edited"
    shutil.copytree(made[0], folder)
    config = json.loads((folder / "config.json").read_text())
    where = config
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message) as error:
        adapt.load(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_soft_tokens": 71}, "max_soft_tokens: expected one of"),
        ({"do_normalize": True, "image_mean": [0.5] * 3}, "image_mean"),
        ({"image_processor_type": "SiglipImageProcessor"}, "not supported for Siglip"),
        ({"size": {"height": 8, "width": 8}}, "size: not supported"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_other_processors_are_refused(made, changes, message, tmp_path):
    folder = tmp_path / "edited"
    shutil.copytree(made[0], folder)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        adapt.load(str(folder))
    nested = {"image_processor": json.loads((made[0] / file.name).read_text())}
    other = folder / "processor_config.json"
    other.write_text(json.dumps(nested))
    adapt.load(str(folder))  # as in transformers, the nested settings count
    other.write_text(json.dumps(nested | {"processor_class": "OtherProcessor"}))
    with pytest.raises(UserError, match="processor_class"):
        adapt.load(str(folder))


def test_tokens_around_pictures_are_those_that_the_tokenizer_names(made, tmp_path):
    """As in transformers, whose processor writes them as text."""
    folder = tmp_path / "edited"
    shutil.copytree(made[0], folder)
    assert adapt.load(str(folder)).spec.encoder.before == (1, BOI)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({"boi_token": {"content": "A"}, "eoi_token": "B"}))
    encoder = adapt.load(str(folder)).spec.encoder
    letters = [
        adapt.load(str(folder)).document.processor.text.tokenizer().token_id(c) for c in "AB"
    ]
    assert (encoder.before, encoder.after) == ((1, letters[0]), (letters[1], 2))
    file.write_text(json.dumps({"extra_special_tokens": {"boi_token": "B"}}))
    assert adapt.load(str(folder)).spec.encoder.before == (1, letters[1])
    file.write_text(json.dumps({"boi_token": 7}))
    with pytest.raises(UserError, match="boi_token"):
        adapt.load(str(folder))


def test_each_epsilon_is_read_where_it_counts(made, tmp_path):
    import torch
    import transformers as t

    folder = tmp_path / "edited"
    shutil.copytree(made[0], folder)
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["rms_norm_eps"], config["text_config"]["rms_norm_eps"] = 0.5, 0.01
    (folder / "config.json").write_text(json.dumps(config))
    model = t.EmbeddingGemma2Model.from_pretrained(folder).eval()
    picture = pictures()[0]
    with torch.no_grad():
        expected = unit([theirs(model, picture)])[0]
    found = gemb.load(str(folder)).encode(Image(picture))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - gemb.load(str(made[0])).encode(Image(picture))).max() > 1e-3


_TEMPLATE = (
    "{%- for part in messages[0].content %}{{ part.text if part.type == 'text' else PICTURE }}"
    "{% endfor %}"
)
TEMPLATES = {
    _TEMPLATE.replace("PICTURE", "'<|image|>'"): True,
    _TEMPLATE.replace("PICTURE", "'<|image|>\\n'"): False,
    "{%- for m in messages %}{{ m.content[0].text }}{% endfor %}": False,
    "{%- for m in messages %}<user>{{ m.content[0].text }}{% endfor %}": False,
    "{{ messages[0].content[0].text | trim }}": False,
    "{{ messages[0].content[0].text": False,
    "{{ nonsense.x.y }}": False,
}


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_chat_template_must_leave_texts_as_they_are(made, template, tmp_path):
    pytest.importorskip("jinja2")
    folder = tmp_path / "edited"
    shutil.copytree(made[0], folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    picture = tokenizer["added_tokens"][0] | {"id": 259, "content": "<|image|>"}
    tokenizer["added_tokens"].append(picture)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_token_id": 259}))
    (folder / "chat_template.jinja").write_text(template)
    how = {"method": "forward", "method_output_name": "last_hidden_state"}
    settings = {"modality_config": {"text": how}, "module_output_name": "token_embeddings"}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    adapt.load(str(folder))
    settings["modality_config"]["message"] = how | {"format": "structured"}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    if TEMPLATES[template]:
        adapt.load(str(folder))
        (folder / "1_Pooling").mkdir()
        pooling = {"embedding_dimension": 16, "pooling_mode": "mean", "include_prompt": False}
        (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
        with pytest.raises(UserError, match="include_prompt"):
            adapt.load(str(folder))
        return
    with pytest.raises(UserError, match="chat template"):
        adapt.load(str(folder))


def test_weights_that_do_not_fit_are_named(made, tmp_path):
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "edited"
    shutil.copytree(made[0], folder)
    tensors = load_file(folder / "model.safetensors")
    name = "embed_vision.embedding_projection.weight"
    for changed, message in (
        ({k: v for k, v in tensors.items() if k != name}, "embed_vision"),
        (tensors | {"vision_tower.other": np.zeros(3, np.float32)}, "left over"),
        (tensors | {"language_model.other": np.zeros(3, np.float32)}, "left over"),
    ):
        save_file(changed, folder / "model.safetensors")
        with pytest.raises(UserError, match=message):
            adapt.load(str(folder))
    whole = {f"model.{key}": value for key, value in tensors.items()}
    save_file(whole, folder / "model.safetensors")
    vectors = gemb.load(str(folder)).encode(["a dog", Image(pictures()[0])])
    np.testing.assert_array_equal(
        vectors, gemb.load(str(made[0])).encode(["a dog", Image(pictures()[0])])
    )


def test_the_published_shape():
    """The shape of google/embeddinggemma-2: heads by layer under two-digit numbers."""
    heads = {"head_dim": 512, "num_key_value_heads": 1}
    config = {"model_type": "embedding_gemma2_text"}
    usual = gemma4.TEXT.text_spec(config)
    listed = {f"{layer:02}": heads for layer in (5, 11, 17, 23)}
    assert gemma4.TEXT.text_spec(config | {"per_layer_config": listed}) == usual
    stack = usual.stack
    assert (stack.layers, stack.width, stack.heads, stack.mlp) == (24, 512, 4, 2048)
    assert stack.layer_heads[4:6] == ((2, 256), (1, 512))
    assert stack.windows[4:6] == (513, 0)
    assert [stack.turn(layer).theta for layer in (4, 5)] == [1e4, 1e6]
    assert (usual.width, usual.stack.layer_input) == (768, 512)
    shapes = functional(gemb.models.spec.ModelSpec.of(gemb.models.spec.TowerSpec(usual))).shapes
    assert 265e6 < sum(np.prod(leaf.shape) for leaf in shapes.values()) < 275e6


def test_empty_rows_have_no_nan(made):
    tower = adapt.load(str(made[0])).document
    processor = tower.processor
    examples = [*processor.prepare([Image(pictures()[0])], "document"), None]
    inputs = processor.collate(examples, 0, rows=2)
    embed = functional(gemb.models.spec.ModelSpec.of(tower.spec)).document.embed
    assert np.isfinite(np.asarray(embed(tower.params, inputs))).all()
    ids = np.zeros((2, 8), np.int32)
    tokens = Tokens(ids, np.array([[True] * 8, [False] * 8]))
    assert np.isfinite(np.asarray(embed(tower.params, tokens))).all()
