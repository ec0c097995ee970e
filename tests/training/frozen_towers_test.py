"""A head behind a frozen image encoder, next to a frozen text encoder; ConSE targets."""

import dataclasses
import functools
import json

import jax
import numpy as np
import optax
import pytest
from picture_folders import captioned_folder, drawn, encoded

from gemb import losses
from gemb.checks import UserError
from gemb.data import pipeline
from gemb.data.captioned import Captioned
from gemb.data.mixing import Task
from gemb.data.sources.pictures import captioned
from gemb.identity import tower_fingerprint
from gemb.inference.embedder import Embedder
from gemb.models.encoders.vision import VisionSpec
from gemb.models.execution import Execution
from gemb.models.functional import functional, initial_params
from gemb.models.model import Model, Tower
from gemb.models.scratch import of_pictures
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.pretrained.vision.language import vision_language
from gemb.processors.image import ImageProcessor
from gemb.processors.text import of_bytes
from gemb.structs import Visual
from gemb.training.distillation.conse import class_texts, class_vectors, conse
from gemb.training.distillation.frozen import frozen
from gemb.training.experiment import Experiment
from gemb.training.loop import train
from gemb.training.planning.dry_run import dry_run

pytestmark = pytest.mark.extra("images")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return str(captioned_folder(tmp_path_factory.mktemp("pictures"), copies=3))


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GEMB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def experiment(pictures, **settings):
    tasks = {"p": Task(captioned(pictures, split="train"), Captioned())}
    data = functools.partial(pipeline.mixture, tasks=tasks, batch_size=16)
    whole = {
        "model": of_pictures(of_bytes(), width=16),
        "data": data,
        "loss": functools.partial(
            losses.weighted_sum,
            terms={"cosine": losses.embedding_distance, "contrast": losses.info_nce},
        ),
        "optimizer": lambda steps: optax.adam(0.01),
        "steps": 8,
        "widths": (16, 8),
        "mesh": functools.partial(make_mesh, 1, 1, 1, devices=jax.devices()[:1]),
        "teacher": frozen(),
        "execution": Execution(dropout=0.1),
    }
    return Experiment(**whole | settings)


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEMB_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return train(experiment(pictures), tmp_path_factory.mktemp("run"))[0]


def test_only_the_head_changes_and_texts_stay_to_the_bit(trained):
    before = of_pictures(of_bytes(), width=16)
    changed = {
        path
        for path in before.params
        if not np.array_equal(before.params[path], trained.params[path])
    }
    assert changed == {path for path in before.params if path.startswith("document/dense/")}
    query = dataclasses.replace(trained.query, spec=before.query.spec)
    assert tower_fingerprint(query) == tower_fingerprint(before.query)
    texts = ["show me cute dogs", "a cat", ""]
    both = (Embedder(model).encode(texts, kind="query") for model in (before, trained))
    np.testing.assert_array_equal(*both)


@pytest.mark.long
def test_a_resumed_run_is_the_straight_one(pictures, trained, tmp_path):
    train(experiment(pictures, steps=4), tmp_path)
    again = train(experiment(pictures), tmp_path)[0]
    for path, value in trained.params.items():
        np.testing.assert_array_equal(again.params[path], value, err_msg=path)


@pytest.mark.long
def test_its_fields_are_what_the_towers_say(pictures):
    run = experiment(pictures)
    batches = run.batches()
    run.teacher.join(run.spec, run.loss, batches, run.mesh(), None)
    batch = next(batches)
    assert batch.document.pixels.shape[1:3] == (1, 1)  # nothing was decoded for the batch
    records = captioned(pictures, split="train")
    captions = {records[row]["image"].content(): records[row]["captions"] for row in range(32)}
    queries, images = zip(
        *((records[row]["captions"][0], records[row]["image"]) for row in (3, 17)), strict=True
    )
    fields = run.teacher.fields(queries, images)
    model = run.model
    vectors = Embedder(model).encode(list(queries), kind="query")
    np.testing.assert_allclose(fields["teacher_query"], vectors, atol=1e-6)
    np.testing.assert_allclose(fields["teacher_document"], vectors, atol=1e-6)
    tower = model.document
    inputs = tower.processor.collate(tower.processor.prepare(images))
    pooled = functional(ModelSpec.of(tower.spec)).document.pooled(tower.params, inputs)
    np.testing.assert_allclose(fields["document_features"], pooled, atol=1e-5)
    assert len(captions) == 32
    assert "parameters" in dry_run(experiment(pictures))


@pytest.mark.long
def test_texts_stay_to_the_bit_when_pictures_learn_to_go_through_their_transformer(
    pictures, tmp_path
):
    pair = of_pictures(of_bytes(), width=16)
    model = vision_language(pair, pair, tokens=3)
    trained = train(experiment(pictures, model=model, execution=Execution()), tmp_path)[0]
    changed = {p for p, value in model.params.items() if (value != trained.params[p]).any()}
    pool = {path for path in model.params if path.startswith("vision_language/pool/")}
    assert changed == pool
    texts = ["show me cute dogs", "a cat", ""]
    both = (Embedder(model).encode(texts, kind="query") for model in (pair, trained))
    np.testing.assert_array_equal(*both)
    records = captioned(pictures, split="train")
    images = [records[row]["image"] for row in range(16)]
    captions = [records[row]["captions"][0] for row in range(16)]
    scores = []
    for made in (model, trained):
        encode = Embedder(made).encode
        scores.append((encode(images) * encode(captions, kind="query")).sum(1).mean())
    assert scores[1] > scores[0]
    adaptive = vision_language(pair, pair, tokens=3, pool="adaptive")
    with pytest.raises(UserError, match="pool 'attention'"):
        experiment(pictures, model=adaptive)


@pytest.mark.long
def test_registers_are_no_parts_of_a_picture(pictures):
    """What training reads of the cache gives the vectors that the whole model gives."""
    stack = StackSpec(1, 16, 2, 32, norm_place="pre", final_norm=True)
    spec = TowerSpec(VisionSpec((16, 16), 8, stack, registers=3, pools_first=False))
    tower = Tower(spec, None, ImageProcessor(16, 16))
    params = jax.jit(lambda key: initial_params(ModelSpec.of(spec), key))(jax.random.key(0))
    image = Model.of(dataclasses.replace(tower, params=jax.device_get(params)))
    model = vision_language(of_pictures(of_bytes(), width=16), image, tokens=3)
    run = experiment(pictures, model=model)
    run.teacher.join(run.spec, run.loss, run.batches(), run.mesh(), None)
    records = captioned(pictures, split="train")
    images, queries = [], []
    for row in (3, 17):
        images.append(records[row]["image"])
        queries.append(records[row]["captions"][0])
    features = run.teacher.fields(queries, images)["document_features"]
    assert features.shape == (2, 4, 16)
    apply = functional(model.spec).document.embed
    found = apply(model.params, Visual(features, np.ones((2, 4), bool)))
    np.testing.assert_allclose(found, Embedder(model).encode(images), atol=1e-5)


def test_class_vectors_against_the_formula():
    random = np.random.default_rng(0)
    logits, vectors = random.normal(size=(3, 6)) * 4, random.normal(size=(6, 5))
    expected = []
    for row in logits:
        best = np.argsort(-row)[:4]
        p = np.exp(row[best] / 1.5) / np.exp(row[best] / 1.5).sum()
        made = p @ vectors[best]
        expected.append(made / np.linalg.norm(made))
    np.testing.assert_allclose(conse(logits, vectors, top=4), expected, rtol=1e-5)
    rows = [
        {"lemmas": ["dog", "domestic dog"], "definition": "a pet"},
        {"lemmas": ["cat"], "definition": "a feline"},
    ]
    asked = []

    def encode(texts):
        asked.extend(texts)
        return np.arange(2.0 * len(texts)).reshape(-1, 2)

    found = class_vectors(rows, encode)
    assert asked == [text for row in rows for text in class_texts(row)]
    np.testing.assert_allclose(found, [[3, 4], [10, 11]])


def with_classes(model, folder):
    """The model, with a classifier of two classes next to its image encoder."""
    tower = model.document
    random = np.random.default_rng(1)
    kept = {
        "classifier/kernel": random.normal(size=(16, 2)).astype("f4"),
        "classifier/bias": np.zeros(2, "f4"),
    }
    rows = [
        {"id": "a", "lemmas": ["red"], "definition": "x"},
        {"id": "b", "lemmas": ["blue"], "definition": "y"},
    ]
    (folder / "classes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    origin = dataclasses.replace(tower.origin, folder=folder, kept=kept)
    return Model(model.query, dataclasses.replace(tower, origin=origin)), kept, rows


def test_targets_of_a_classifier_mix_with_captions(pictures, tmp_path):
    model, kept, rows = with_classes(of_pictures(of_bytes(), width=16), tmp_path)
    run = experiment(pictures, model=model, teacher=frozen(caption_weight=1.0, class_weight=2.0))
    run.teacher.join(run.spec, run.loss, run.batches(), run.mesh(), None)
    record = captioned(pictures, split="train")[5]
    fields = run.teacher.fields(record["captions"][:1], [record["image"]])
    logits = fields["document_features"] @ kept["classifier/kernel"]
    classes = class_vectors(rows, lambda texts: Embedder(model).encode(texts, kind="query"))
    target = fields["teacher_query"] + 2.0 * conse(logits, classes)
    target /= np.linalg.norm(target)
    np.testing.assert_allclose(fields["teacher_document"], target, atol=1e-5)


def test_what_does_not_fit_is_one_line(pictures):
    with pytest.raises(UserError, match="class_weight: the image encoder's folder"):
        experiment(pictures, teacher=frozen(class_weight=1.0))
    with pytest.raises(UserError, match="not both 0"):
        frozen(caption_weight=0.0)
    text = of_pictures(of_bytes(), width=16).query
    with pytest.raises(UserError, match="two towers"):
        experiment(pictures, model=Model.of(text))
    from gemb.training.objectives import frozen_towers

    with pytest.raises(UserError, match="needs the teacher frozen"):
        _ = experiment(pictures, teacher=None, objective=frozen_towers()).transform


@pytest.mark.long
def test_the_experiment_runs_at_debug_size(pictures, tmp_path):
    """The whole command, with a tiny model and pictures of its own: nothing is downloaded."""
    from gemb.cli.__main__ import run
    from gemb.pretrained import adapt

    files = ("experiments/pictures.gin", "debug.gin", "model/tiny_pictures.gin")
    with pytest.raises(SystemExit) as ended:
        run("train", [
            *(f"--gin_file={name}" for name in files),
            f"--gin_param=pictures.captioned.folder = '{pictures}'",
            f"--workdir={tmp_path / 'run'}",
        ])  # fmt: skip
    assert ended.value.code == 0
    model = adapt.load(str(tmp_path / "run" / "model"))
    assert model.document.processor.modality == "image"
    assert model.spec.widths == (32, 16, 8)


@pytest.mark.slow
def test_one_model_of_both_is_trained_indexed_and_searched(pictures, tmp_path, capsys):
    """By the commands, at debug size."""
    from gemb.cli.__main__ import run

    files = ("experiments/pictures_jasper.gin", "debug.gin", "model/tiny_vision_language.gin")
    model, index, photos = tmp_path / "run" / "model", tmp_path / "index", tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(encoded(drawn("red", "left")))
    commands = {
        "train": [
            *(f"--gin_file={name}" for name in files),
            f"--gin_param=pictures.captioned.folder = '{pictures}'",
            f"--workdir={tmp_path / 'run'}",
        ],
        "index": [f"--model={model}", f"--corpus={pictures}", f"--output={index}"],
        "search": [f"--index={index}", "--count=3", "red left"],
        "embed": [f"--model={model}", f"--images={photos}", f"--output={tmp_path / 'vectors'}"],
    }
    for verb, arguments in commands.items():
        with pytest.raises(SystemExit) as ended:
            run(verb, arguments)
        assert ended.value.code == 0, verb
        if verb == "search":
            assert capsys.readouterr().out.count("\n") >= 3
    embedder = Embedder.load(str(model))
    assert embedder.widths == (32, 16, 8)
    image = captioned(pictures, split="train")[0]["image"]
    assert embedder.encode(["red left", image]).shape == (2, 32)
