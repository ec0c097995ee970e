"""Captions and pictures through the training step: no part of it knows what a picture is."""

import dataclasses
import functools
import hashlib
from typing import ClassVar

import jax
import numpy as np
import optax
import pytest
from tiny_models import tiny

from gemb import losses
from gemb.data import pipeline
from gemb.data.forms import Texts
from gemb.data.mixing import Task
from gemb.inference.embedder import Embedder
from gemb.models.encoders.vision import VisionSpec
from gemb.models.execution import Execution
from gemb.models.functional import initial_params
from gemb.models.model import Model, Tower
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.pretrained.vision.language import vision_language
from gemb.processors.image import ImageProcessor
from gemb.runs.records import read_metrics
from gemb.search import ExactSearcher
from gemb.structs import Image
from gemb.training.experiment import Experiment
from gemb.training.loop import train
from gemb.training.optimizers import adamw

pytestmark = [pytest.mark.extra("images"), pytest.mark.slow]
SIZE, PAIRS = 8, 32
COLOURS = ("red", "green", "blue", "grey")
PLACES = ("left", "right", "top", "bottom")


@dataclasses.dataclass(frozen=True)
class Captioned:
    columns: ClassVar[tuple[str, ...]] = ("caption", "pixels")
    negatives: ClassVar[int] = 0
    in_batch: ClassVar[bool] = True

    def admit(self, record):
        return True

    def make(self, records, draw):
        pictures = [Image(record["pixels"]) for record in records]
        return Texts([record["caption"] for record in records], pictures, [[] for _ in records])


class Drawings:
    """A bar of a colour at a side, and its caption: 16 kinds."""

    def __init__(self):
        self.fingerprint = hashlib.sha256(b"drawings").hexdigest()

    def __len__(self):
        return PAIRS

    def __getitem__(self, row):
        colour, place = row % 4, row // 4 % 4
        pixels = np.full((SIZE, SIZE, 3), 255, np.uint8)
        at = np.s_[:, :3] if place == 0 else np.s_[:, 5:] if place == 1 else np.s_[:3]
        pixels[np.s_[5:] if place == 3 else at] = 128 if colour == 3 else 255 * np.eye(3)[colour]
        return {"caption": f"{COLOURS[colour]} {PLACES[place]}", "pixels": pixels}

    def where(self, row):
        return f"pair {row}"

    def sizes(self, rows):
        return np.ones(len(rows))


def picture_tower():
    stack = StackSpec(2, 16, 2, 32, norm_place="pre", norm_epsilon=1e-6, final_norm=True)
    spec = VisionSpec((SIZE, SIZE), 4, stack)
    return Tower(TowerSpec(spec, pooling="map"), None, ImageProcessor(SIZE, SIZE))


def experiment(**settings):
    data = functools.partial(
        pipeline.mixture, tasks={"drawings": Task(Drawings(), Captioned())}, batch_size=16
    )
    text = dataclasses.replace(tiny(0).document, params=None)
    return Experiment(
        **{
            "model": Model(text, picture_tower()),
            "data": data,
            "loss": functools.partial(losses.info_nce, temperature=0.1),
            "optimizer": lambda steps: optax.adam(0.01),
            "steps": 60,
            "widths": (16, 4),
            "mesh": functools.partial(make_mesh, 2, 2, 2),
            "query_microbatches": 2,
            "document_microbatches": 2,
        }
        | settings
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return train(experiment(), workdir)[0], workdir


def test_captions_find_their_pictures(trained):
    model, workdir = trained
    rows = read_metrics(workdir)
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]
    records = [Drawings()[row] for row in range(16)]
    embedder = Embedder(model)
    pictures = embedder.encode([Image(r["pixels"]) for r in records], kind="document")
    captions = embedder.encode([r["caption"] for r in records], kind="query")
    found = ExactSearcher(pictures).search(captions, 1).indices[:, 0]
    assert (found == np.arange(16)).mean() > 0.5


def test_eight_devices_with_gradient_caching_are_one_without(tmp_path):
    """Three steps; the layers looped on the eight devices."""
    eight = train(experiment(steps=3, execution=Execution(layers="scan")), tmp_path / "eight")[0]
    one = functools.partial(make_mesh, devices=jax.devices()[:1])
    plain = {"query_microbatches": 1, "document_microbatches": 1}
    alone = train(experiment(steps=3, mesh=one, **plain), tmp_path / "one")[0]
    for path, value in alone.params.items():
        np.testing.assert_allclose(eight.params[path], value, atol=2e-4, err_msg=path)


def test_pictures_through_the_transformer_of_texts_train_alone_on_any_mesh(tmp_path):
    """Two steps of one model of both: eight devices are one, and nothing of texts changes."""
    spec = ModelSpec.of(picture_tower().spec)
    params = jax.device_get(jax.jit(initial_params, static_argnums=0)(spec, jax.random.key(1)))
    image = Model.of(dataclasses.replace(picture_tower(), params=params))
    model = vision_language(tiny(0), image, tokens=2)
    frozen = "vision_language/text/|^dense/|^pooler/"
    options = {
        "model": model,
        "optimizer": functools.partial(adamw, schedule=lambda steps: 0.01, frozen=frozen),
        "steps": 2,
    }
    one = functools.partial(make_mesh, devices=jax.devices()[:1])
    plain = {"query_microbatches": 1, "document_microbatches": 1, "mesh": one}
    eight = train(experiment(**options), tmp_path / "eight")[0]
    alone = train(experiment(**options | plain), tmp_path / "one")[0]
    for path, value in alone.params.items():
        np.testing.assert_allclose(eight.params[path], value, atol=2e-4, err_msg=path)
        if path.startswith("vision_language/text/"):
            np.testing.assert_array_equal(eight.params[path], model.params[path], err_msg=path)
    moved = "vision_language/image/patch/kernel"
    assert np.abs(alone.params[moved] - model.params[moved]).max() > 1e-4
    texts = ["red left", "blue top"]
    same = (Embedder(made).encode(texts, kind="query") for made in (tiny(0), eight))
    np.testing.assert_array_equal(*same)
