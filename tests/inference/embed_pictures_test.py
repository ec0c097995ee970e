"""gemb embed with pictures, through the real command line, and the same model in Python."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gemb
from gemb.models.encoders.vision import VisionSpec
from gemb.models.functional import initial_params
from gemb.models.model import Model, Tower
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.pretrained import saving
from gemb.processors.image import ImageProcessor

pytestmark = pytest.mark.extra("images")
ROOT = Path(__file__).parents[2]


def verb(*arguments, status=0):
    """(stdout, stderr) of gemb embed."""
    done = subprocess.run(
        [sys.executable, "-m", "gemb.cli", "embed", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import jax

    stack = StackSpec(1, 8, 2, 16, norm_place="pre", final_norm=True)
    spec = TowerSpec(VisionSpec((16, 16), 8, stack), "map")
    params = jax.device_get(initial_params(ModelSpec.of(spec), jax.random.key(0)))
    folder = tmp_path_factory.mktemp("model") / "model"
    saving.save(Model.of(Tower(spec, params, ImageProcessor(16, 16, "crop"))), folder)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    import PIL.Image

    folder = tmp_path_factory.mktemp("photos")
    (folder / "b").mkdir()
    random = np.random.default_rng(0)
    for name in ("z.png", "b/a.jpg"):
        pixels = random.integers(0, 256, (20, 30, 3)).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.mark.long
def test_a_folder_of_pictures_becomes_vectors(model, photos, tmp_path):
    verb(f"--model={model}", f"--images={photos}", f"--output={tmp_path / 'vectors'}")
    ids = [json.loads(line) for line in (tmp_path / "vectors" / "ids.jsonl").open()]
    assert ids == ["b/a.jpg", "z.png"]
    pictures = [gemb.Image(photos / name) for name in ids]
    expected = gemb.load(str(model)).encode(pictures)
    np.testing.assert_allclose(np.load(tmp_path / "vectors" / "vectors.npy"), expected, atol=1e-6)
    out, _ = verb(f"--model={model}", f"--images={photos}", f"--output={tmp_path / 'vectors'}")
    assert "exist already" in out


@pytest.mark.long
def test_explain_prints_what_is_seen_and_writes_it(model, photos, tmp_path):
    import PIL.Image

    seen = tmp_path / "seen.png"
    out, _ = verb(f"--model={model}", f"--explain={photos / 'z.png'}", f"--output={seen}")
    assert "30 x 20" in out
    assert "to 24 x 16 by bicubic" in out
    expected = ImageProcessor(16, 16, "crop").pixels(gemb.Image(photos / "z.png"))
    np.testing.assert_array_equal(np.asarray(PIL.Image.open(seen)), expected)


@pytest.mark.long
def test_mistakes_are_one_line(model, photos, tmp_path):
    output = f"--output={tmp_path / 'a.png'}"
    for given, message in (
        ((f"--images={photos}", "--input=x", output), "got --input and --images"),
        ((f"--images={photos}/none", output), "no such folder"),
        ((f"--explain={photos}/notes.txt", output), "not a picture that gemb reads"),
        ((f"--explain={photos}/z.png", f"--output={tmp_path}"), "name of a .png file"),
    ):
        _, errors = verb(f"--model={model}", *given, status=2)
        assert message in errors
        assert len(errors.strip().splitlines()) == 1
