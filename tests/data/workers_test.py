"""Pictures that worker processes decode: the same batches, the same order, errors of one line."""

import os
import signal

import numpy as np
import pytest
from picture_folders import captioned_folder

from gemb.checks import UserError
from gemb.data import pipeline
from gemb.data.captioned import Augmentation, AugmentedImage, Captioned
from gemb.data.mixing import Task
from gemb.data.sources.pictures import captioned
from gemb.data.workers import Workers
from gemb.models.scratch import of_pictures
from gemb.processors.decoding import decode
from gemb.processors.text import of_bytes
from gemb.structs import Image

pytestmark = pytest.mark.extra("images")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(captioned_folder(tmp_path_factory.mktemp("pictures"), copies=3))


def batches(folder, workers):
    changed = Augmentation(crop=(0.4, 0.9), colour=0.3, operations=1)
    task = Task(captioned(folder, split="train"), Captioned(changed))
    model = of_pictures(of_bytes(), width=16)
    return pipeline.mixture(
        model.processors, 3, tasks={"p": task}, batch_size=8, workers=workers, prefetch=1
    )


@pytest.mark.long
def test_workers_change_no_batch(folder):
    alone, many = batches(folder, 0), batches(folder, 2)
    for number in range(4):
        expected, found = next(alone), next(many)
        np.testing.assert_array_equal(found.document.pixels, expected.document.pixels)
        np.testing.assert_array_equal(found.document_id, expected.document_id)
        np.testing.assert_array_equal(found.query.ids, expected.query.ids)
        if number == 1:
            state = many.get_state()
    expected = [next(alone) for _ in range(2)]
    resumed = batches(folder, 1)
    resumed.set_state(state)
    found = [next(resumed) for _ in range(4)][2:]
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(other.document.pixels, one.document.pixels)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_one_line_that_names_it(folder, tmp_path, workers):
    import zipfile

    place = captioned_folder(tmp_path / "broken", copies=2)
    with zipfile.ZipFile(place / "images.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["blue-top-0.png"] = files["blue-top-0.png"][:60]
    with zipfile.ZipFile(place / "images.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    made = batches(str(place), workers)
    with pytest.raises(UserError) as caught:
        [next(made) for _ in range(4)]
    line = str(caught.value)
    assert "\n" not in line
    assert "captions.jsonl" in line
    assert "(blue-top-0.png): ends early" in line


def test_a_killed_worker_is_one_line():
    from gemb.processors.image import ImageProcessor

    processor = ImageProcessor(8, 8).for_task("document", length=1, prompts=None)
    workers = Workers(1)
    pixels = np.random.default_rng(0).integers(0, 255, (9, 9, 3)).astype(np.uint8)
    made = workers.prepare(processor, [Image(pixels)] * 3, np.zeros(3))
    np.testing.assert_array_equal(
        made[2].content, processor.prepare([Image(pixels)], [0.0])[0].content
    )
    for process in workers._pool._processes.values():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with pytest.raises(UserError, match="decodes pictures has ended"):
        workers.prepare(processor, [Image(pixels)], np.zeros(1))
    with pytest.raises(UserError, match="workers: expected 0 or more"):
        Workers(-1)


def test_a_changed_picture_travels_without_being_decoded():
    import pickle

    pixels = np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8)
    drawn = np.random.default_rng(1).random(12).tolist()
    image = AugmentedImage(Image(pixels), Augmentation(colour=0.5), drawn)
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(decode(again).picture, decode(image).picture)
    assert again == image
    AugmentedImage(Image("gone.png"), Augmentation(), drawn).__reduce__()
