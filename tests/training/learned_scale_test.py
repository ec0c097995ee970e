"""Learned temperature and bias of logits, as CLIP and SigLIP have them."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny_models import tiny
from tiny_runs import run

from gemb import losses
from gemb.checks import UserError
from gemb.losses.fields import Fields
from gemb.models.functional import BIAS, TEMPERATURE
from gemb.models.model import LogitScale, learned_scale
from gemb.parallel.mesh import make_mesh
from gemb.pretrained import saving
from gemb.pretrained.adapt import load
from gemb.runs.records import read_metrics

ONE = partial(make_mesh, devices=jax.devices()[:1])
SIGLIP = {"model": learned_scale(tiny(0)), "loss": losses.sigmoid, "mesh": ONE}


def formula(query, document, temperature, bias):
    """SigLIP's loss of each query, and its derivatives by log temperature and by bias."""
    scores = query @ document.T
    logits, z = scores / temperature + bias, 2 * np.eye(len(query)) - 1
    slope = -z / (1 + np.exp(z * logits))
    by_temperature = -(slope * scores / temperature).sum(1)
    return np.log1p(np.exp(-z * logits)).sum(1), by_temperature, slope.sum(1)


@pytest.mark.long
def test_the_sigmoid_loss_reads_the_learned_numbers():
    random = np.random.default_rng(0)
    rows = [random.normal(size=(5, 8)) for _ in range(2)]
    query, document = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in rows)

    def total(log, bias, form):
        fields = Fields(temperature=jnp.exp(log), bias=bias)
        return losses.sigmoid(
            query.astype("f4"), document.astype("f4"), jnp.arange(5), form=form, fields=fields
        ).sum()

    expected = formula(query, document, 0.3, -2.0)
    for form in ("dense", "blockwise"):
        given = (jnp.log(0.3), jnp.float32(-2.0), form)
        value, slopes = jax.value_and_grad(total, (0, 1))(*given)
        np.testing.assert_allclose(value, expected[0].sum(), rtol=1e-5)
        np.testing.assert_allclose(slopes, [x.sum() for x in expected[1:]], rtol=1e-4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("siglip")
    return run(workdir, **SIGLIP), workdir


def test_training_learns_both_and_records_them(trained):
    (model, summary), workdir = trained
    rows = read_metrics(workdir)
    assert rows[0]["temperature"] == pytest.approx(0.1, rel=1e-6)
    assert rows[0]["bias"] == -10.0
    assert summary["bias"] != -10.0
    assert summary["temperature"] != pytest.approx(0.1, rel=1e-5)
    scale = model.logit_scale
    assert np.exp(-scale.log) == pytest.approx(summary["temperature"], rel=1e-6)
    assert scale.bias == summary["bias"]
    assert not {TEMPERATURE, BIAS} & set(model.params)


@pytest.mark.slow
def test_a_resumed_run_learns_the_same_numbers(trained, tmp_path):
    run(tmp_path, steps=4, **SIGLIP)
    again = run(tmp_path, **SIGLIP)[0]
    assert again.logit_scale == trained[0][0].logit_scale


@pytest.mark.slow
def test_eight_devices_learn_what_one_learns(trained, tmp_path):
    eight = run(tmp_path, **SIGLIP | {"mesh": partial(make_mesh, 2, 2, 2)})[0].logit_scale
    one = trained[0][0].logit_scale
    assert eight.log == pytest.approx(one.log, abs=1e-5)
    assert eight.bias == pytest.approx(one.bias, abs=1e-5)


@pytest.mark.long
def test_a_factor_above_100_is_cut_after_each_step(tmp_path):
    model = learned_scale(tiny(0), kind="clip")
    fast = {"optimizer": lambda: optax.sgd(-10.0), "mesh": ONE, "steps": 3}
    made = run(tmp_path, model=model, **fast)[0]
    assert max(row["temperature"] for row in read_metrics(tmp_path)) < 10
    low = min(row["temperature"] for row in read_metrics(tmp_path))
    assert low >= 0.01 * (1 - 1e-6)
    assert made.logit_scale.log <= np.log(100) + 1e-6


def test_what_was_learned_is_saved_and_is_where_training_starts(trained, tmp_path):
    (model, _), _ = trained
    identity = saving.save(model, tmp_path / "model")
    again = load(str(tmp_path / "model"))
    assert again.logit_scale == model.logit_scale
    plain = saving.save(load(str(tmp_path / "model")).with_prompts({}), tmp_path / "again")
    assert plain == identity
    start = learned_scale(again)
    assert start.temperature == pytest.approx(np.exp(-model.logit_scale.log))
    assert start.bias == model.logit_scale.bias
    manifest = tmp_path / "model" / "gemb.json"
    manifest.write_text(manifest.read_text().replace('"log": ', '"logs": '))
    with pytest.raises(UserError, match="logit_scale"):
        load(str(tmp_path / "model"))


def test_settings_that_do_not_fit_are_one_line():
    with pytest.raises(UserError, match="kind: expected one of"):
        learned_scale(tiny(0), kind="clipped")
    with pytest.raises(UserError, match="they need a learned temperature"):
        dataclasses.replace(tiny(0), bias=1.0)
    scaled = dataclasses.replace(tiny(0), logit_scale=LogitScale(9.0))
    assert learned_scale(scaled, kind="clip").temperature == 0.01
