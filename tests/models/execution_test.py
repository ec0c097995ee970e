"""How a model is computed: what float32 means, and which attention "auto" picks where."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemb.models import attention
from gemb.models.encoders.text import TextSpec
from gemb.models.execution import Execution
from gemb.models.functional import functional, initial_params, kernels_for_encoding
from gemb.models.layers import TransposedKernel
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.structs import Tokens

SPEC = ModelSpec.of(TowerSpec(TextSpec(16, 8, StackSpec(1, 8, 2, 16))))
MODEL = functional(SPEC)
TOKENS = Tokens(jnp.ones((2, 4), jnp.int32), jnp.ones((2, 4), jnp.int32))


def products(dtype="float32", **more):
    """The matrix products of the encoder, as written for the compiler."""

    def embed(params):
        return MODEL.document.embed(params, TOKENS, Execution(dtype=dtype, **more))

    text = jax.jit(embed).lower(MODEL.shapes).as_text()
    return [line for line in text.splitlines() if "dot_general" in line]


def test_float32_is_multiplied_as_such_on_every_device():
    assert products("float32")
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products("float32"))
    assert not any("HIGHEST" in line for line in products("bfloat16"))
    with jax.default_matmul_precision("bfloat16"):  # a user who says otherwise is heard
        assert not any("HIGHEST" in line for line in products("float32"))


@pytest.mark.parametrize("layers", ["scan", "unroll"])
def test_matmul_dtype_rounds_what_the_linear_maps_multiply_and_nothing_else(layers):
    lines = products(matmul_dtype="bfloat16", layers=layers)
    rounded = [line for line in lines if "bf16" in line]
    assert len(rounded) == 6  # query, key, value, output, up, down
    assert all(line.rstrip().split("->")[-1].endswith("xf32>") for line in rounded)
    assert len(lines) == 8  # attention's two products stay
    assert not any("bf16" in line for line in products(layers=layers))


@pytest.mark.long
def test_gradients_of_rounded_products_stay_near_those_of_float32():
    params = initial_params(SPEC, jax.random.key(0))
    goal = jax.random.normal(jax.random.key(1), (2, 8))

    def slopes(execution):
        def loss(params):
            return jnp.square(MODEL.document.embed(params, TOKENS, execution) - goal).sum()

        return jnp.concatenate(
            [g.ravel() for g in jax.tree.leaves(jax.jit(jax.grad(loss))(params))]
        )

    exact, near = slopes(Execution()), slopes(Execution(matmul_dtype="bfloat16"))
    off = float(jnp.linalg.norm(near - exact) / jnp.linalg.norm(exact))
    assert 0 < off < 0.02


def with_stack(stack: StackSpec) -> ModelSpec:
    return ModelSpec.of(TowerSpec(dataclasses.replace(SPEC.encoder, stack=stack)))


@pytest.mark.long
def test_every_layer_gives_what_a_model_of_so_many_layers_gives():
    stack = StackSpec(5, 8, 2, 16, windows=(2, 0, 2, 0, 2))
    spec = with_stack(stack)
    params = initial_params(spec, jax.random.key(0))
    model = functional(spec).document
    vectors, states = model.every_layer(params, TOKENS)
    np.testing.assert_array_equal(vectors, model.embed(params, TOKENS))
    looped = model.every_layer(params, TOKENS, Execution(layers="scan"))[1]
    assert states.shape == looped.shape == (5, 2, 4, 8)
    np.testing.assert_allclose(looped, states, atol=1e-6)
    for count in range(1, 6):
        fewer = dataclasses.replace(stack, layers=count, windows=stack.windows[:count])
        short = functional(with_stack(fewer))
        own = {path: params[path] for path in short.shapes}
        np.testing.assert_allclose(states[count - 1], short.document.hidden(own, TOKENS), atol=1e-6)


def test_kernels_rounded_once_give_the_same_vectors():
    params, execution = initial_params(SPEC, jax.random.key(0)), Execution(matmul_dtype="bfloat16")
    once = kernels_for_encoding(params, execution)
    assert sum(value.dtype == jnp.bfloat16 for value in once.values()) == 6
    vectors = [MODEL.document.embed(p, TOKENS, execution) for p in (params, once)]
    np.testing.assert_array_equal(*vectors)
    assert kernels_for_encoding(params, Execution(layers="scan")) is params


@pytest.mark.parametrize("rows", [3, 60])
def test_transposed_kernels_give_the_same_vectors(rows):
    params = initial_params(SPEC, jax.random.key(0))
    once = kernels_for_encoding(params, Execution())
    assert sum(isinstance(value, TransposedKernel) for value in once.values()) == 6
    tokens = jax.tree.map(lambda x: jnp.tile(x, (rows, 1))[:rows], TOKENS)
    vectors = [jax.jit(MODEL.document.embed)(p, tokens) for p in (params, once)]
    np.testing.assert_allclose(*vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"matmul_dtype": "int8"}, "matmul_dtype: expected bfloat16"),
        ({"matmul_dtype": "bfloat16", "dtype": "bfloat16"}, "already use bfloat16"),
    ],
)
def test_a_matmul_dtype_that_says_nothing_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Execution(**wrong)


@pytest.mark.long
def test_a_token_that_sees_nothing_is_no_nan_in_half_precision():
    mask = np.arange(16)[None] < 3  # padding from place 5 on sees none of them
    seen = attention.view(mask, causal=False, window=4, relative=None, backend="plain")
    parts = jax.random.normal(jax.random.key(0), (3, 1, 2, 16, 8))
    half = attention.attend(*parts.astype(jnp.float16), seen, backend="xla")
    assert np.all(np.isfinite(half))
    exact = attention.attend(*parts, seen)
    np.testing.assert_allclose(half[:, :, :3], exact[:, :, :3], atol=2e-2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("window", "cap"), [(0, 0.0), (7, 0.0), (60, 0.0), (400, 0.0), (0, 1.5)])
def test_long_texts_are_attended_in_blocks(monkeypatch, window, cap, causal):
    random, length = np.random.default_rng(0), 450
    query = random.normal(size=(2, 4, length, 8)) * 8**-0.5
    key, value = random.normal(size=(2, 2, 2, length, 8))
    mask = np.ones((2, length), bool)
    mask[1, 300:] = False

    def attended(query, key, value):
        seen = attention.view(
            jnp.asarray(mask), causal=causal, window=window, relative=None, backend="plain"
        )
        return attention.attend(query, key, value, seen, cap=cap)

    given = [jnp.asarray(x, jnp.float32) for x in (query, key, value)]
    real = np.broadcast_to(mask[:, None, :, None], query.shape)  # padding may see nothing
    slope = jax.grad(lambda *x: (attended(*x) ** 2 * real).sum(), argnums=(0, 1, 2))
    plain, slopes = np.asarray(attended(*given)), slope(*given)
    monkeypatch.setattr(attention, "_LONG", 400)
    monkeypatch.setattr(attention, "_CACHE", 100_000)  # nine blocks of 50 rows without a window
    assert "scan" in str(jax.make_jaxpr(attended)(*given))
    scores = query @ np.repeat(key, 2, 1).swapaxes(2, 3)
    scores = cap * np.tanh(scores / cap) if cap else scores
    gap = np.arange(length)[:, None] - np.arange(length)
    near = (gap >= 0 if causal else True) & (np.abs(gap) < (window or length))
    weights = np.where(near & mask[:, None, None], np.exp(scores), 0)
    total = np.maximum(weights.sum(-1, keepdims=True), 1e-9)
    expected = weights / total @ np.repeat(value, 2, 1)
    found = np.asarray(attended(*given))
    np.testing.assert_allclose(found[real], expected[real], atol=1e-5)
    np.testing.assert_allclose(found[real], plain[real], atol=1e-6)
    for own, other in zip(slope(*given), slopes, strict=True):
        np.testing.assert_allclose(own, other, atol=5e-5)


def test_float16_that_xla_cannot_multiply_on_a_cpu_is_told():
    with pytest.raises(ValueError, match="xla does not support float16 on CPUs; choose plain"):
        attention.choose(Execution(dtype="float16", attention="xla"), 8, 0.0, False, 16)


@pytest.mark.parametrize(
    ("version", "capability", "length", "backend"),
    [
        ("CUDA 12.9", "9.0", 32, "cudnn"),
        ("CUDA 12.9", "9.0", 31, "plain"),
        ("CUDA 12.9", "7.5", 32, "plain"),
        ("rocm 7.0", "9.4", 32, "plain"),
    ],
)
def test_auto_picks_cudnn_where_it_runs(monkeypatch, version, capability, length, backend):
    client = types.SimpleNamespace(platform_version=version)
    device = types.SimpleNamespace(client=client, compute_capability=capability)
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    monkeypatch.setattr("jax.local_devices", lambda: [device])
    chosen = attention.choose(Execution(dtype="bfloat16"), 64, 0.0, False, length)
    assert chosen == backend
    assert attention.choose(Execution(), 64, 0.0, False, length) == "plain"
