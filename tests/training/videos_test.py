"""Captions and videos: frozen frames, a transformer over them, recall, indexes; one loop."""

import dataclasses
import functools
import json

import jax
import numpy as np
import optax
import pytest
from picture_folders import captioned_folder

from gemb import losses
from gemb.checks import UserError
from gemb.cli.__main__ import run
from gemb.data import pipeline
from gemb.data.captioned import CaptionedVideos
from gemb.data.mixing import Task
from gemb.data.sources.moving import MOTIONS, make_clips, moving
from gemb.data.sources.picture_corpus import PictureCorpus
from gemb.data.sources.pictures import captioned, captioned_videos
from gemb.evaluation.tasks.registry import TASK_TYPES, read_tasks
from gemb.identity import tower_fingerprint
from gemb.inference.embedder import Embedder
from gemb.models.functional import functional
from gemb.models.model import Model
from gemb.models.scratch import of_pictures
from gemb.models.spec import ModelSpec
from gemb.parallel.mesh import make_mesh
from gemb.pretrained import adapt, saving
from gemb.pretrained.vision import videos
from gemb.processors.text import of_bytes
from gemb.structs import Image, Video
from gemb.training.distillation.frozen import frozen
from gemb.training.experiment import Experiment
from gemb.training.loop import train

pytestmark = pytest.mark.extra("images")
FRAMES = 4


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    place = tmp_path_factory.mktemp("videos")
    captioned_folder(place / "pictures")
    counts = make_clips(place / "pictures", place / "clips", side=32, frames=FRAMES)
    assert counts == {"train": 32, "test": 32}
    return place


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@functools.cache
def model(layers=0):
    return videos.of_pictures(of_pictures(of_bytes(), width=16), frames=FRAMES, layers=layers)


def experiment(places, **settings):
    task = Task(captioned_videos(str(places / "clips"), split="train"), CaptionedVideos())
    whole = {
        "model": model(1),
        "data": functools.partial(pipeline.mixture, tasks={"v": task}, batch_size=16),
        "loss": functools.partial(
            losses.weighted_sum,
            terms={"cosine": losses.embedding_distance, "contrast": losses.info_nce},
        ),
        "optimizer": lambda steps: optax.adam(0.003),
        "steps": 6,
        "mesh": functools.partial(make_mesh, 1, 1, 1, devices=jax.devices()[:1]),
        "teacher": frozen(),
    }
    return Experiment(**whole | settings)


def pictures_of(video):
    """The frames of an animation, by Pillow alone."""
    import io

    import PIL.Image

    opened = PIL.Image.open(io.BytesIO(video.source))
    frames = []
    for number in range(opened.n_frames):
        opened.seek(number)
        frames.append(Image(opened.convert("RGB")))
    return frames


def test_opposite_motions_have_the_same_frames(places):
    records = captioned_videos(str(places / "clips"))
    assert len(records) == 64
    first, opposite = records[0], records[1]
    pairs = {pair[0]: pair[1] for pair in MOTIONS}
    assert opposite["group"] == pairs[first["group"]]
    assert first["captions"] == [f"red left {first['group']}"]
    one, other = pictures_of(first["video"]), pictures_of(opposite["video"])
    assert len(one) == FRAMES
    assert one == other[::-1]
    assert one[0] != one[-1]
    picture = captioned(str(places / "pictures"))[0]["image"]
    from gemb.processors.decoding import decode

    left = [np.asarray(f) for f in moving(decode(picture).picture, "moves left", side=20)]
    columns = [np.flatnonzero((frame < 200).any((0, 2)))[0] for frame in left]
    assert columns == sorted(columns, reverse=True)
    assert columns[0] >= 8
    assert columns[-1] == 0
    with pytest.raises(ValueError, match="motion: expected one of"):
        moving(decode(picture).picture, "jumps")


@pytest.mark.long
def test_without_layers_a_video_is_the_mean_of_its_frames(places):
    pictures = of_pictures(of_bytes(), width=16).document
    clips = model().document
    records = captioned_videos(str(places / "clips"))
    values = [records[row]["video"] for row in (0, 5)]
    pooled = functional(ModelSpec.of(pictures.spec)).document.pooled
    expected = []
    for value in values:
        inputs = pictures.processor.collate(pictures.processor.prepare(pictures_of(value)))
        expected.append(np.asarray(pooled(pictures.params, inputs)).mean(0))
    inputs = clips.processor.collate(clips.processor.prepare(values))
    found = functional(ModelSpec.of(clips.spec)).document.pooled(clips.params, inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    embedder, whole = Embedder(model()), Embedder(of_pictures(of_bytes(), width=16))
    still = captioned(str(places / "pictures"))[3]["image"]
    np.testing.assert_allclose(embedder.encode(still), whole.encode(still), atol=1e-5)
    with pytest.raises(UserError, match="documents are pictures, got 'text'"):
        videos.of_pictures(Model.of(pictures_model_text()))
    with pytest.raises(UserError, match="heads"):
        videos.of_pictures(of_pictures(of_bytes(), width=16), layers=1, heads=7)


def pictures_model_text():
    return of_pictures(of_bytes(), width=16).query


@pytest.mark.long
def test_frozen_frames_train_what_follows_them(places, tmp_path):
    trained = train(experiment(places), tmp_path / "run")[0]
    before = model(1)
    changed = {p for p, v in before.params.items() if not np.array_equal(v, trained.params[p])}
    parts = ("document/dense/", "document/video/time/", "document/video/position/")
    assert changed == {path for path in before.params if path.startswith(parts)}
    query = dataclasses.replace(trained.query, spec=before.query.spec)
    assert tower_fingerprint(query) == tower_fingerprint(before.query)
    saving.save(trained, tmp_path / "model")
    again = adapt.load(str(tmp_path / "model"))
    video = captioned_videos(str(places / "clips"))[9]["video"]
    np.testing.assert_array_equal(Embedder(again).encode(video), Embedder(trained).encode(video))


@pytest.mark.long
def test_frozen_frames_give_the_embedding_of_pixels(places):
    whole = experiment(places)
    batches = whole.batches()
    whole.teacher.join(whole.spec, whole.loss, batches, whole.mesh(), None)
    batch = next(batches)
    assert batch.document.pixels.shape[1:3] == (1, 1)  # nothing was decoded for the batch
    params = whole.model.params
    found = whole.trained_by.outputs(whole.encoding, params, batch, None).document
    records = captioned_videos(str(places / "clips"), split="train")
    known = {records[row]["video"].content(): row for row in range(len(records))}
    vectors = Embedder(whole.model).encode([records[row]["video"] for row in range(len(records))])
    nearest = (np.asarray(found) @ vectors.T).max(1)
    np.testing.assert_allclose(nearest, 1, atol=1e-5)
    assert len(known) == 32


@pytest.mark.slow
def test_pixels_train_the_same_on_eight_devices_as_on_one(places, tmp_path):
    settings = {"teacher": None, "loss": losses.info_nce, "steps": 3, "document_microbatches": 2}
    eight = functools.partial(make_mesh, 2, 2, 2)
    first = train(experiment(places, mesh=eight, **settings), tmp_path / "eight")[0]
    second = train(experiment(places, **settings), tmp_path / "one")[0]
    for path, value in second.params.items():
        np.testing.assert_allclose(first.params[path], value, atol=3e-4, err_msg=path)


def test_recall_of_videos(places, tmp_path):
    (task,) = read_tasks([places / "clips"])
    assert (task.kind, task.main) == ("videos", "text_to_video_recall@10")
    kind = TASK_TYPES["videos"]
    roles = kind.texts(task.data)
    assert len(roles["captions"][0]) == len(roles["images"][0]) == 32
    assert all(isinstance(value, Video) for value in roles["images"][0])
    rows = np.eye(32, dtype=np.float32)
    order = np.roll(np.arange(32), 1)
    perfect = kind.measure({"captions": rows, "images": rows}, task.data)
    assert perfect.figures["text_to_video_recall@1"] == 1.0
    assert perfect.details["pictures"][0]["found"][0][0].startswith("data:image/jpeg")
    wrong = kind.measure({"captions": rows, "images": rows[order]}, task.data)
    assert wrong.figures["video_to_text_recall@1"] == 0.0


def call(verb, *arguments):
    with pytest.raises(SystemExit) as ended:
        run(verb, [str(argument) for argument in arguments])
    return ended.value.code


@pytest.mark.long
def test_clips_are_indexed_searched_and_embedded(places, tmp_path, capsys):
    saving.save(model(), tmp_path / "model")
    name, page = f"--model={tmp_path / 'model'}", tmp_path / "found.html"
    index = ("index", name, f"--corpus={places / 'clips'}", f"--output={tmp_path / 'index'}")
    assert call(*index) == 0
    assert "index of 64 videos" in capsys.readouterr().out
    asked = (f"--index={tmp_path / 'index'}", f"--page={page}", "red left grows")
    assert call("search", *asked) == 0
    lines = capsys.readouterr().out.splitlines()
    embedder = Embedder.load(tmp_path / "model")
    corpus = PictureCorpus(places / "clips", "video")
    vectors = embedder.encode([corpus.media(row) for row in range(64)])
    scores = vectors @ embedder.encode("red left grows", kind="query")
    assert [float(line.split()[0]) for line in lines[:5]] == pytest.approx(
        sorted(scores, reverse=True)[:5], abs=6e-4
    )
    assert page.read_text().count("data:image/jpeg;base64,") == 5
    folder = tmp_path / "files"
    folder.mkdir()
    for row in (0, 7):
        (folder / f"{row}.apng").write_bytes(corpus.media(row).source)
    assert call("embed", name, f"--videos={folder}", f"--output={tmp_path / 'vectors'}") == 0
    made = np.load(tmp_path / "vectors" / "vectors.npy")
    np.testing.assert_allclose(made, vectors[[0, 7]], atol=1e-5)
    (folder / "7.apng").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    assert call("embed", name, f"--videos={folder}", f"--output={tmp_path / 'broken'}") == 2
    assert "7.apng" in capsys.readouterr().err


def test_wrong_records_are_one_line(places, tmp_path):
    with pytest.raises(ValueError, match="must be a video, got Image"):
        CaptionedVideos().admit({"captions": "a", "video": Image("a.png")})
    (tmp_path / "captions.jsonl").write_text(json.dumps({"file": "gone.mp4", "caption": "x"}))
    with pytest.raises(ValueError, match=r"gone\.mp4"):
        captioned_videos(str(tmp_path))[0]
    with pytest.raises(UserError, match="pictures or videos as documents"):
        experiment(places, model=Model(of_pictures(of_bytes(), width=16).query, text_again()))


def text_again():
    tower = of_pictures(of_bytes(), width=16).query
    return dataclasses.replace(tower)


@pytest.mark.long
def test_the_experiment_on_videos_runs_at_debug_size(places, tmp_path):
    files = ("experiments/video.gin", "debug.gin", "model/tiny_videos.gin")
    assert call(
        "train",
        *(f"--gin_file={name}" for name in files),
        f"--gin_param=pictures.captioned_videos.folder = '{places / 'clips'}'",
        f"--workdir={tmp_path / 'run'}",
    ) == 0  # fmt: skip
    made = adapt.load(str(tmp_path / "run" / "model"))
    assert made.document.processor.modality == "video"
    assert made.document.spec.encoder.time.layers == 1


@pytest.mark.long
def test_a_trained_model_of_pictures_learns_from_videos(places, tmp_path):
    Embedder(of_pictures(of_bytes(), width=16)).save(tmp_path / "pictures")
    files = ("experiments/video.gin", "debug.gin", "model/pictures_to_videos.gin")
    params = {
        "PICTURES_MODEL": str(tmp_path / "pictures"), "LAYERS": 0, "SIDE": 0, "NEIGHBOURS": 1,
        "WIDTHS": (16, 8), "WIDTH_WEIGHTS": (1.0, 0.5), "FRAMES": FRAMES,
        "pictures.captioned_videos.folder": str(places / "clips"),
    }  # fmt: skip
    settings = [f"--gin_param={name} = {value!r}" for name, value in params.items()]
    run_at = f"--workdir={tmp_path / 'run'}"
    assert call("train", *(f"--gin_file={name}" for name in files), *settings, run_at) == 0
    spec = adapt.load(str(tmp_path / "run" / "model")).document.spec
    assert spec.encoder.time is None
    assert spec.encoder.frames == FRAMES
