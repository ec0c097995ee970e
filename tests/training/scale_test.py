"""Runs on chips that are not here: FLOPs against formulas and XLA, bytes against real arrays."""

import dataclasses
import functools
import re
from pathlib import Path

import gin
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gemb import losses
from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.execution import Execution
from gemb.models.functional import functional
from gemb.models.model import Model, Tower
from gemb.models.spec import ModelSpec, Rotary, StackSpec, TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.processors.text import of_bytes
from gemb.structs import Batch, Tokens
from gemb.training.experiment import Experiment
from gemb.training.objectives import head_only
from gemb.training.objectives.objective import Encoding
from gemb.training.planning import estimate
from gemb.training.planning.advice import advise, bindings, fits, judge
from gemb.training.planning.chips import CHIPS, Chip, parse
from gemb.training.planning.chips_report import describe, dry_run_on_chips
from gemb.training.planning.dry_run import dry_run
from gemb.training.planning.shapes import matmul_flops
from gemb.training.planning.workload import Settings, Workload, whole_share
from gemb.training.state import TrainState, initial_state
from gemb.training.step import make_step

ROOT = Path(__file__).parents[2]
WIDTH, MLP, LAYERS, HEADS, VOCAB = 256, 1024, 2, 4, 512
STACK = StackSpec(
    LAYERS, WIDTH, HEADS, MLP, gated=True, norm="rms", norm_place="pre", final_norm=True,
    qkv_bias=False, output_bias=False, mlp_bias=False, rotary=(Rotary(),) * LAYERS,
)  # fmt: skip
TEXT = TextSpec(VOCAB, 0, STACK, types=0, length_limit=64, embedding_norm=False)
TOWER = TowerSpec(TEXT)
SPEC = ModelSpec.of(TOWER)
MODEL = Model.of(Tower(TOWER, None, of_bytes(64)))
ROWS, SHORT, LONG = 64, 16, 32
LOOPED = Execution(layers="scan", remat="full")


def shapes(rows=ROWS, short=SHORT, long=LONG) -> Batch:
    def tokens(length):
        shape = (rows, length)
        return Tokens(jax.ShapeDtypeStruct(shape, "int32"), jax.ShapeDtypeStruct(shape, "bool"))

    number, real = (jax.ShapeDtypeStruct((rows,), dtype) for dtype in ("int32", "bool"))
    return Batch(tokens(short), tokens(long), number, number, number, real, real)


def workload(**batch) -> Workload:
    loss = functools.partial(losses.info_nce, temperature=0.05)
    return Workload(SPEC, loss, optax.adamw(1e-3), shapes(**batch))


def forward_flops() -> int:
    """Of the encoder on both sides: 2 a weight and token, and scores and mixing of every pair."""
    weights = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * MLP)
    pairs = LAYERS * 2 * 2 * WIDTH
    return ROWS * sum(2 * weights * n + pairs * n * n for n in (SHORT, LONG))


def test_products_in_loops_and_branches_are_counted_as_often_as_they_run():
    x = jnp.zeros((4, 4))  # one product of two of these: 2 * 4 ** 3
    body = jax.checkpoint(lambda c, _: (jnp.tanh(c @ x), None))
    assert matmul_flops(lambda c: jax.lax.scan(body, c, None, length=5)[0], x) == 5 * 128
    # backward: again forward (without the last product, if it is not needed) and one for c
    back = matmul_flops(jax.grad(lambda c: jax.lax.scan(body, c, None, length=5)[0].sum()), x)
    assert back == 5 * 128 * 3

    def branch(c):
        return jax.lax.cond(c.sum() > 0, lambda c: c @ x @ x, lambda c: c @ x, c)

    assert matmul_flops(branch, x) == 2 * 128
    three = jnp.zeros((3, 4, 4))
    assert matmul_flops(lambda a, b: jnp.einsum("bij,bjk->bik", a, b), three, three) == 3 * 128


@pytest.mark.parametrize(
    ("parts", "execution", "passes"),
    [(1, Execution(), 3), (2, Execution(), 4), (1, LOOPED, 4), (4, LOOPED, 5)],
)
def test_flops_are_those_of_the_passes(parts, execution, passes):
    work = workload()
    executed, useful = estimate.flops(work, Settings(2, 2, 2, parts, parts, execution))
    scores = 2 * ROWS * ROWS * WIDTH
    # What is recomputed of a layer stops short of its last product, which nothing needs again.
    last = 2 * WIDTH * MLP * LAYERS * ROWS * (SHORT + LONG) if execution.remat == "full" else 0
    encoder = passes * forward_flops() - last
    # the loss: its scores and two products back; what is watched: scores, and squares of them
    assert encoder < executed * 8 <= encoder + 12 * scores
    assert 3 * forward_flops() < useful * 8 <= 3 * forward_flops() + 24 * scores


@pytest.mark.long
def test_flops_are_xlas_within_3_percent():
    work = workload()
    step = make_step(Encoding(functional(SPEC)), work.loss, work.optimizer)
    params = functional(SPEC).shapes
    moments = jax.eval_shape(work.optimizer.init, params)
    state = TrainState(jax.ShapeDtypeStruct((), "int32"), params, moments)
    compiled = step.lower(state, work.batch).compile()
    executed, _ = estimate.flops(work, Settings(1, 1, 1))
    assert executed == pytest.approx(compiled.cost_analysis()["flops"], rel=0.03)
    # and the estimate of memory is near what XLA sets aside
    parts = estimate.memory(work, Settings(1, 1, 1))
    temporaries = compiled.memory_analysis().temp_size_in_bytes
    assert sum(parts.values()) - parts["state"] == pytest.approx(temporaries, rel=0.25)


@pytest.mark.parametrize("mesh", [(1, 8, 1), (2, 2, 2)])
def test_state_bytes_are_those_of_real_arrays(mesh):
    work = workload()
    zeros = {path: np.zeros(s.shape, s.dtype) for path, s in functional(SPEC).shapes.items()}
    state = initial_state(SPEC, work.optimizer, make_mesh(*mesh), params=zeros)
    first = jax.devices()[0]
    held = sum(
        shard.data.nbytes
        for leaf in jax.tree.leaves(state)
        for shard in leaf.addressable_shards
        if shard.device == first
    )
    assert estimate.memory(work, Settings(*mesh))["state"] == held


@pytest.mark.long
def test_memory_shrinks_with_what_is_said_to_shrink_it():
    work = workload(rows=1024)
    base = estimate.memory(work, Settings(8, 1, 1))
    assert estimate.memory(work, Settings(1, 8, 1))["state"] < base["state"] / 7
    assert estimate.memory(work, Settings(8, 1, 1, 4, 4))["activations"] < base["activations"] / 2
    looped = estimate.memory(work, Settings(8, 1, 1, execution=LOOPED))
    assert looped["activations"] < base["activations"]
    half = estimate.memory(work, Settings(8, 1, 1, execution=Execution(dtype="bfloat16")))
    assert half["activations"] < 0.75 * base["activations"]


def test_traffic_of_the_axes():
    work, size = workload(), 4
    layers = LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * MLP)
    table, norms = VOCAB * WIDTH, (2 * LAYERS + 1) * WIDTH
    assert not any(estimate.traffic(work, Settings(1, 1, 1)).values())
    once = estimate.traffic(work, Settings(1, 8, 1))
    assert once["weights"] == (layers + table) * size * 7 / 8
    # four microbatches of each side: forward, forward again, backward; the table once in each
    cached = estimate.traffic(work, Settings(1, 8, 1, 4, 4, LOOPED))
    assert cached["weights"] == 2 * 4 * (3 * layers + table) * size * 7 / 8
    # sums of the whole norms go twice round the ring
    assert cached["gradients"] == 2 * 4 * (layers + table + 2 * norms) * size * 7 / 8
    replicas = estimate.traffic(work, Settings(8, 1, 1))
    assert replicas["weights"] == 0
    assert replicas["gradients"] == 2 * 2 * (layers + table + norms) * size * 7 / 8
    odd = estimate.traffic(work, Settings(1, 3, 1))  # 3 does not divide the width
    assert odd["weights"] == 0
    assert whole_share(work, Settings(1, 3, 1)) == 1
    # of the layers and the table only the norms lie whole
    share = whole_share(work, Settings(1, 8, 1))
    assert share == pytest.approx(2 * LAYERS * WIDTH / (layers + table + 2 * LAYERS * WIDTH))
    tensor = estimate.traffic(work, Settings(1, 1, 4))["activations"]
    tokens = ROWS * (SHORT + LONG)
    assert tensor == 2 * (3 / 4) * tokens * WIDTH * size * LAYERS * 2 * 2


@pytest.mark.long
def test_advice_makes_it_fit_with_no_more_than_it_takes():
    work, before = workload(rows=1024), Settings(8, 1, 1)
    need = sum(estimate.memory(work, before).values())
    small = Chip("small", ("small",), 1e12, need / 2, 1e9)
    assert not fits(work, before, small)
    after = advise(work, before, small)
    assert fits(work, after, small)
    assert bindings(before, after)
    # each change is needed: none of the fields can go back by itself
    for name in ("query_microbatches", "document_microbatches"):
        if getattr(after, name) > 1:
            assert not fits(work, dataclasses.replace(after, **{name: 1}), small)
    text = describe(work, before, small, 0.4)
    assert "fits            no" in text
    assert all(line in text for line in bindings(before, after))
    hopeless = describe(work, before, dataclasses.replace(small, memory=need / 1e4), 0.4)
    assert "still too much" in hopeless


@pytest.mark.long
def test_advice_for_rounded_products_is_of_bfloat16_altogether():
    work = workload(rows=1024)
    before = Settings(8, 1, 1, execution=Execution(matmul_dtype="bfloat16"))
    small = Chip("small", ("small",), 1e12, sum(estimate.memory(work, before).values()) / 2, 1e9)
    after = advise(work, before, small)
    assert (after.execution.dtype, after.execution.matmul_dtype) == ("bfloat16", "")
    assert "execution.Execution.matmul_dtype = ''" in bindings(before, after)
    remark = "dtype is float32, which is slower on every chip"
    assert remark not in describe(work, before, small, 0.4)
    assert remark in describe(work, Settings(8, 1, 1), small, 0.4)


@pytest.mark.parametrize("devices", [6, 12, 24])
def test_advice_uses_all_the_devices_there_are(devices):
    work, before = workload(rows=1024), Settings(devices, 1, 1)
    for part in (2, 4, 16, 64):
        chip = Chip(
            "small", ("small",), 1e12, sum(estimate.memory(work, before).values()) / part, 1e9
        )
        assert advise(work, before, chip).devices == devices


def test_a_step_takes_its_flops_at_the_utilisation():
    work, chip = workload(), CHIPS["v5e"]
    verdict = judge(work, Settings(8, 1, 1), chip, 0.5)
    assert verdict.arithmetic_seconds == pytest.approx(verdict.executed / (0.5 * 197e12))
    assert verdict.traffic_seconds == pytest.approx(sum(verdict.traffic.values()) / 200e9)
    assert verdict.mfu <= 0.5
    assert CHIPS["h100"].bandwidth(8) == 450e9
    assert CHIPS["h100"].bandwidth(16) == 400e9


PUBLISHED = {  # of the safetensors on the hub; of EmbeddingGemma with its two Dense layers
    "encoder_308m": 302_863_104 + 2 * 768 * 3072,
    "encoder_600m": 595_776_512,
    "encoder_4b": 4_021_774_336,
    "encoder_7b": 7_110_660_096,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_shapes_have_the_published_number_of_parameters(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    header = "from __gin__ import dynamic_registration\nfrom gemb.training import experiment\n"
    gin.clear_config()
    try:
        gin.parse_config_file(f"configs/model/{name}.gin")
        gin.parse_config(header + "experiment.Experiment.model = %MODEL")
        spec = gin.get_bindings(Experiment)["model"].spec
    finally:
        gin.clear_config()
    total = sum(int(np.prod(s.shape)) for s in functional(spec).shapes.values())
    assert total == PUBLISHED[name]


def test_mistakes_are_told():
    wrong = [("v9:8", "unknown 'v9'"), ("v5e", "NAME:COUNT"), ("h100:0", "NAME:COUNT")]
    for text, message in wrong:
        with pytest.raises(UserError, match=message):
            parse(text)
    with pytest.raises(UserError, match="do not divide"):
        describe(workload(), Settings(128, 1, 1), CHIPS["v5e"], 0.4)
    run = Experiment(MODEL, data=None, loss=None, optimizer=None, steps=1)
    with pytest.raises(UserError, match="utilisation"):
        dry_run_on_chips(run, "v5e:8", utilisation=40)
    with pytest.raises(UserError, match="teacher"):
        dry_run_on_chips(dataclasses.replace(run, teacher=object()), "v5e:8")
    with pytest.raises(UserError, match="only the default objective is supported"):
        dry_run_on_chips(dataclasses.replace(run, objective=head_only()), "v5e:8")


@pytest.mark.long
def test_averaged_weights_count_in_both_dry_runs():
    run = Experiment(
        MODEL,
        data=lambda *_: iter([jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes())]),
        loss=losses.info_nce,
        optimizer=lambda steps: optax.adamw(1e-3),
        steps=7,
    )
    averaging = dataclasses.replace(run, ema_decay=0.9, skip_bad_steps=2)

    def state(text: str) -> float:
        return float(re.search(r"^state +([\d.,]+)", text, re.MULTILINE)[1].replace(",", ""))

    plain, averaged = (state(dry_run(one)) for one in (run, averaging))
    assert averaged == pytest.approx(plain * 4 / 3, rel=0.02)  # one more copy than two moments
    plain, averaged = (state(dry_run_on_chips(one, "h200:8")) for one in (run, averaging))
    assert averaged == pytest.approx(plain * 4 / 3, abs=0.02)


def test_the_whole_dry_run_on_chips_makes_no_array():
    def data(processors, seed, shard):
        assert shard == (0, 1)
        return iter([jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes())])

    run = Experiment(
        MODEL,
        data=data,
        loss=losses.info_nce,
        optimizer=lambda steps: optax.adamw(1e-3),
        steps=7,
        mesh=functools.partial(make_mesh, fsdp=4),
    )
    text = dry_run_on_chips(run, "h200:16")
    assert "16 x h200" in text
    assert "'replica': 4, 'fsdp': 4" in text
    assert "fits            yes" in text
    assert "text/stack/layers/0/up/kernel" in text
    with pytest.raises(UserError, match="there are 6 devices"):
        dry_run_on_chips(run, "h200:6")


def test_two_towers_are_each_their_sides():
    encoder = dataclasses.replace(TEXT, stack=STACK.take((0,)))
    small = dataclasses.replace(TOWER, encoder=encoder)
    spec = ModelSpec(small, TOWER, temperature=0.05)
    work = Workload(spec, losses.info_nce, optax.adamw(1e-3), shapes())
    executed, _ = estimate.flops(work, Settings(1, 1, 1))
    assert 3 * forward_flops() > executed > 3 * forward_flops() / 2
    shared = estimate.traffic(workload(), Settings(1, 8, 1, 2, 2, LOOPED))
    apart = estimate.traffic(work, Settings(1, 8, 1, 2, 2, LOOPED))
    assert apart["weights"] == pytest.approx(0.75 * shared["weights"], rel=0.1)
