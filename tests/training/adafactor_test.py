"""Adafactor: against its formula, on a mesh, through a checkpoint."""

from functools import cache, partial

import jax
import numpy as np
import optax
import pytest

from gemb import losses
from gemb.models.encoders.text import TextSpec
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.parallel.placement import place_batch
from gemb.structs import Batch, Tokens
from gemb.training import optimizers, schedules
from gemb.training.checkpoints.storage import Checkpoints
from gemb.training.objectives.objective import Encoding
from gemb.training.state import abstract_state, initial_state, state_shardings
from gemb.training.step import make_step

SPEC = ModelSpec.of(TowerSpec(TextSpec(vocab=64, positions=16, stack=StackSpec(1, 16, 2, 32))))
SCHEDULE = partial(schedules.warmup_linear, peak_rate=0.05, warmup_fraction=0.0)
TRANSFORM = optimizers.adafactor(20, schedule=SCHEDULE, factored_from=8, momentum=0.5)
MOMENTLESS = optimizers.adafactor(20, schedule=SCHEDULE, factored_from=8)


def batch() -> Batch:
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 64, (16, 10)).astype(np.int32)
    number, real = np.arange(16, dtype=np.int32), np.ones(16, bool)
    tokens = Tokens(ids, np.ones_like(ids, bool))
    return Batch(tokens, Tokens(ids[:, ::-1], tokens.mask), number, number, number, real, real)


@cache
def step_on(mesh):
    places = state_shardings(SPEC, TRANSFORM, mesh)
    return make_step(Encoding(functional(SPEC)), losses.info_nce, TRANSFORM, out_shardings=places)


def steps_of(mesh, state, count):
    step, seen = step_on(mesh), []
    with jax.set_mesh(mesh):
        placed = place_batch(batch(), mesh)
        for _ in range(count):
            state, metrics = step(state, placed)
            seen.append(float(metrics["loss"]))
    return state, seen


@pytest.fixture(scope="module")
def meshes():
    return make_mesh(2, 2, 2), make_mesh(1, 1, 1, devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def trained(meshes, tmp_path_factory):
    """Losses of six steps on (2, 2, 2), and a checkpoint after three."""
    folder = tmp_path_factory.mktemp("adafactor")
    state, first = steps_of(meshes[0], initial_state(SPEC, TRANSFORM, meshes[0]), 3)
    with Checkpoints(folder) as saved:
        saved.save(state, {"batches": 3})
    _, second = steps_of(meshes[0], state, 3)
    return folder, first + second


@pytest.mark.long
def test_two_steps_are_the_papers():
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(12, 10)).astype(np.float32)
    gradients = rng.normal(size=(2, 12, 10)).astype(np.float32) * 0.01
    kernel, bias = (f"text/stack/layers/0/up/{name}" for name in ("kernel", "bias"))
    params = {kernel: weight, bias: weight[0]}
    transform = optimizers.adafactor(
        10, schedule=lambda steps: optax.constant_schedule(0.1), factored_from=8, weight_decay=0.5
    )
    state = transform.init(params)
    row, column, expected = np.zeros(12), np.zeros(10), weight.astype(np.float64)
    for t, gradient in enumerate(gradients, 1):
        given = {kernel: gradient, bias: 0 * gradient[0]}
        updates, state = transform.update(given, state, params)
        params = optax.apply_updates(params, updates)
        keep = 1 - t**-0.8  # 0 at first: nothing is kept of the zeros
        square = gradient.astype(np.float64) ** 2
        row = keep * row + (1 - keep) * square.mean(1)
        column = keep * column + (1 - keep) * square.mean(0)
        update = gradient / np.sqrt(np.outer(row, column) / row.mean())
        update /= max(1.0, np.sqrt((update**2).mean()))
        expected = expected - 0.1 * (update + 0.5 * expected)
    np.testing.assert_allclose(params[kernel], expected, rtol=1e-4)
    # a bias does not decay
    np.testing.assert_array_equal(params[bias], weight[0])


def test_a_matrix_has_next_to_no_state(meshes):
    def count(transform):
        places = state_shardings(SPEC, transform, meshes[0])
        state = abstract_state(SPEC, transform, places)
        of = [sum(leaf.size for leaf in jax.tree.leaves(part)) for part in state[1:]]
        return of[1] / of[0]

    adamw = optimizers.adamw(20, schedule=SCHEDULE)
    assert count(MOMENTLESS) < 0.25 < 1 < count(TRANSFORM) < 1.25 < 1.9 < count(adamw)


@pytest.mark.long
def test_it_trains_on_a_mesh_as_on_one_device(meshes, trained):
    _, seen = trained
    assert seen[-1] < 0.7 * seen[0]
    _, alone = steps_of(meshes[1], initial_state(SPEC, TRANSFORM, meshes[1]), 6)
    np.testing.assert_allclose(seen, alone, rtol=1e-3)
    placed = state_shardings(SPEC, TRANSFORM, meshes[0])
    kernel = "text/stack/layers/0/up/kernel"
    kinds = {leaf.spec for leaf in jax.tree.leaves(placed.optimizer)}
    assert placed.params[kernel].spec in kinds  # the first moment lies as its parameter
    assert jax.sharding.PartitionSpec() in kinds  # rows and columns are whole


@pytest.mark.parametrize("on", [0, 1], ids=["the same mesh", "one device"])
def test_it_goes_on_from_a_checkpoint(meshes, trained, on):
    folder, seen = trained
    mesh = meshes[on]
    places = state_shardings(SPEC, TRANSFORM, mesh)
    with Checkpoints(folder) as saved:
        state, _ = saved.restore(abstract_state(SPEC, TRANSFORM, places))
    _, rest = steps_of(mesh, state, 3)
    if on == 0:
        assert rest == seen[3:]
    np.testing.assert_allclose(rest, seen[3:], rtol=1e-3)
