"""How a model is computed: what float32 means, and which attention "auto" picks where."""

import types

import jax
import jax.numpy as jnp
import pytest

from gemb.models import attention
from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.models.spec import ModelSpec, StackSpec, TextSpec
from gemb.structs import Tokens

SPEC = ModelSpec(TextSpec(16, 8, StackSpec(1, 8, 2, 16)), max_length=8)
TOKENS = Tokens(jnp.ones((2, 4), jnp.int32), jnp.ones((2, 4), jnp.int32))


def products(dtype):
    """The matrix products of the encoder, as written for the compiler."""

    def embed(params):
        return functional(SPEC).apply(params, TOKENS, Execution(dtype=dtype))

    text = jax.jit(embed).lower(functional(SPEC).shapes).as_text()
    return [line for line in text.splitlines() if "dot_general" in line]


def test_float32_is_multiplied_as_such_on_every_device():
    assert products("float32")
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in products("float32"))
    assert not any("HIGHEST" in line for line in products("bfloat16"))
    with jax.default_matmul_precision("bfloat16"):  # a user who says otherwise is heard
        assert not any("HIGHEST" in line for line in products("float32"))


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
