import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gemb import losses
from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.execution import Execution
from gemb.models.functional import functional, initial_params
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.structs import Batch, Tokens
from gemb.training import optimizers, schedules
from gemb.training.objectives.objective import Encoding, embed
from gemb.training.state import TrainState, abstract_state, state_shardings
from gemb.training.step import batch_loss, make_step

TOWER = TowerSpec(TextSpec(vocab=64, positions=16, stack=StackSpec(1, 16, 2, 32)))
SPEC = ModelSpec.of(TOWER)


def make_batch(rows=12):
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 64, (rows, 10)).astype(np.int32)
    tokens = Tokens(ids, np.ones_like(ids, bool))
    number = np.arange(rows, dtype=np.int32)
    real = np.ones(rows, bool)
    return Batch(tokens, Tokens(ids[:, ::-1], tokens.mask), number, number, number, real, real)


@pytest.fixture(scope="module")
def params():
    return jax.jit(lambda key: initial_params(SPEC, key))(jax.random.key(1))


def value_and_gradients(params, *, key=None, **options):
    loss, encoding = partial(losses.info_nce, symmetric=True), Encoding(functional(SPEC), **options)

    def value(p):
        return batch_loss(encoding, loss, p, make_batch(), key=key)[0]

    return jax.jit(jax.value_and_grad(value))(params)


@pytest.fixture(scope="module")
def one_pass(params):
    return value_and_gradients(params)


@pytest.mark.long
@pytest.mark.parametrize("layers", ["scan", "unroll"])
def test_gradient_caching_changes_neither_loss_nor_gradients(params, one_pass, layers):
    value, grads = value_and_gradients(
        params,
        query_microbatches=3,
        document_microbatches=4,
        execution=Execution(layers=layers, remat="full"),
    )
    plain_value, plain = one_pass
    assert float(value) == pytest.approx(float(plain_value), rel=1e-6)
    for path, gradient in plain.items():
        np.testing.assert_allclose(grads[path], gradient, rtol=1e-4, atol=1e-6, err_msg=path)


@pytest.mark.long
def test_a_recomputed_microbatch_draws_the_same_dropout(params):
    """By differences: were the mask of the backward pass another, the slope would be off."""
    options = {
        "key": jax.random.key(7),
        "query_microbatches": 3,
        "document_microbatches": 4,
        "execution": Execution(dropout=0.4),
    }
    _, gradients = value_and_gradients(params, **options)
    path = "text/stack/layers/0/up/kernel"
    direction = np.asarray(gradients[path]) / np.linalg.norm(gradients[path])

    def along(step):
        moved = params | {path: params[path] + step * direction}
        return float(value_and_gradients(moved, **options)[0])

    slope = (along(1e-2) - along(-1e-2)) / 2e-2
    assert slope == pytest.approx(np.linalg.norm(gradients[path]), rel=2e-2)


@pytest.mark.long
def test_gradient_caching_keeps_memory_flat(params):
    def temporaries(rows, microbatches):
        ids = np.ones((rows, 16), np.int32)

        def value(p):
            def apply(tokens, key):
                return functional(SPEC).document.embed(p, tokens)

            tokens = Tokens(ids, ids > 0)
            return (embed(apply, tokens, microbatches=microbatches) ** 2).sum()

        compiled = jax.jit(jax.grad(value)).lower(params).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporaries(512, 1) > 8 * temporaries(512, 32)
    assert temporaries(2048, 128) < 2 * temporaries(512, 32)


@pytest.mark.long
def test_rows_that_only_fill_up_count_for_nothing(params):
    batch = make_batch()
    shorter = jax.tree.map(lambda x: x[:9], batch)
    real = np.arange(12) < 9
    masked = batch._replace(query_mask=real, document_mask=real)
    loss = jax.jit(partial(batch_loss, Encoding(functional(SPEC)), losses.info_nce))
    assert float(loss(params, masked)[0]) == pytest.approx(
        float(loss(params, shorter)[0]), rel=1e-6
    )


def test_microbatches_must_divide_the_rows():
    tokens = Tokens(np.zeros((10, 4), np.int32), np.ones((10, 4), bool))
    with pytest.raises(ValueError, match="3 does not divide 10 rows"):
        embed(lambda ids, mask: ids, tokens, microbatches=3)


@pytest.mark.long
def test_frozen_parameters_stay_and_hold_no_moments(params):
    schedule = partial(schedules.warmup_linear, peak_rate=0.1, warmup_fraction=0.0)
    transform = optimizers.adamw(10, schedule=schedule, frozen=r"^text/token/")
    state = transform.init(params)
    gradients = {path: 1.0 + value for path, value in params.items()}
    updates, _ = transform.update(gradients, state, params)
    changed = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(changed["text/token/table"], params["text/token/table"])
    assert np.any(changed["text/norm/scale"] != params["text/norm/scale"])
    shapes = [leaf.shape for leaf in jax.tree.leaves(state)]
    assert params["text/token/table"].shape not in shapes


def test_a_pattern_that_freezes_nothing_is_told(params):
    schedule = partial(schedules.warmup_linear, peak_rate=0.1)
    with pytest.raises(UserError, match=r"frozen: '\^txet/' matches no parameter"):
        optimizers.adamw(10, schedule=schedule, frozen="^txet/").init(params)


def test_a_rate_that_scales_nothing_is_told(params):
    schedule = partial(schedules.warmup_linear, peak_rate=0.1)
    for options in ({}, {"frozen": "^text/token/"}):
        made = optimizers.adamw(10, schedule=schedule, rate_scales={"^dnese/": 40.0}, **options)
        with pytest.raises(UserError, match=r"rate_scales: '\^dnese/' matches no parameter"):
            made.init(params)


@pytest.mark.long
def test_a_loss_that_draws_does_so_at_each_step(params):
    def loss(query, document, positive, *, fields):
        return jax.random.uniform(fields.key, positive.shape) + 0 * query[:, 0]

    def two(seed):
        transform, values = optax.sgd(0.0), []
        state = TrainState(jnp.int32(0), jax.tree.map(jnp.copy, params), transform.init(params))
        step = make_step(Encoding(functional(SPEC)), loss, transform, seed=seed)
        for _ in range(2):
            state, metrics = step(state, make_batch())
            values.append(float(metrics["loss"]))
        return values

    assert two(0) == two(0)
    assert len({*two(0), *two(1)}) == 4


MAKERS = [optimizers.adamw, optimizers.lion, optimizers.muon, optimizers.adafactor]


@pytest.mark.long
@pytest.mark.parametrize("make", MAKERS)
def test_every_optimizer_scales_rates_and_freezes_by_path(params, make):
    schedule = partial(schedules.warmup_linear, peak_rate=0.1, warmup_fraction=0.0)
    up, down = (f"text/stack/layers/0/{name}/kernel" for name in ("up", "down"))
    gradients = {path: 1.0 + value for path, value in params.items()}

    def updates(**options):
        transform = make(10, schedule=schedule, **options)
        return transform.update(gradients, transform.init(params), params)[0]

    plain = updates()
    assert all(np.any(update != 0) for path, update in plain.items() if "layers/0" in path)
    scaled = updates(rate_scales={r"/up/": 0.25, r"/layers/": 2.0}, frozen=r"^text/token/")
    clip = optax.tree.norm(gradients) / optax.tree.norm(
        {path: g for path, g in gradients.items() if not path.startswith("text/token/")}
    )
    assert clip > 1  # frozen gradients leave the norm, so what is left differs by that much at most
    np.testing.assert_allclose(scaled[up], 0.25 * plain[up], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(scaled[down], 2.0 * plain[down], rtol=1e-3, atol=1e-6)
    assert not np.any(scaled["text/token/table"])


@pytest.mark.parametrize("make", MAKERS)
def test_every_optimizer_has_a_place_for_its_state(make):
    schedule = partial(schedules.warmup_linear, peak_rate=0.1)
    for frozen in ("", "^text/token/"):
        transform = make(10, schedule=schedule, frozen=frozen)
        places = state_shardings(SPEC, transform, make_mesh(2, 2, 2))
        assert jax.tree.leaves(abstract_state(SPEC, transform, places).optimizer)


@pytest.mark.parametrize("make", [optimizers.adamw, optimizers.lion, optimizers.muon])
def test_decay_leaves_biases_norms_and_positions_alone(params, make):
    schedule = partial(schedules.warmup_linear, peak_rate=0.1, warmup_fraction=0.0)
    transform = make(10, schedule=schedule, weight_decay=0.5)
    zeros = {path: np.zeros_like(value) for path, value in params.items()}
    updates, _ = transform.update(zeros, transform.init(params), params)
    decayed = {path for path, update in updates.items() if np.any(update != 0)}
    kernels = {path for path in params if path.endswith("kernel")}
    assert decayed == kernels | {"text/token/table"}


def test_schedules_reach_their_peak_and_their_end():
    for make in (
        schedules.warmup_linear,
        schedules.warmup_cosine,
        schedules.warmup_stable_decay,
    ):
        schedule = make(2.0, steps=100, warmup_fraction=0.1)
        rates = np.array([schedule(step) for step in range(101)])
        assert rates[0] == 0
        assert rates.argmax() == 10
        assert rates.max() == pytest.approx(2.0)
        assert rates[100] == pytest.approx(0.0, abs=1e-6)
        assert (np.diff(rates[10:]) <= 1e-6).all()
    with pytest.raises(ValueError, match="warmup_fraction"):
        schedules.warmup_linear(1.0, 10, warmup_fraction=1.0)


def test_spec_refuses_what_it_cannot_be():
    with pytest.raises(ValueError, match="pooling"):
        dataclasses.replace(TOWER, pooling="median")
    with pytest.raises(ValueError, match="heads: 3"):
        StackSpec(1, 16, 3, 32)
    with pytest.raises(ValueError, match="between 1 and 16, got 17"):
        dataclasses.replace(TOWER, widths=(17,))
