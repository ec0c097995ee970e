"""What the loop keeps and tells: averaged weights, scores, the best checkpoint, a trace."""

import dataclasses
import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_models import redrawn
from tiny_runs import MODEL, NESTED, Batches, run

from gemb.checks import UserError
from gemb.data import pipeline
from gemb.data.mixing import Task
from gemb.data.sources.reading import files
from gemb.inference.embedder import Embedder
from gemb.metrics import geometry
from gemb.models.model import Model
from gemb.parallel.mesh import make_mesh
from gemb.runs.records import read_metrics
from gemb.training import optimizers
from gemb.training.checkpoints.averaging import averaged, with_ema
from gemb.training.optimizers import transformation
from gemb.training.profile import parse_steps
from gemb.training.schedules import warmup_linear
from gemb.training.state import TrainState
from gemb.training.watching import watch

ONE_DEVICE = partial(make_mesh, 1, 1, 1, devices=jax.devices()[:1])
SGD = partial(optax.sgd, 0.5)


def checkpoints(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def test_the_average_is_that_of_the_weights_after_each_step():
    transform, params, expected = with_ema(optax.sgd(0.5), 0.6), {"w": np.ones(2)}, np.ones(2)
    state = transform.init(params)
    for gradient in ([1.0, -2.0], [0.5, 0.0], [-3.0, 4.0]):
        updates, state = transform.update({"w": np.array(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        expected = 0.6 * expected + 0.4 * np.asarray(params["w"])
    np.testing.assert_allclose(averaged(TrainState(0, params, state))["w"], expected, rtol=1e-6)


@pytest.mark.long
def test_the_average_is_what_is_judged_and_returned(tmp_path):
    seen = []
    evaluators = {"look": lambda model: seen.append(model.params) or {"score": 1}}
    trained, _ = run(tmp_path, steps=2, optimizer=SGD, ema_decay=0.5, evaluators=evaluators)
    plain = read_metrics(tmp_path)[-1]["parameter_norm"]
    norm = np.sqrt(sum(np.sum(np.square(p, dtype=np.float64)) for p in trained.params.values()))
    assert abs(norm - plain) > 1e-4 * plain
    for path, value in trained.params.items():
        np.testing.assert_array_equal(value, seen[0][path])


@pytest.mark.long
def test_the_momentum_of_an_optimizer_is_no_average():
    params = {"w/kernel": jnp.full((4, 4), 7.0)}
    schedule = partial(warmup_linear, peak_rate=1e-3)
    optimizer = partial(optimizers.adafactor, schedule=schedule, momentum=0.9)
    for decay in (0.0, 0.9):
        made = transformation(lambda steps: optimizer(steps), steps=5, ema_decay=decay)
        _, moments = made.update(params, made.init(params), params)
        state = TrainState(jnp.ones((), jnp.int32), params, moments)
        np.testing.assert_allclose(averaged(state)["w/kernel"], 7.0, atol=0.1)


@pytest.mark.parametrize(
    "name",
    ["checkpoint_steps", "keep_checkpoints", "query_microbatches", "document_microbatches"],
)
def test_numbers_below_one_are_told(tmp_path, name):
    with pytest.raises(UserError, match=f"{name}: expected 1 or more, got 0"):
        run(tmp_path, **{name: 0})


def test_a_bad_step_leaves_the_average_alone():
    transform = optax.apply_if_finite(with_ema(optax.sgd(1.0), 0.5), 3)
    params = {"w": np.ones(2, np.float32)}
    state = transform.init(params)
    for gradient, expected in ((np.nan, 1.0), (2.0, 0.0)):  # 1 - 2 = -1, averaged with 1
        _, state = transform.update({"w": np.full(2, gradient, np.float32)}, state, params)
        np.testing.assert_array_equal(averaged(TrainState(0, params, state))["w"], expected)
    assert averaged(TrainState(0, params, optax.sgd(1.0).init(params))) is params


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_decay_out_of_range_is_told(decay):
    with pytest.raises(ValueError, match="ema_decay"):
        with_ema(SGD(), decay)


@pytest.mark.long
def test_scores_are_recorded_and_the_best_checkpoint_is_returned(tmp_path):
    scores, seen = iter([0.2, 0.9, 0.4]), []

    def evaluate(model):
        seen.append({path: value.copy() for path, value in model.params.items()})
        assert jax.sharding.get_mesh().size == 1
        return {"spearman": next(scores)}

    options = {"evaluators": {"sts": evaluate}, "evaluate_steps": 2, "checkpoint_steps": 100}
    trained, summary = run(
        tmp_path, keep_checkpoints=1, keep_best="sts/spearman", optimizer=SGD, **options
    )
    told = {
        row["step"]: row["sts/spearman"] for row in read_metrics(tmp_path) if "sts/spearman" in row
    }
    assert told == {2: 0.2, 4: 0.9, 6: 0.4}
    assert checkpoints(tmp_path) == [4, 6]
    assert summary["best_step"] == 4
    for path, value in trained.params.items():
        np.testing.assert_array_equal(value, seen[1][path])
    assert any(np.any(seen[1][path] != seen[2][path]) for path in seen[1])


@pytest.mark.long
def test_a_score_that_nobody_gives_is_told(tmp_path):
    with pytest.raises(UserError, match=r"'sts/pearson' is not a score of the evaluators \["):
        run(tmp_path / "a", keep_best="sts/pearson")
    evaluators = {"sts": lambda model: {"spearman": 1.0}}
    with pytest.raises(UserError, match=r"no score 'sts/pearson' among \['sts/spearman'\]"):
        run(tmp_path / "b", steps=1, evaluators=evaluators, keep_best="sts/pearson")


@pytest.mark.long
def test_every_so_many_steps_one_checkpoint_is_kept(tmp_path):
    run(tmp_path, steps=7, checkpoint_steps=1, keep_checkpoints=1, keep_every=3)
    assert checkpoints(tmp_path) == [3, 6, 7]


@pytest.mark.long
def test_a_trace_is_left_for_tensorboard(tmp_path):
    run(tmp_path, profile_steps=(3, 4))
    traces = tmp_path / "tensorboard" / "plugins" / "profile"
    assert list(traces.rglob("*.xplane.pb"))
    run(tmp_path / "half", steps=3)
    run(tmp_path / "half", profile_steps=(3, 4))  # goes on within those steps
    assert list((tmp_path / "half" / "tensorboard" / "plugins").rglob("*.xplane.pb"))


@pytest.mark.long
def test_a_resumed_run_says_so(tmp_path):
    assert "resumed_from" not in run(tmp_path, steps=3)[1]
    assert run(tmp_path)[1]["resumed_from"] == 3


@pytest.mark.parametrize(("text", "steps"), [("", None), ("10:15", (10, 15)), ("3", (3, 3))])
def test_profile_steps_are_read(text, steps):
    assert parse_steps(text) == steps


@pytest.mark.parametrize("text", ["a", "5:2", "0:3", "1:b"])
def test_profile_steps_that_are_none_are_told(text):
    with pytest.raises(UserError, match="--profile_steps: expected FIRST:LAST"):
        parse_steps(text)


@pytest.mark.long
def test_figures_of_a_batch_equal_float64(monkeypatch):
    random = np.random.default_rng(0)
    batch = next(Batches(rows=16, negatives=2))
    vectors = [random.normal(size=(rows, 5)).astype(np.float32) for rows in (16, 48)]
    query, document = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in vectors)
    found = watch(query, document, batch)
    pairs = batch.query_mask & batch.document_mask[batch.positive]
    scores = np.where(batch.document_mask, query.astype(np.float64) @ document.T, -9)
    hits = (scores.argmax(1) == batch.positive)[batch.query_mask]
    assert float(found["accuracy"]) == pytest.approx(hits.sum() / 15)
    sides = query[pairs], document[batch.positive][pairs]
    share = pairs.sum() / 15  # the mean is over the queries
    even = np.mean([geometry.uniformity(side) for side in sides])
    assert float(found["uniformity"]) == pytest.approx(even * share, rel=1e-5)
    assert float(found["alignment"]) == pytest.approx(
        np.sum((sides[0] - sides[1]) ** 2) / 15, rel=1e-5
    )
    monkeypatch.setattr("gemb.training.watching.ROWS", 8)
    half = watch(query, document, batch)
    hits = (scores.argmax(1) == batch.positive)[::2][batch.query_mask[::2]]
    assert float(half["accuracy"]) == pytest.approx(hits.mean())


@pytest.mark.long
def test_rows_tell_rates_memory_and_how_the_vectors_lie(tmp_path):
    trained, _ = run(tmp_path, steps=2, **NESTED)
    row = read_metrics(tmp_path)[-1]
    assert {"loss", "accuracy", "alignment", "uniformity", "spread", "gradient_norm"} <= set(row)
    norm = np.sqrt(sum(np.sum(np.square(p, dtype=np.float64)) for p in trained.params.values()))
    assert row["parameter_norm"] == pytest.approx(norm, rel=1e-5)
    assert row["memory_mib"] > 50
    assert 0 <= row["data_wait_fraction"] <= 1
    assert row["pairs_per_second"] > 0
    assert row["model_tflops_per_second"] > 0
    assert "mfu" not in row  # the peak of a CPU is not known


@pytest.mark.long
@pytest.mark.parametrize("pooled", [True, False])
def test_training_embeds_texts_as_the_model_itself_does(tmp_path, pooled):
    pairs = [{"query": f"ask {i}", "document": f"tell {i * i}, and more"} for i in range(8)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    model = redrawn(MODEL.with_prompts({"query": "find: ", "document": "in a text: "}), 0)
    prompts = model.document.processor.prompts._replace(pooled=pooled)
    processor = dataclasses.replace(model.document.processor, prompts=prompts)
    model = Model.of(dataclasses.replace(model.document, processor=processor))
    data = partial(pipeline.pairs, batch_size=8, rates={"all": 1}, folder=str(tmp_path))
    run(tmp_path / "run", model=model, data=data, steps=1, query_microbatches=2, mesh=ONE_DEVICE)
    embedder = Embedder(model)
    query, document = (
        embedder.encode([pair[kind] for pair in pairs], kind=kind) for kind in pairs[0]
    )
    expected = np.square(query - document).sum(axis=1).mean()
    assert read_metrics(tmp_path / "run")[0]["alignment"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.long
def test_prompts_that_training_does_not_read_are_told(tmp_path, capsys):
    pairs = [{"query": f"ask {i}", "document": f"tell {i * i}, and more"} for i in range(8)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    task = Task(files(tmp_path / "all.jsonl"), query_prompts=("ask: ", "find: "))
    data = partial(pipeline.mixture, tasks={"all": task}, batch_size=8)
    run(tmp_path / "told", steps=1, data=data)
    said = capsys.readouterr().err
    assert (
        "warning: the model embeds each query with the prompt '', but training reads it with "
        "'ask: ' or 'find: ': a query prompt of the data replaces the model's" in said
    )
    assert "each document" not in said
    run(tmp_path / "quiet", steps=1, data=data, model=MODEL.with_prompts({"query": "ask: "}))
    assert "warning" not in capsys.readouterr().err
