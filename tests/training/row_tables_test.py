"""Tables by rows in the training loop: numpy's update, a resumed run, 8 devices and one."""

import functools

import jax
import numpy as np
import optax
import pytest

from gemb import losses
from gemb.checks import UserError
from gemb.models.functional import initial_params
from gemb.parallel.mesh import make_mesh
from gemb.recommendation import links, towers
from gemb.training.experiment import Experiment
from gemb.training.loop import train
from gemb.training.row_optimizers import RowAdagrad, RowTables
from gemb.training.step import batch_loss

RATE = 0.1
TABLES = ("features/tables/item", "features/tables/query_history", "features/tables/query_tags")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    place, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = ["user\titem\tsplit"]
    for user in range(40):
        own = rng.choice(32, 5, replace=False)
        rows += [f"u{user}\ti{item}\t{'test' if n == 4 else 'train'}" for n, item in enumerate(own)]
    (place / "interactions.tsv").write_text("\n".join(rows) + "\n")
    lines = ["id\ttags", *(f"u{n}\ta{n % 5} b{n % 3}" for n in range(40))]
    (place / "users.tsv").write_text("\n".join(lines) + "\n")
    return links.read(place, part="test")


def experiment(given, **settings):
    query = [
        {"name": "history", "kind": "history", "limit": 4, "least": 1},
        {"name": "tags", "kind": "list", "limit": 2, "least": 1},
    ]
    document = [{"name": "item", "kind": "id", "least": 1}]
    made = towers.from_links(given, query=query, document=document, width=8, top="mlp", pad_rows=8)
    made = made.with_params(initial_params(made.spec, jax.random.key(1)))
    return Experiment(
        **{
            "model": made,
            "data": functools.partial(links.batches, links=given, batch_size=16),
            "loss": functools.partial(losses.sampled_softmax, temperature=0.2),
            "optimizer": lambda steps: optax.sgd(0.1),
            "steps": 1,
            "rows": RowTables(RowAdagrad(RATE)),
        }
        | settings
    )


@pytest.mark.long
def test_a_step_is_numpys_over_the_whole_table(given, tmp_path):
    e = experiment(given)
    before, batch = e.model.params, next(e.batches())
    slopes = jax.grad(lambda params: batch_loss(e.encoding, e.loss, params, batch)[0])(before)
    after = train(e, tmp_path)[0].params
    assert set(TABLES) < set(after)
    for path, slope in slopes.items():
        slope, expected = np.asarray(slope, np.float64), np.asarray(before[path], np.float64)
        if path in TABLES:
            touched = np.flatnonzero(np.abs(slope).sum(axis=1))
            assert 0 < len(touched) < len(slope)
            state = np.mean(slope[touched] ** 2, axis=1) + 1e-8
            expected[touched] -= RATE * slope[touched] / np.sqrt(state)[:, None]
        else:
            expected = expected - 0.1 * slope
        np.testing.assert_allclose(after[path], expected, rtol=0, atol=2e-6, err_msg=path)


@pytest.mark.long
def test_a_resumed_run_is_the_straight_one_and_eight_devices_are_one(given, tmp_path):
    straight = train(experiment(given, steps=4), tmp_path / "straight")[0].params
    train(experiment(given, steps=2), tmp_path / "resumed")
    resumed = train(experiment(given, steps=4), tmp_path / "resumed")[0].params
    over = functools.partial(make_mesh, 2, 2, 2)
    eight = train(experiment(given, steps=4, mesh=over), tmp_path / "eight")[0].params
    for path, value in straight.items():
        np.testing.assert_array_equal(resumed[path], value, err_msg=path)
        np.testing.assert_allclose(eight[path], value, rtol=0, atol=1e-6, err_msg=path)


def test_what_does_not_fit_is_named(given, tmp_path):
    with pytest.raises(UserError, match="rows: do not work with ema_decay"):
        experiment(given, ema_decay=0.9)
    with pytest.raises(UserError, match="rows: no table of the model matches 'user'"):
        _ = experiment(given, rows=RowTables(tables="user")).transform
    with pytest.raises(ValueError, match="rate: expected above 0"):
        _ = experiment(given, rows=RowTables(RowAdagrad(0.0))).transform
    odd = towers.from_links(
        given, query=[{"name": "history", "kind": "history"}],
        document=[{"name": "item", "kind": "id", "least": 1}], width=8, pad_rows=11,
    )  # fmt: skip
    over = functools.partial(make_mesh, 2, 2, 2)
    with pytest.raises(UserError, match="33 rows of 'query_history' do not divide"):
        train(experiment(given, model=odd, mesh=over), tmp_path)
