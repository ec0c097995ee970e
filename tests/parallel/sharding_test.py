import dataclasses
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gemb import losses
from gemb.checks import UserError
from gemb.models.functional import functional, initial_params
from gemb.models.spec import ModelSpec, StackSpec, TextSpec
from gemb.parallel.mesh import make_mesh
from gemb.parallel.placement import place_batch
from gemb.parallel.rules import spec_at_rest
from gemb.structs import Batch, Tokens
from gemb.training.state import initial_state, state_shardings
from gemb.training.step import batch_loss, make_step

SPEC = ModelSpec(TextSpec(vocab=64, positions=16, stack=StackSpec(1, 32, 4, 64)), max_length=16)
LOSS = partial(losses.matryoshka, widths=(32, 8), loss=partial(losses.info_nce, symmetric=True))
MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)]


def batch(rows=16, seed=0):
    rng = np.random.default_rng(seed)

    def tokens(length):
        lengths = rng.integers(2, length + 1, rows)
        mask = np.arange(length) < lengths[:, None]
        return Tokens(np.where(mask, rng.integers(1, 64, (rows, length)), 0).astype(np.int32), mask)

    ids = np.arange(rows, dtype=np.int32)
    real = np.ones(rows, bool)
    real[-1] = False
    return Batch(tokens(8), tokens(16), ids, ids, ids + 100, real, real)


def gradients(mesh, **options):
    params = jax.jit(lambda key: initial_params(SPEC, key))(jax.random.key(0))
    optimizer = optax.sgd(1.0)
    places = state_shardings(SPEC, optimizer, mesh).params

    def loss(params, batch):
        return batch_loss(SPEC, LOSS, params, batch, **options)[0]

    with jax.set_mesh(mesh):
        value, grads = jax.jit(jax.value_and_grad(loss), out_shardings=(None, places))(
            jax.device_put(params, places), place_batch(batch(), mesh)
        )
    return float(value), jax.device_get(grads)


def relative_difference(left, right):
    flat = [np.concatenate([np.ravel(tree[p]) for p in sorted(tree)]) for tree in (left, right)]
    return np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[0])


@pytest.fixture(scope="module")
def one_device():
    return gradients(make_mesh(1, 1, 1, devices=jax.devices()[:1]))


@pytest.mark.parametrize("shape", MESHES)
def test_eight_devices_give_the_gradients_of_one(shape, one_device):
    options = {"query_microbatches": 2, "document_microbatches": 2}
    value, grads = gradients(make_mesh(*shape), **options)
    assert value == pytest.approx(one_device[0], rel=1e-5)
    assert relative_difference(one_device[1], grads) < 1e-5


def collectives(shape, capfd):
    mesh, optimizer = make_mesh(*shape), optax.adam(1e-3)
    places = state_shardings(SPEC, optimizer, mesh)
    state = initial_state(SPEC, optimizer, mesh)
    options = {"query_microbatches": 2, "document_microbatches": 2, "out_shardings": places}
    with jax.set_mesh(mesh):
        step = make_step(SPEC, LOSS, optimizer, **options)
        text = step.lower(state, place_batch(batch(), mesh)).compile().as_text()
    warnings = capfd.readouterr().err
    kinds = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
    return {kind: len(re.findall(rf"= \S+ {kind}\(", text)) for kind in kinds}, warnings


def test_fsdp_gathers_weights_and_not_activations(capfd):
    counts, warnings = collectives((1, 8, 1), capfd)
    assert "rematerialization" not in warnings
    # Forward, its recomputation and backward of two sides each gather a layer's 6 matrices and the
    # 3 tables; the loss gathers embeddings, ids and masks. The rest would be activation traffic.
    weights, passes, sides, loss = SPEC.text.stack.layers * 6 + 3, 3, 2, 8
    assert 0 < counts["all-gather"] <= passes * sides * weights + loss
    assert counts["all-to-all"] == 0


@pytest.mark.parametrize("shape", [(2, 2, 2), (1, 2, 4)])
def test_no_mesh_rematerialises(shape, capfd):
    _, warnings = collectives(shape, capfd)
    assert "rematerialization" not in warnings


def test_every_parameter_has_a_place():
    mesh = make_mesh(1, 2, 4)
    places = state_shardings(SPEC, optax.adam(1e-3), mesh)
    assert places.params.keys() == functional(SPEC).shapes.keys()
    up = places.params["text/stack/layers/0/up/kernel"]
    assert up.spec == jax.sharding.PartitionSpec("fsdp", "tensor")
    moments = places.optimizer[0].mu["text/stack/layers/0/up/kernel"]
    assert moments == up


def test_a_dimension_that_does_not_divide_stays_whole():
    odd = dataclasses.replace(SPEC, text=dataclasses.replace(SPEC.text, vocab=63))
    table = state_shardings(odd, optax.sgd(1.0), make_mesh(1, 2, 4)).params["text/token/table"]
    assert table.spec == jax.sharding.PartitionSpec(None, "fsdp")
    even = state_shardings(SPEC, optax.sgd(1.0), make_mesh(1, 2, 4)).params["text/token/table"]
    assert even.spec == jax.sharding.PartitionSpec("tensor", "fsdp")


def test_unknown_logical_axis_is_named():
    with pytest.raises(ValueError, match="'colour'"):
        spec_at_rest(("width", "colour"))


def test_sizes_must_multiply_to_the_devices():
    with pytest.raises(UserError, match="there are 8 devices"):
        make_mesh(3, 1, 1)


def test_rows_must_divide_over_the_data_axes():
    with pytest.raises(UserError, match="BATCH_SIZE"):
        place_batch({"x": jnp.zeros((6, 2))}, make_mesh(8, 1, 1))
