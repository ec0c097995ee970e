import jax
import numpy as np
import pytest
from tiny_models import with_tower

from gemb.checks import UserError
from gemb.models.functional import initial_params
from gemb.models.scratch import from_scratch
from gemb.processors.text import of_bytes
from gemb.training.checkpoints.soup import slerp, soup

PATH = "text/stack/layers/0/up/kernel"


def model(seed: int, width: int = 8):
    made = from_scratch(of_bytes(), layers=1, width=width, heads=2, mlp=16)
    params = jax.jit(lambda: initial_params(made.spec, jax.random.key(seed)))()
    return made.trained(made.spec, jax.device_get(params))


@pytest.fixture(scope="module")
def models():
    return [model(seed) for seed in range(3)]


def test_the_mean_weighs_each_model_as_asked(models):
    values = [one.params[PATH].astype(np.float64) for one in models]
    np.testing.assert_allclose(soup(models).params[PATH], sum(values) / 3, atol=1e-7)
    expected = (2 * values[0] + 0 * values[1] + 6 * values[2]) / 8
    np.testing.assert_allclose(soup(models, [1, 0, 3]).params[PATH], expected, atol=1e-7)


def test_the_arc_keeps_the_length_and_the_shares_of_the_angle(models):
    first, second = (one.params[PATH].ravel().astype(np.float64) for one in models[:2])
    first, second = first / np.linalg.norm(first), second / np.linalg.norm(second)
    unit = [one.trained(one.spec, one.params | {PATH: value.reshape(8, 16)})
            for one, value in zip(models, (first, second), strict=False)]  # fmt: skip
    between = slerp(unit, 0.25).params[PATH].ravel()
    assert np.linalg.norm(between) == pytest.approx(1, abs=1e-6)
    whole = np.arccos(first @ second)
    assert np.arccos(first @ between) == pytest.approx(0.25 * whole, abs=1e-4)
    ends = [slerp(models[:2], end).params[PATH] for end in (0.0, 1.0)]
    np.testing.assert_allclose(ends[0], models[0].params[PATH], atol=1e-7)
    np.testing.assert_allclose(ends[1], models[1].params[PATH], atol=1e-7)
    same = slerp([models[0], models[0]], 0.5)
    np.testing.assert_allclose(same.params[PATH], models[0].params[PATH], atol=1e-7)


def test_what_does_not_fit_is_told(models):
    with pytest.raises(
        UserError, match=r"model 2 does not fit the first: .* is \(16,\), not \(8,\)"
    ):
        soup([models[0], model(0, width=16)])
    with pytest.raises(UserError, match="computed differently from the first: pooling is 'cls'"):
        soup([models[0], with_tower(models[1], pooling="cls")])
    with pytest.raises(UserError, match="expected 3 numbers of 0 or more"):
        soup(models, [1, 2])
    with pytest.raises(UserError, match="two or more models, got 1"):
        soup(models[:1])
    with pytest.raises(UserError, match="expected two models, got 3"):
        slerp(models)
    with pytest.raises(UserError, match=r"in \[0, 1\], got 1.5"):
        slerp(models[:2], 1.5)


@pytest.mark.parametrize("weights", [(1.0, float("inf")), (1e308, 1e308), (float("nan"), 1.0)])
def test_weights_without_a_sum_are_refused(models, weights):
    with pytest.raises(UserError, match="with a finite sum"):
        soup(models[:2], weights)
