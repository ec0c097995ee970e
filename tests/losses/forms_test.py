"""Dense, blockwise and ring: one value, one gradient, on any number of devices."""

import functools

import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest

from gemb import losses

OPTIONS = {
    "symmetric": True,
    "margin": 0.1,
    "label_smoothing": 0.1,
    "hardness": 2.0,
    "drop_margin": 0.5,
}
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


def mesh(replica, fsdp, tensor=1):
    count = replica * fsdp * tensor
    return jax.make_mesh(
        (replica, fsdp, tensor),
        ("replica", "fsdp", "tensor"),
        axis_types=(jax.sharding.AxisType.Auto,) * 3,
        devices=jax.devices()[:count],
    )


def evaluated(loss, batch, cotangent):
    """Losses, and gradients to queries, documents and temperature of their weighted sum."""

    def total(query, document, temperature, rest):
        positive, fields = (
            rest["positive"],
            losses.Fields(temperature=temperature, **rest["fields"]),
        )
        value = loss(query, document, positive, fields=fields)
        return jnp.sum(value * cotangent), value

    arrays = ("query", "document", "positive")
    fields = {name: array for name, array in batch.items() if name not in arrays}
    rest = {"positive": batch["positive"], "fields": fields}
    temperature = np.asarray(0.2, batch["query"].dtype)
    run = jax.value_and_grad(total, argnums=(0, 1, 2), has_aux=True)
    (_, value), slopes = jax.jit(run)(batch["query"], batch["document"], temperature, rest)
    return jax.tree.map(np.asarray, (value, *slopes))


def assert_same(got, want, dtype):
    for mine, theirs in zip(got, want, strict=True):
        scale = np.abs(theirs).max()
        assert scale > 0
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE[dtype] * scale)


@functools.cache
def case(dtype, widths, cotangents="uneven"):
    """A batch, cotangents, and what the dense form makes of them; all numpy."""
    with jax.enable_x64(dtype == "float64"):
        made = reference.make(seed=9, batch=16, negatives=2, dim=8, dtype=np.dtype(dtype))
        batch = {name: np.asarray(array) for name, array in made.items()}
        uneven = np.random.default_rng(1).random(16).astype(dtype)
        cotangent = uneven if cotangents == "uneven" else np.full(16, 0.25, dtype)
        return batch, cotangent, evaluated(nested(losses.info_nce, widths), batch, cotangent)


def nested(loss, widths, **options):
    loss = functools.partial(loss, **OPTIONS, **options)
    return functools.partial(losses.matryoshka, loss=loss, widths=widths)


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "cotangents"), [("float32", "even"), ("float64", "uneven")])
def test_blockwise_equals_dense(dtype, cotangents):
    widths = (8, 5) if dtype == "float32" else (5,)
    batch, cotangent, want = case(dtype, widths, cotangents)
    with jax.enable_x64(dtype == "float64"):
        got = evaluated(
            nested(losses.info_nce, widths, form=losses.Blockwise(block=5)), batch, cotangent
        )
    assert got[0].dtype == dtype
    assert_same(got, want, dtype)


@pytest.mark.long
@pytest.mark.parametrize(
    ("dtype", "devices"),
    [("float32", 8), ("float64", 1), ("float64", 2), ("float64", 4), ("float64", 8)],
)
def test_ring_equals_dense(dtype, devices):
    shape = {1: (1, 1), 2: (1, 2), 4: (2, 2), 8: (4, 2)}[devices]
    widths = (8, 5) if dtype == "float32" else (5,)
    batch, cotangent, want = case(dtype, widths)
    with jax.enable_x64(dtype == "float64"), jax.set_mesh(mesh(*shape)):
        got = evaluated(
            nested(losses.info_nce, widths, form=losses.Ring(block=5)), batch, cotangent
        )
    assert_same(got, want, dtype)


def test_gathered_equals_dense_beside_a_tensor_axis():
    batch, cotangent, want = case("float64", (5,))
    with jax.enable_x64(True), jax.set_mesh(mesh(2, 2, 2)):
        gather = losses.Ring(block=4, exchange="gather")
        loss = nested(losses.info_nce, (5,), form=gather)
        assert_same(evaluated(loss, batch, cotangent), want, "float64")


@pytest.mark.long
@pytest.mark.parametrize("form", [losses.Blockwise(block=7), losses.Ring(block=5)])
@pytest.mark.parametrize("name", ["joint_info_nce", "gist"])
def test_joint_losses_are_equal_in_all_forms(name, form):
    batch, cotangent, _ = case("float64", (5,))
    with jax.enable_x64(True), jax.set_mesh(mesh(2, 2)):
        if name == "gist":
            rng = np.random.default_rng(2)
            guide = {"guide_query": reference.unit(rng, 16, 3)}
            batch = batch | guide | {"guide_document": reference.unit(rng, 48, 3)}
        loss = getattr(losses, name)
        want = evaluated(loss, batch, cotangent)
        got = evaluated(functools.partial(loss, form=form), batch, cotangent)
        assert_same(got, want, "float64")


def test_blockwise_sigmoid_equals_dense():
    batch, cotangent, _ = case("float64", (5,))
    with jax.enable_x64(True):

        def loss(query, document, positive, *, fields):
            options = {"scale": 1 / fields.temperature, "form": form}
            return losses.sigmoid(query, document, positive, **options, fields=fields)

        form = "dense"
        want = evaluated(loss, batch, cotangent)
        form = losses.Blockwise(block=5)
        assert_same(evaluated(loss, batch, cotangent), want, "float64")


def test_blockwise_needs_no_matrix():
    shape = jax.ShapeDtypeStruct((2048, 16), jnp.float32)

    def temporary(form):
        def mean(query, document):
            return jnp.mean(losses.info_nce(query, document, jnp.arange(2048), form=form))

        run = jax.jit(jax.value_and_grad(mean, argnums=(0, 1)))
        return run.lower(shape, shape).compile().memory_analysis().temp_size_in_bytes

    matrix = 4 * 2048 * 2048
    assert temporary("dense") >= matrix
    assert temporary(losses.Blockwise(block=64)) < matrix / 8


def test_ring_logits_stay_below_block_times_local_batch():
    shape = jax.ShapeDtypeStruct((1024, 8), jnp.float32)
    with jax.set_mesh(mesh(1, 8)) as _:
        split = jax.NamedSharding(mesh(1, 8), jax.P("fsdp"))

        def mean(query, document):
            ring = losses.Ring(block=64)
            return jnp.mean(losses.info_nce(query, document, jnp.arange(1024), form=ring))

        run = jax.jit(jax.value_and_grad(mean, argnums=(0, 1)), in_shardings=split)
        text = run.lower(shape, shape).compile().as_text()
    assert "f32[128,64]" in text  # a tile: local batch times block
    for whole in ("f32[1024,1024]", "f32[128,1024]", "f32[1024,128]", "f32[128,128]"):
        assert whole not in text


def test_bad_meshes_are_explained():
    rows = jnp.eye(6)
    with pytest.raises(ValueError, match="axis_names: expected axes of the mesh in context"):
        losses.info_nce(rows, rows, jnp.arange(6), form="ring")
    with jax.set_mesh(mesh(1, 4)):
        with pytest.raises(ValueError, match="query: expected rows that divide among 4 devices"):
            losses.info_nce(rows, rows, jnp.arange(6), form="ring")
        with pytest.raises(ValueError, match="exchange: expected 'ring' or 'gather'"):
            losses.info_nce(rows, rows, jnp.arange(6), form=losses.Ring(exchange="star"))
