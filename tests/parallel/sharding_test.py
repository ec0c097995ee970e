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
from gemb.models.encoders.text import TextSpec
from gemb.models.execution import Execution
from gemb.models.functional import functional, initial_params
from gemb.models.spec import ModelSpec, Rotary, StackSpec, TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.parallel.placement import place_batch
from gemb.parallel.rules import spec_at_rest
from gemb.structs import Batch, Tokens
from gemb.training.objectives import Encoding
from gemb.training.state import initial_state, state_shardings
from gemb.training.step import batch_loss, make_step

SPEC = ModelSpec.of(TowerSpec(TextSpec(vocab=64, positions=16, stack=StackSpec(1, 32, 4, 64))))
LOOPED = Execution(layers="scan", remat="full")


def decoder(layers: int, windows=(4, 0)) -> ModelSpec:
    """Grouped keys, rotary positions, windows that repeat: all that a loop must carry."""
    stack = StackSpec(
        layers, 32, 4, 64, kv_heads=2, gated=True, norm="rms", norm_place="pre", final_norm=True,
        qkv_bias=False, output_bias=False, mlp_bias=False, windows=windows * (layers // 2),
        rotary=(Rotary(),) * layers,
    )  # fmt: skip
    text = TextSpec(64, 0, stack, types=0, length_limit=16, embedding_norm=False)
    return ModelSpec.of(TowerSpec(text))


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


def gradients(mesh, spec=SPEC, key=None, **options):
    params = jax.jit(lambda key: initial_params(spec, key))(jax.random.key(0))
    optimizer = optax.sgd(1.0)
    places = state_shardings(spec, optimizer, mesh).params
    encoding = Encoding(functional(spec), **options)

    def loss(params, batch):
        return batch_loss(encoding, LOSS, params, batch, key=key)[0]

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


@pytest.mark.long
@pytest.mark.parametrize("shape", MESHES)
def test_eight_devices_give_the_gradients_of_one(shape, one_device):
    options = {"query_microbatches": 2, "document_microbatches": 2}
    value, grads = gradients(make_mesh(*shape), **options)
    assert value == pytest.approx(one_device[0], rel=1e-5)
    assert relative_difference(one_device[1], grads) < 1e-5


@pytest.mark.long
def test_looped_layers_and_dropout_give_the_gradients_of_one_device():
    options = {"spec": decoder(2, ()), "execution": dataclasses.replace(LOOPED, dropout=0.2)}
    options |= {"key": jax.random.key(5), "document_microbatches": 2}
    value, one = gradients(make_mesh(1, 1, 1, devices=jax.devices()[:1]), **options)
    for shape in ((1, 8, 1), (1, 2, 4)):
        spread_value, spread = gradients(make_mesh(*shape), **options)
        assert spread_value == pytest.approx(value, rel=1e-5)
        assert relative_difference(one, spread) < 1e-5


@pytest.mark.long
def test_rounded_products_give_the_gradients_of_one_device_but_for_their_rounding():
    options = {"execution": Execution(matmul_dtype="bfloat16")}
    value, one = gradients(make_mesh(1, 1, 1, devices=jax.devices()[:1]), **options)
    spread_value, spread = gradients(make_mesh(2, 2, 2), **options)
    assert spread_value == pytest.approx(value, rel=1e-3)
    assert relative_difference(one, spread) < 2**-8  # an operand's rounding


def collectives(shape, capfd, spec=SPEC, **options):
    mesh, optimizer = make_mesh(*shape), optax.adam(1e-3)
    places = state_shardings(spec, optimizer, mesh)
    state = initial_state(spec, optimizer, mesh)
    options |= {"query_microbatches": 2, "document_microbatches": 2}
    encoding = Encoding(functional(spec), **options)
    with jax.set_mesh(mesh):
        step = make_step(encoding, LOSS, optimizer, out_shardings=places)
        text = step.lower(state, place_batch(batch(), mesh)).compile().as_text()
    warnings = capfd.readouterr().err
    kinds = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")
    return {kind: len(re.findall(rf"= \S+ {kind}\(", text)) for kind in kinds}, warnings


@pytest.mark.long
def test_fsdp_gathers_weights_and_not_activations(capfd):
    counts, warnings = collectives((1, 8, 1), capfd)
    assert "rematerialization" not in warnings
    # Forward, its recomputation and backward of two sides each gather a layer's 6 matrices and the
    # 3 tables; the loss and the figures beside it gather embeddings, ids and masks. The rest would
    # be activation traffic.
    weights, passes, sides, loss, figures = SPEC.encoder.stack.layers * 6 + 3, 3, 2, 8, 8
    assert 0 < counts["all-gather"] <= passes * sides * weights + loss + figures
    assert counts["all-to-all"] == 0


@pytest.mark.long
@pytest.mark.parametrize(
    ("shape", "spec", "execution"),
    [
        ((2, 2, 2), SPEC, Execution()),
        ((1, 2, 4), SPEC, Execution()),
        ((2, 2, 2), SPEC, Execution(matmul_dtype="bfloat16")),
        ((2, 2, 2), decoder(2, ()), LOOPED),
    ],
)
def test_no_mesh_rematerialises(shape, spec, execution, capfd):
    _, warnings = collectives(shape, capfd, spec, execution=execution)
    assert "rematerialization" not in warnings


@pytest.mark.slow
def test_a_loop_has_the_collectives_of_one_period_whatever_its_layers(capfd):
    four, six = (
        collectives((1, 8, 1), capfd, decoder(layers), execution=LOOPED)[0] for layers in (4, 6)
    )
    assert four["all-gather"] > 0
    assert four["all-to-all"] == 0
    # Two layers of 7 matrices are in a loop's body, and a step has of it 2 sides x 4 passes:
    # forward, that again for the microbatch, that again for the layer, backward. Beyond that there
    # are the table, the loss and the figures beside it. Weights are stacked where they lie, without
    # traffic.
    matrices, sides, passes, loss, figures = 2 * 7, 2, 4, 8, 8
    assert four["all-gather"] <= sides * passes * (matrices + 1) + loss + figures
    for kind in ("all-gather", "all-to-all", "collective-permute"):
        assert four[kind] == six[kind], kind


def test_every_parameter_has_a_place():
    mesh = make_mesh(1, 2, 4)
    places = state_shardings(SPEC, optax.adam(1e-3), mesh)
    assert places.params.keys() == functional(SPEC).shapes.keys()
    up = places.params["text/stack/layers/0/up/kernel"]
    assert up.spec == jax.sharding.PartitionSpec("fsdp", "tensor")
    moments = places.optimizer[0].mu["text/stack/layers/0/up/kernel"]
    assert moments == up


def test_a_dimension_that_does_not_divide_stays_whole():
    odd = ModelSpec.of(TowerSpec(dataclasses.replace(SPEC.encoder, vocab=63)))
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
