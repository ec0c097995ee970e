"""Teachers in the one training loop: live, from a cache, from files, and scores."""

import dataclasses
import functools
import json

import jax
import numpy as np
import optax
import pytest
from tiny_models import tiny, with_tower

from gemb import losses
from gemb.checks import UserError
from gemb.data import pipeline
from gemb.inference.embedder import Embedder
from gemb.models.execution import Execution
from gemb.models.functional import functional, is_layer_kernel
from gemb.models.model import two_towers
from gemb.models.spec import DenseSpec
from gemb.parallel.mesh import make_mesh
from gemb.parallel.placement import place_batch
from gemb.pretrained import saving
from gemb.structs import Prompts
from gemb.training import optimizers
from gemb.training.checkpoints.storage import Checkpoints
from gemb.training.distillation import cross_encoder, lesson, teachers
from gemb.training.distillation.cache import RowCache
from gemb.training.distillation.model import TeacherModel
from gemb.training.experiment import Experiment
from gemb.training.loop import train
from gemb.training.quantisation import int8_weights
from gemb.training.state import abstract_state, state_shardings

PAIRS, ROWS = 24, 8  # an epoch is three batches
LOSS = functools.partial(
    losses.weighted_sum,
    terms={"cosine": losses.embedding_distance, "contrast": losses.info_nce},
)
ONE_DEVICE = functools.partial(make_mesh, 1, 1, 1, devices=jax.devices()[:1])


model = tiny
PROCESSORS = tiny(0).processors
STUDENT, TEACHER = model(1), model(2, prompts=Prompts(query="q: "))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    rows = [{"query": f"ask {i}", "document": f"tell {i * i}"} for i in range(PAIRS)]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return functools.partial(
        pipeline.pairs, batch_size=ROWS, rates={"all": 1.0}, folder=str(folder), query_length=12,
        document_length=16,
    )  # fmt: skip


def run(workdir, data, teacher, steps=4, mesh=ONE_DEVICE, **options):
    """The trained model and each step's metrics."""
    arguments = {
        "model": STUDENT, "data": data, "loss": LOSS, "steps": steps, "mesh": mesh,
        "optimizer": lambda steps: optax.sgd(0.5), "checkpoint_steps": 2, "teacher": teacher,
    }  # fmt: skip
    trained, summary = train(Experiment(**arguments | options), workdir)
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return trained, [json.loads(line) for line in lines], summary


def figures(rows):
    return np.array([[row["loss"], row["cosine"], row["gradient_norm"]] for row in rows])


def taught(data, teacher, steps=4, **options):
    batches = data(PROCESSORS, 0)
    return sum(lesson.teach(teacher, batches, steps, **options).values())


@pytest.fixture(scope="module")
def straight(tmp_path_factory, data):
    """Four steps on one device with a live teacher: more than an epoch."""
    workdir = tmp_path_factory.mktemp("straight")
    return (*run(workdir, data, teachers.live([TEACHER])), workdir)


@pytest.fixture(scope="module")
def cache(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cache")
    count = taught(data, teachers.cached([TEACHER], folder=str(folder)))
    return folder, count


@pytest.mark.long
def test_a_live_teacher_gives_what_the_model_gives_elsewhere(data):
    other = model(3, width=8)
    teacher = teachers.live([TEACHER, other], weights=(3.0, 4.0), microbatches=2)
    batches = data(PROCESSORS, 0)
    mesh = ONE_DEVICE()
    seen = {}
    fields = teacher.fields
    teacher.fields = lambda *texts: seen.update(texts=texts) or fields(*texts)
    loss = losses.similarity  # takes teachers of any width
    frozen = teacher.join(STUDENT.spec, loss, batches, mesh, None)
    batch = batches.build(batches.plans(1)[0])
    with jax.set_mesh(mesh):
        found = jax.jit(teacher.compute)(frozen, place_batch(batch, mesh))
    assert set(found) == {"teacher_query", "teacher_document"}
    for side, texts in zip(("query", "document"), seen["texts"], strict=True):
        parts = [Embedder(m).encode(texts, kind=side) for m in (TEACHER, other)]
        expected = np.concatenate([0.6 * parts[0], 0.8 * parts[1]], axis=1)
        np.testing.assert_allclose(found[f"teacher_{side}"], expected, atol=1e-6)


def test_weights_are_one_a_teacher_and_part_of_its_identity():
    models = [TEACHER, model(3, width=8)]
    for make in (teachers.live, teachers.cached):
        with pytest.raises(UserError, match=r"weights: expected one above zero for each of 2"):
            make(models, weights=(1.0, 2.0, 3.0))
        with pytest.raises(UserError, match=r"weights: expected one above zero.*got \[1.0, -1.0\]"):
            make(models, weights=(1.0, -1.0))
        assert make(models).identity != make(models, weights=(1.0, 2.0)).identity


def test_a_teacher_gets_no_gradient(data):
    teacher = teachers.live([TEACHER])
    batches = data(PROCESSORS, 0)
    frozen = teacher.join(STUDENT.spec, LOSS, batches, ONE_DEVICE(), None)
    batch = batches.build(batches.plans(1)[0])
    rows = np.eye(ROWS, 16, dtype=np.float32)

    def value(frozen):
        taught = losses.Fields(**teacher.compute(frozen, batch))
        return losses.embedding_distance(rows, rows, batch.positive, fields=taught).sum()

    value, gradients = jax.jit(jax.value_and_grad(value))(frozen)
    assert abs(float(value) - 2 * ROWS) > 0.1  # it does look at the teacher: 1 - cosine is not 1
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_a_teacher_is_not_in_the_checkpoint(straight):
    *_, workdir = straight
    transform, mesh = optax.sgd(0.5), ONE_DEVICE()
    student = abstract_state(
        STUDENT.spec, transform, state_shardings(STUDENT.spec, transform, mesh)
    )
    with Checkpoints(workdir / "checkpoints") as saved:
        restored, position = saved.restore(student)  # refuses what the student does not have
    assert set(restored.params) == set(STUDENT.params)
    assert not any("teacher" in name for name in position)


def test_the_student_learns_and_the_summary_names_the_data(straight):
    trained, rows, summary, _ = straight
    assert rows[-1]["cosine"] < rows[0]["cosine"]
    assert "teacher" not in str(trained.params.keys())
    assert summary["steps"] == 4


@pytest.mark.long
def test_eight_devices_do_what_one_does(straight, data, tmp_path):
    teacher, mesh = teachers.live([TEACHER]), functools.partial(make_mesh, 2, 2, 2)
    path = "text/stack/layers/0/up/kernel"
    (placed,) = teacher.params(mesh())
    assert placed[path].sharding.spec == jax.sharding.PartitionSpec("fsdp", "tensor")
    _, rows, _ = run(tmp_path, data, teacher, steps=2, mesh=mesh)
    np.testing.assert_allclose(figures(rows), figures(straight[1][:2]), rtol=2e-5)


@pytest.mark.long
def test_a_resumed_run_is_the_straight_one(straight, data, tmp_path):
    run(tmp_path, data, teachers.live([TEACHER]), steps=2)
    _, rows, _ = run(tmp_path, data, teachers.live([TEACHER]))
    assert figures(rows).tolist() == figures(straight[1]).tolist()


@pytest.mark.slow
def test_a_head_learns_on_a_frozen_encoder(data, tmp_path):
    student = model(5, dense=(DenseSpec(16, 16),))
    trained, _, _ = run(
        tmp_path, data, teachers.live([TEACHER]), steps=2, model=student,
        optimizer=functools.partial(
            optimizers.adamw, schedule=lambda steps: optax.constant_schedule(0.1), frozen="^text/"
        ),
    )  # fmt: skip
    for path, value in student.params.items():
        assert np.array_equal(trained.params[path], value) == path.startswith("text/"), path


@pytest.mark.slow
def test_a_run_for_eight_bits_ends_on_them(straight, data, tmp_path):
    trained, rows, _ = run(tmp_path, data, teachers.live([TEACHER]), steps=2, quantize=int8_weights)
    assert figures(rows).tolist() != figures(straight[1][:2]).tolist()
    np.testing.assert_allclose(figures(rows)[0], figures(straight[1])[0], rtol=0.1)
    for path, value in trained.params.items():
        again = int8_weights({path: value})[path]
        np.testing.assert_allclose(again, value, atol=1e-6, err_msg=path)


def test_a_resume_with_another_teacher_is_refused(straight, data):
    with pytest.raises(UserError, match="or the teacher, so the run cannot go on"):
        run(straight[-1], data, teachers.live([model(4)]), steps=6)


@pytest.mark.long
def test_a_cache_is_the_live_teacher_and_calls_no_model(
    straight, data, cache, tmp_path, monkeypatch
):
    folder, count = cache
    assert count == 2 * PAIRS  # every text of the run once, though the run is longer than an epoch

    def never(*_):
        raise AssertionError("the teacher was called")

    monkeypatch.setattr(TeacherModel, "encode", never)
    monkeypatch.setattr(TeacherModel, "examples", never)
    _, rows, _ = run(tmp_path, data, teachers.cached([TEACHER], folder=str(folder)))
    assert figures(rows).tolist() != figures(straight[1]).tolist()  # rounded, so another route
    np.testing.assert_allclose(figures(rows), figures(straight[1]), rtol=2e-3)


def test_a_killed_lesson_goes_on(data, cache, tmp_path, monkeypatch):
    folder, count = cache
    add, shards = RowCache.add, []

    def dies(self, keys, rows):
        if len(shards) == 2:  # a shard that a killed process left half-written
            (self.folder / ".000002.partial-1-ab").mkdir()
            (self.folder / ".000002.partial-1-ab" / "vectors.npy").write_bytes(b"half")
            raise KeyboardInterrupt
        shards.append(len(keys))
        add(self, keys, rows)

    own = functools.partial(teachers.cached, [TEACHER], folder=str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(RowCache, "add", dies)
        with pytest.raises(KeyboardInterrupt):
            taught(data, own(), shard_rows=5)
    assert shards == [5, 5]
    assert taught(data, own(), shard_rows=5) == count - 10
    assert taught(data, own(), shard_rows=5) == 0
    whole = RowCache(folder / "scratch", TeacherModel(TEACHER).fingerprint, 16)
    again = RowCache(tmp_path / "scratch", TeacherModel(TEACHER).fingerprint, 16)
    keys = TeacherModel(TEACHER).keys("document", [f"tell {i * i}" for i in range(PAIRS)])
    np.testing.assert_allclose(again.rows(keys), whole.rows(keys), atol=1e-3)
    expected = Embedder(TEACHER).encode([f"tell {i * i}" for i in range(PAIRS)])
    np.testing.assert_allclose(whole.rows(keys), expected, rtol=2**-11, atol=1e-6)


def test_a_teacher_that_changed_by_one_byte_is_refused(data, tmp_path):
    place = tmp_path / "teacher"
    saving.save(TEACHER, place)
    own = functools.partial(teachers.cached, [str(place)], folder=str(tmp_path / "cache"))
    batches = data(PROCESSORS, 0)
    taught(data, own(), steps=1)
    own().join(STUDENT.spec, LOSS, batches, ONE_DEVICE(), None)
    weights = place / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-4] ^= 1
    weights.write_bytes(content)
    with pytest.raises(
        UserError, match=r"the rows of another teacher \(fingerprint .* have changed"
    ):
        own().join(STUDENT.spec, LOSS, batches, ONE_DEVICE(), None)


def test_a_missing_text_names_the_command(data, tmp_path):
    (tmp_path / "config.gin").touch()
    own = functools.partial(teachers.cached, [TEACHER], folder=str(tmp_path / "cache"))
    command = f"run `gemb teach --gin_file={tmp_path}/config.gin`"
    with pytest.raises(UserError, match=f"no vectors of the current teacher.*{command}"):
        run(tmp_path, data, own())
    taught(data, own(), steps=1)
    with pytest.raises(UserError, match=rf"no vector of the query 'ask \d+'; {command}"):
        run(tmp_path, data, own())


def test_teachers_that_do_not_fit_are_one_line(data, tmp_path):
    batches = data(PROCESSORS, 0)

    def join(teacher, loss=LOSS):
        teacher.join(STUDENT.spec, loss, batches, ONE_DEVICE(), None)

    with pytest.raises(UserError, match="scratch and scratch are the same model"):
        teachers.live([TEACHER, TEACHER])
    with pytest.raises(UserError, match="student's vectors are of unit length, but the teacher's"):
        join(teachers.live([model(2, normalize=False)]))
    with pytest.raises(UserError, match=r"teacher_query: expected .*\(4, 16\), got \(4, 8\)"):
        join(teachers.live([model(2, width=8)]))
    with pytest.raises(UserError, match=r"query_length: .*99 exceeds the model's 32 positions"):
        teachers.live([TEACHER], query_length=99)
    with pytest.raises(UserError, match="the loss does not read the teacher's fields"):
        join(teachers.live([TEACHER]), losses.info_nce)
    scored = teachers.scored("any", folder=str(tmp_path))
    with pytest.raises(UserError, match="the loss does not read the teacher's fields"):
        scored.check(STUDENT.spec, losses.info_nce)
    with pytest.raises(UserError, match="without hard negatives a query has only one candidate"):
        join(scored, losses.margin_mse)
    with pytest.raises(UserError, match="teacher_query: expected the teacher's vectors"):
        losses.embedding_distance(*np.zeros((2, 4, 8), np.float32), np.arange(4))
    with pytest.raises(UserError, match="expected a list of one or more"):
        teachers.live([])
    with pytest.raises(UserError, match="has no cache to fill"):
        taught(data, teachers.live([TEACHER]))


def test_texts_that_the_teacher_cuts_are_told_with_their_share(capsys):
    teacher = teachers.live([model(2)])
    for _ in range(2):  # once only
        teacher.fields(["short"] * 60, ["far more than sixteen bytes"] * 20)
    assert capsys.readouterr().err == (
        "warning: the teacher scratch cuts 25.0% of the texts to 16 tokens and ignores the rest\n"
    )


@pytest.fixture
def files(tmp_path):
    texts = [f"{word} {i}" for word in ("ask", "tell") for i in range(PAIRS**2)]
    rows = np.random.default_rng(0).normal(size=(len(texts), 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    (tmp_path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))

    def write(rows):
        np.save(tmp_path / "rows.npy", rows)
        return teachers.vectors(str(tmp_path / "texts.txt"), str(tmp_path / "rows.npy"))

    return write, rows


def test_vectors_of_files_are_found_by_their_texts(files, data):
    write, rows = files
    teacher = write(rows)
    found = teacher.fields(["ask 3"], ["tell 4", ""])
    np.testing.assert_array_equal(found["teacher_query"], rows[[3]])
    np.testing.assert_array_equal(found["teacher_document"], [rows[PAIRS**2 + 4], np.zeros(16)])
    teacher.join(STUDENT.spec, LOSS, data(PROCESSORS, 0), ONE_DEVICE(), None)
    with pytest.raises(UserError, match="it lacks the text 'nobody' of the training data"):
        teacher.fields(["nobody"], ["tell 1"])
    assert write(-rows).identity != teacher.identity


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-1], "1151 vectors for the 1152 texts"),
        (lambda rows: rows[:, :0], r"expected floats .*\(1152, 0\)"),
        (lambda rows: rows[:, 0], r"expected floats \[texts, dim\], got float32 \(1152,\)"),
        (
            lambda rows: np.where(np.arange(len(rows))[:, None] == 7, np.nan, rows),
            "row 7 holds NaN",
        ),
    ],
)
def test_files_of_vectors_that_do_not_fit(files, change, message):
    write, rows = files
    with pytest.raises(UserError, match=message):
        write(change(rows))


def test_vectors_of_another_length_do_not_meet_a_normalised_student(files, data):
    write, rows = files
    with pytest.raises(UserError, match=r"bind adapt\.load\.normalize"):
        write(3 * rows).check(STUDENT.spec, LOSS)


DEEP = model(6, layers=2)
DEEP = DEEP.with_params(  # so that its layers do something
    {p: 10 * value if is_layer_kernel(p) else value for p, value in DEEP.params.items()}
)
LAYERWISE = functools.partial(
    losses.weighted_sum,
    terms={"layerwise": losses.layerwise_distance, "cosine": losses.embedding_distance},
)


def one_layer(layer):
    """A student of this layer of DEEP."""
    encoder = DEEP.spec.encoder
    stack = dataclasses.replace(encoder.stack, layers=1)
    made = with_tower(DEEP, encoder=dataclasses.replace(encoder, stack=stack))
    return made.with_params(
        {
            path: DEEP.params[path.replace("layers/0/", f"layers/{layer}/")]
            for path in functional(made.spec).shapes
        }
    )


@pytest.mark.long
def test_layers_learn_from_layers(data, tmp_path):
    options = {"model": one_layer(1), "loss": LAYERWISE}
    options["optimizer"] = lambda steps: optax.sgd(1e-3)
    _, rows, _ = run(tmp_path / "one", data, teachers.layerwise(DEEP), **options)
    assert rows[-1]["layerwise"] < rows[0]["layerwise"]
    assert rows[-1]["cosine"] < rows[0]["cosine"]
    mesh = functools.partial(make_mesh, 2, 2, 2)
    _, spread, _ = run(tmp_path / "eight", data, teachers.layerwise(DEEP), mesh=mesh, **options)
    np.testing.assert_allclose(figures(spread), figures(rows), rtol=5e-5)
    other = teachers.layerwise(DEEP, layers=(1,))
    with pytest.raises(UserError, match="or the teacher, so the run cannot go on"):
        run(tmp_path / "one", data, other, steps=6, **options)


@pytest.mark.long
def test_a_layer_is_held_against_the_one_that_is_named(data, tmp_path):
    teacher = teachers.layerwise(DEEP, layers=(1,))
    _, rows, _ = run(tmp_path, data, teacher, steps=1, model=one_layer(0), loss=LAYERWISE)
    assert rows[0]["layerwise"] < 1e-10
    assert rows[0]["cosine"] > 1e-3  # the embedding is that of both


def test_layers_that_do_not_fit_are_one_line(data, tmp_path):
    def join(student, loss=LAYERWISE, **options):
        batches = data(PROCESSORS, 0)
        teacher = teachers.layerwise(DEEP, **options)
        teacher.join(student.spec, loss, batches, ONE_DEVICE(), None)

    with pytest.raises(UserError, match=r"expected one of scratch's 2, .* got \(3,\)"):
        join(one_layer(0), layers=(3,))
    with pytest.raises(UserError, match=r"each of the student's 1, got \(1, 2\)"):
        join(one_layer(0), layers=(1, 2))
    with pytest.raises(UserError, match="scratch has width 16, but the student has 8"):
        join(model(1, width=8))
    with pytest.raises(UserError, match="student has two towers"):
        join(two_towers(model(1), model(2)))
    with pytest.raises(UserError, match="two towers; layerwise teaching needs"):
        teachers.layerwise(two_towers(model(1), model(2)))
    with pytest.raises(UserError, match="the loss does not read the teacher's fields"):
        join(one_layer(0), losses.info_nce)
    with pytest.raises(ValueError, match="query_microbatches: the objective layerwise"):
        run(
            tmp_path, data, teachers.layerwise(DEEP), model=one_layer(0), loss=LAYERWISE,
            query_microbatches=2,
        )  # fmt: skip


def test_scores_stand_at_their_own_documents(tmp_path, monkeypatch):
    rows = [
        {
            "query": f"ask {i}",
            "document": f"tell {i}",
            "negatives": [f"not {i}", f"nor {i}"][: i % 3],
        }
        for i in range(9)
    ]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = functools.partial(
        pipeline.pairs, batch_size=9, rates={"all": 1.0}, folder=str(tmp_path), negatives=2
    )

    def length(query, document):  # told from its text, so that the test knows it too
        return len(query) + 2.0 * len(document)

    class Lengths:
        def scores(self, pairs):
            return np.array([length(*pair) for pair in pairs])

    monkeypatch.setattr(cross_encoder, "CrossEncoder", lambda *_, **__: Lengths())
    saving.save(TEACHER, tmp_path / "cross")
    teacher = teachers.scored(str(tmp_path / "cross"), scale=0.5, folder=str(tmp_path / "cache"))
    assert taught(data, teacher, steps=1) == 9 + sum(i % 3 for i in range(9))
    batches = data(PROCESSORS, 0)
    teacher.join(STUDENT.spec, losses.margin_mse, batches, ONE_DEVICE(), None)
    texts = {}
    fields = teacher.fields
    batches.annotate_with(lambda *sides: texts.update(sides=sides) or fields(*sides), "")
    batch = batches.build(batches.plans(1)[0])
    found = np.asarray(teacher.compute(None, batch)["teacher_scores"])
    queries, documents = texts["sides"]
    for i, query in enumerate(queries):
        number = query.split()[1]
        for j, document in enumerate(documents):
            own = document.split()[1:] == [number]
            assert found[i, j] == (0.5 * length(query, document) if own else 0)
    assert (found != 0).sum() == 9 + 9


def test_each_tower_of_a_teacher_has_its_own_rows():
    one = TeacherModel(model(2))
    two = TeacherModel(two_towers(model(2), model(3)))
    assert (one.keys("query", ["x"]) == one.keys("document", ["x"])).all()
    assert (two.keys("query", ["x"]) != two.keys("document", ["x"])).all()


def test_vectors_of_another_precision_are_others():
    executions = (Execution(), Execution(dtype="bfloat16"), Execution(matmul_dtype="bfloat16"))
    taught = [teachers.cached([TEACHER], execution=execution) for execution in executions]
    assert len({one.identity for one in taught}) == 3
    assert len({int(one.models[0].keys("query", ["x"])[0]) for one in taught}) == 3
