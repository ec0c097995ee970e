import math
from functools import partial

import jax
import numpy as np
import pytest

from gemb.checks import UserError
from gemb.models.encoders.text import TextSpec
from gemb.models.spec import ModelSpec, StackSpec, TowerSpec
from gemb.parallel.mesh import make_mesh
from gemb.training import optimizers, schedules
from gemb.training.checkpoints.storage import Checkpoints
from gemb.training.state import abstract_state, initial_state, state_shardings

TRANSFORM = optimizers.adamw(9, schedule=partial(schedules.warmup_linear, peak_rate=0.1))


def spec(layers=1):
    return ModelSpec.of(TowerSpec(TextSpec(16, 8, StackSpec(layers, 8, 2, 16))))


def state_on(mesh, seed=0, layers=1):
    return initial_state(spec(layers), TRANSFORM, mesh, seed=seed)


def abstract_on(mesh, layers=1):
    places = state_shardings(spec(layers), TRANSFORM, mesh)
    return abstract_state(spec(layers), TRANSFORM, places)


@pytest.mark.long
@pytest.mark.parametrize("sizes", [(1, 2, 4), (1, 1, 1)])
def test_a_state_comes_back_bit_for_bit_on_another_mesh(sizes, tmp_path):
    state = state_on(make_mesh(8, 1, 1), seed=3)
    with Checkpoints(tmp_path) as saved:
        assert saved.latest is None
        saved.save(state, {"batches": 5, "data": 2**50 + 1})
    with Checkpoints(tmp_path) as saved:
        assert saved.latest == 0
        mesh = make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])
        restored, position = saved.restore(abstract_on(mesh))
    assert position == {"batches": 5, "data": 2**50 + 1}
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(before, after)
    kernel = restored.params["text/stack/layers/0/up/kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec("fsdp", "tensor")


@pytest.mark.long
def test_only_the_newest_are_kept(tmp_path):
    state = state_on(make_mesh(8, 1, 1))
    with Checkpoints(tmp_path, keep=2) as saved:
        for step in range(4):
            saved.save(state._replace(step=state.step + step), {"batches": step})
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["2", "3"]


def test_a_checkpoint_of_another_model_names_the_difference(tmp_path):
    with Checkpoints(tmp_path) as saved:
        saved.save(state_on(make_mesh(8, 1, 1)), {"batches": 0})
        with pytest.raises(UserError, match=r"another model.*layers/1.*missing there"):
            saved.restore(abstract_on(make_mesh(8, 1, 1), layers=2))


def test_a_full_disk_keeps_the_last_checkpoint_and_says_so(tmp_path, monkeypatch):
    state = state_on(make_mesh(8, 1, 1))
    with Checkpoints(tmp_path) as saved:
        saved.save(state, {"batches": 0})

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(type(saved._orbax), "save_async", full)
            with pytest.raises(UserError, match=r"step 1 could not.*No space left.*from step 0"):
                saved.save(state._replace(step=state.step + 1), {"batches": 1})
        assert saved.latest == 0


def test_a_truncated_checkpoint_is_one_line(tmp_path):
    state = state_on(make_mesh(8, 1, 1))
    with Checkpoints(tmp_path) as saved:
        saved.save(state, {"batches": 0})
    for path in (tmp_path / "0").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    cannot = pytest.raises(UserError, match=r"no checkpoint can be read .of steps \[0\]")
    with Checkpoints(tmp_path) as saved, cannot:
        saved.restore(abstract_on(make_mesh(8, 1, 1)))
    assert (tmp_path / "0").is_dir()  # what kept it from being read may pass


@pytest.mark.long
@pytest.mark.parametrize(("scores", "best"), [((math.nan, 0.5, 0.4), 1), ((0.5, 0.7, 0.7), 1)])
def test_the_first_of_the_highest_scores_is_kept(tmp_path, scores, best):
    state = state_on(make_mesh(8, 1, 1))
    with Checkpoints(tmp_path, keep=1, keep_best=1) as saved:
        for step, score in enumerate((*scores, 0.1)):
            saved.save(state._replace(step=state.step + step), {"batches": step}, score)
        saved.wait()
        assert saved.best == best
        assert saved.steps == [best, 3]


def test_a_truncated_checkpoint_that_was_asked_for_is_one_line(tmp_path):
    with Checkpoints(tmp_path) as saved:
        saved.save(state_on(make_mesh(8, 1, 1)), {"batches": 0})
    for path in (tmp_path / "0").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with Checkpoints(tmp_path) as saved, pytest.raises(UserError, match="0: the checkpoint cannot"):
        saved.restore(abstract_on(make_mesh(8, 1, 1)), 0)
    assert (tmp_path / "0").is_dir()
