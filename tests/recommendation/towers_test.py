"""Users and items with features, end to end: links, batches, training, the folder, its vectors."""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest

import gemb
from gemb import losses
from gemb.checks import UserError
from gemb.data.interactions import StreamingFrequencies
from gemb.evaluation import link_validation
from gemb.identity import model_fingerprint
from gemb.inference.embedder import Embedder
from gemb.models.execution import Execution
from gemb.models.functional import initial_params
from gemb.pretrained import saving
from gemb.processors.columns import FrozenTexts
from gemb.recommendation import linear, links, towers
from gemb.training import optimizers
from gemb.training.experiment import Experiment
from gemb.training.loop import train

USERS, ITEMS, GROUPS = 48, 24, 4
HISTORY = {"name": "history", "kind": "history", "limit": 8, "least": 1}
USER = {"name": "user", "kind": "id", "least": 1}
ITEM = {"name": "item", "kind": "id", "least": 1}
TAGS = {"name": "tags", "kind": "list", "limit": 3, "least": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Users of four groups who like the items of their group; the last of each is the test."""
    place, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = ["user\titem\tsplit"]
    for user in range(USERS):
        own = [item for item in range(ITEMS) if item % GROUPS == user % GROUPS]
        liked = rng.permutation(own)[:4]
        rows += [f"u{user}\ti{item}\ttrain" for item in liked[:-1]]
        rows.append(f"u{user}\ti{liked[-1]}\ttest")
    (place / "interactions.tsv").write_text("\n".join(rows) + "\n")
    for name, count in (("user", USERS), ("item", ITEMS)):
        lines = ["id\ttags\tage"]
        lines += [f"{name[0]}{n}\tgroup{n % GROUPS} all\t{n}" for n in range(count)]
        (place / f"{name}s.tsv").write_text("\n".join(lines) + "\n")
    return place


@pytest.fixture(scope="module")
def given(folder):
    return links.read(folder, part="test")


def model(given, **settings):
    sides = {"query": [HISTORY, USER, TAGS], "document": [ITEM, TAGS], "width": 16} | settings
    return towers.from_links(given, **sides)


def batches(given, processors=None, **settings):
    settings = {"links": given, "batch_size": 16} | settings
    return links.batches(processors or model(given).processors, 0, **settings)


@pytest.mark.long
def test_the_next_item_is_learned(tmp_path):
    """Each user walks through the items in a circle: the next item is known from the last one."""
    rows = ["user\titem\ttime"]
    rows += [f"u{u}\ti{(u * 5 + n) % 12}\t{n}" for u in range(24) for n in range(6)]
    (tmp_path / "interactions.tsv").write_text("\n".join(rows) + "\n")
    given = links.read(tmp_path, split="last", part="test")
    causal = HISTORY | {"table": "item", "pool": "causal"}
    made = towers.from_links(
        given, query=[causal], document=[ITEM], width=16, normalize=False, history_heads=2
    )
    data = functools.partial(
        links.batches, links=given, batch_size=24, histories="before", uniform=4
    )
    loss = functools.partial(losses.generalized_bce, catalogue=12)
    done = train(experiment(given, made, data=data, loss=loss, steps=80), tmp_path / "run")[0]
    assert link_validation.links(given, at=(1,))(done)["hr@1"] > 0.9


def experiment(given, made=None, **settings):
    return Experiment(
        **{
            "model": made or model(given),
            "data": functools.partial(links.batches, links=given, batch_size=16),
            "loss": functools.partial(losses.sampled_softmax, temperature=0.2),
            "optimizer": lambda steps: optax.adam(0.02),
            "steps": 60,
            "evaluators": {"links": link_validation.links(given, at=(5,))},
        }
        | settings
    )


@pytest.fixture(scope="module")
def trained(given, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return train(experiment(given), workdir)[0], workdir


def test_a_target_is_not_in_its_own_history(given):
    batch = next(batches(given))
    train, items = given.split.train, given.data.items.ids
    words = model(given).processors.query.vocabulary("item")
    for row in range(16):
        user, item = batch.query_id[row], batch.document_id[batch.positive[row]]
        assert (train.user == user)[train.item == item].any()
        rest = {words.of(items[i])[0] for i in train.item[train.user == user] if i != item}
        assert set(batch.query.columns["query/history"][row].tolist()) - {0} == rest
        assert set(batch.fields["known_positives"][row].tolist()) - {-1} == set(
            train.item[train.user == user].tolist()
        )


def test_histories_before_the_event_are_those_before_it(given):
    made = batches(given, histories="before")
    words = model(given).processors.query.vocabulary("item")
    train, items, seen = given.split.train, given.data.items.ids, 0
    for batch in (next(made), next(made)):
        for row in range(16):
            user, item = batch.query_id[row], batch.document_id[batch.positive[row]]
            own = train.item[train.user == user].tolist()  # without times in the order of the data
            before = own[: own.index(item)]
            expected = [words.of(items[one])[0] for one in before]
            found = batch.query.columns["query/history"][row].tolist()
            assert found == expected + [0] * (8 - len(expected))
            assert batch.query_mask[row] == bool(before)
            seen += len(before)
    assert seen > 20


def test_log_q_is_the_share_of_events(given):
    counts = np.bincount(given.split.train.item, minlength=ITEMS)
    batch = next(batches(given))
    expected = np.log(counts[batch.document_id] / counts.sum())
    np.testing.assert_allclose(batch.fields["log_q"], expected, rtol=1e-6)
    mixed = next(batches(given, uniform=2))
    assert len(mixed.document_id) == 48
    share = counts[mixed.document_id] / counts.sum()
    np.testing.assert_allclose(mixed.fields["log_q"], np.log(share / 3 + 2 / 3 / ITEMS), rtol=1e-5)
    stream, estimate = batches(given, log_q="streaming"), StreamingFrequencies(ITEMS)
    for _ in range(3):
        last = next(stream)
        estimate.update(last.document_id)
    expected = np.log(estimate.shares(last.document_id) / 16)
    np.testing.assert_allclose(last.fields["log_q"], expected, rtol=1e-6)


def test_the_whole_catalogue_can_compete(given):
    batch = next(batches(given, candidates="catalogue"))
    assert batch.document_mask.sum() == ITEMS
    assert not batch.fields["log_q"].any()
    np.testing.assert_array_equal(batch.document_id[batch.positive], batch.positive)


@pytest.mark.parametrize("log_q", ["exact", "streaming"])
def test_batches_resume_exactly_and_hosts_share_them(given, log_q):
    straight, resumed = batches(given, log_q=log_q), batches(given, log_q=log_q)
    made = [next(straight) for _ in range(4)]
    resumed.set_state(batches(given, log_q=log_q).get_state() | {"batches": 3})
    jax.tree.map(np.testing.assert_array_equal, next(resumed), made[3])
    parts = [next(batches(given, shard=(index, 2), log_q=log_q)) for index in (0, 1)]
    together = np.concatenate([part.document_id for part in parts])
    np.testing.assert_array_equal(together, made[0].document_id)
    np.testing.assert_array_equal(np.concatenate([p.positive for p in parts]), np.arange(16))
    with pytest.raises(UserError, match="data: it has changed since the checkpoint"):
        resumed.set_state({"batches": 1, "data": 1})


def test_it_learns_and_its_folder_gives_the_same_vectors(given, trained, tmp_path):
    made, _ = trained
    figures = link_validation.links(given, at=(5,))(made)
    assert figures["hr@5"] > 0.9  # of the three items left in a group of six
    identity = saving.save(made, tmp_path / "model", training={"steps": 60})
    again = gemb.load(str(tmp_path / "model"))
    assert again.fingerprint == identity == model_fingerprint(made)
    record = {"user": "u3", "history": ["i3", "i7"], "tags": "group3"}
    for one in ([record], [{"history": ["i5"]}], [{"user": "nobody", "tags": "all"}]):
        np.testing.assert_array_equal(again.encode_query(one), Embedder(made).encode_query(one))
    found = again.encode_query([record]) @ again.encode_document([{"item": "i11"}]).T
    assert found > again.encode_query([record]) @ again.encode_document([{"item": "i10"}]).T
    assert "compared by cosine" in (tmp_path / "model" / "README.md").read_text()
    columns = tmp_path / "model" / "features.json"
    columns.write_text(columns.read_text().replace('"i3"', '"i3b"'))
    with pytest.raises(UserError, match="are not those that it was saved with"):
        gemb.load(str(tmp_path / "model"))


def test_known_and_new_users_get_recommendations(given, trained, tmp_path):
    made = link_validation.tower_recommender(Embedder(trained[0]), given)
    known, new = made.recommend(["u5", "u99"], k=3, features={"history": ["i2", "i6"]})
    assert {int(item[1:]) % GROUPS for item in known.items[:2]} == {1}
    assert (known.source, new.source) == ("model", "features")
    assert {int(item[1:]) % GROUPS for item in new.items} == {2}
    made.save(tmp_path / "recommender")
    again = gemb.Recommender.load(tmp_path / "recommender")
    assert again.recommend(["u5"], k=3)[0].items == known.items


@pytest.mark.parametrize("width", [5, ITEMS])
def test_first_tables_are_ease_by_singular_vectors(given, width):
    train = given.split.train
    x = np.zeros((USERS, ITEMS))
    x[train.user, train.item] = 1
    inverse = np.linalg.inv(x.T @ x + 3 * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    scale = np.linalg.norm(x @ weights, axis=0) ** -0.5
    rows = np.linalg.svd(x @ weights * scale)[2][:width]
    expected = (weights * scale) @ rows.T @ rows / scale
    history, items = linear.linear_tables(given, width, penalty=3.0)
    np.testing.assert_allclose(history @ items.T, expected, rtol=0, atol=2e-4)


WIDE = {"normalize": False, "linear": {"penalty": 3.0, "width": 1_000, "weight": 2.0}}


def test_the_wide_part_adds_ease_to_the_cosine(given):
    made = model(given, query=[HISTORY, TAGS], **WIDE)
    vectors = link_validation.tower_vectors(Embedder(made), given)
    train, x = given.split.train, np.zeros((USERS, ITEMS))
    x[train.user, train.item] = 1
    inverse = np.linalg.inv(x.T @ x + 3 * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    ease = x @ weights / np.sqrt(x.sum(1))[:, None]
    assert made.spec.dim == 16 + ITEMS
    deep = [side[:, :16] for side in (vectors.users, vectors.items)]
    for side in deep:
        np.testing.assert_allclose(np.linalg.norm(side, axis=1), 1, rtol=1e-5)
    expected = deep[0] @ deep[1].T + 2.0 * ease
    np.testing.assert_allclose(vectors.users @ vectors.items.T, expected, rtol=0, atol=2e-4)
    unknown = Embedder(made).encode_document([{"item": "new", "tags": "group1"}])
    assert np.linalg.norm(unknown[0, :16]) > 0.9
    assert not unknown[0, 16:].any()


def test_training_leaves_the_wide_part_alone(given, tmp_path):
    made = model(given, query=[HISTORY, TAGS], **WIDE)
    settings = experiment(
        given, made, execution=Execution(dropout=0.1), steps=3,
        optimizer=functools.partial(
            optimizers.adamw, schedule=lambda steps: optax.constant_schedule(0.01), weight_decay=0.5
        ),
    )  # fmt: skip
    done = train(settings, tmp_path / "run")[0]
    for path, value in made.document.params.items():
        same = np.array_equal(done.document.params[path], value)
        assert same == ("/wide/" in path), path
    saving.save(done, tmp_path / "model")
    again = gemb.load(str(tmp_path / "model"))
    record = [{"history": ["i2", "i6"], "tags": "group2"}]
    np.testing.assert_array_equal(again.encode_query(record), Embedder(done).encode_query(record))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize": True}, "needs inner products"),
        ({"linear": {"width": 4}}, "expected a penalty"),
        ({"linear": {"penalty": 3.0, "wide": 4}}, "unknown 'wide'"),
        ({"linear": {"penalty": 0.0}}, "penalty: expected more than 0"),
        ({"query": [USER]}, "there is no part 'history'"),
    ],
)
def test_bad_settings_of_the_wide_part_are_refused(given, settings, message):
    with pytest.raises((UserError, ValueError), match=message):
        model(given, **{"query": [HISTORY]} | WIDE | settings)


@pytest.mark.long
def test_a_resumed_run_is_the_straight_one(given, trained, tmp_path):
    train(experiment(given, steps=30), tmp_path)
    again = train(experiment(given), tmp_path)[0]
    for path, value in trained[0].params.items():
        np.testing.assert_array_equal(again.params[path], value, err_msg=path)


@pytest.mark.parametrize(
    "top",
    [
        "sum",
        pytest.param("mlp", marks=pytest.mark.slow),
        pytest.param("cross", marks=pytest.mark.slow),
    ],
)
def test_towers_of_every_kind_have_finite_gradients(given, top, tmp_path):
    layers = {"sum": (), "mlp": (8,), "cross": (0, 0)}[top]
    history = HISTORY | {"pool": {"sum": "attention", "mlp": "causal", "cross": "mean"}[top]}
    age = {"name": "age", "kind": "number", "scaling": "quantile"}
    shared = history | {"table": "item"} if top == "sum" else history
    made = model(
        given, query=[shared | {"drop_rows": 0.3}, USER | {"drop": 0.5}, age],
        document=[ITEM, TAGS | {"buckets": 9}, age], top=top, layers=layers, normalize=top != "mlp",
        temperature=0.2,
    )  # fmt: skip
    e = experiment(given, made, execution=Execution(dropout=0.1), steps=2, evaluators=None)
    assert ("features/tables/query_history" in e.encoding.model.shapes) == (top != "sum")
    done = train(e, tmp_path)[0]
    assert all(np.isfinite(value).all() for value in done.params.values())
    assert done.spec.similarity == ("dot" if top == "mlp" else "cosine")


@pytest.mark.long
def test_an_unknown_value_adds_nothing_at_first(given):
    made = model(given)
    params = initial_params(made.spec, jax.random.key(0))
    made = dataclasses.replace(
        made, query=(t := dataclasses.replace(made.query, params=params)), document=t
    )
    one, other = (
        Embedder(made).encode_query([{"tags": "all"} | user]) for user in ({}, {"user": "new"})
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.long
def test_cold_items_are_measured_among_themselves(folder):
    cold = links.read(folder, split="cold", part="test", share=0.25, seed=3)
    assert len(cold.among) == 6
    assert not np.isin(cold.split.train.item, cold.among).any()
    tower = towers.from_links(cold, query=[HISTORY, TAGS], document=[TAGS], width=16)
    made = train(experiment(cold, tower, evaluators=None, steps=40), folder / "run")[0]
    figures = link_validation.links(cold, at=(2,))(made)
    assert figures["recall@2"] > 0.6  # an item of the user's group, of six in four groups


def test_texts_are_a_column(given, monkeypatch):
    def of_length(texts):
        return np.array([[len(text), 1.0] for text in texts], np.float32)

    monkeypatch.setattr(towers, "frozen_texts", lambda model: FrozenTexts(of_length, 2, "one"))
    text = {"name": "tags", "kind": "text", "model": "any"}
    batch = next(batches(given, model(given, document=[ITEM, text]).processors))
    lengths = [len(given.data.items.columns["tags"][item]) for item in batch.document_id]
    assert batch.document.columns["document/tags"].tolist() == [[n, 1.0] for n in lengths]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1000}, "batch_size: expected 2 to 144, the events, got 1000"),
        ({"batch_size": 32}, "32 links have more places than the catalogue's 24 items"),
        ({"candidates": "all"}, "candidates: expected one of"),
        ({"histories": "after"}, "histories: expected one of"),
        ({"candidates": "catalogue", "uniform": 1}, "uniform: with candidates = 'catalogue'"),
        ({"batch_size": 15, "shard": (0, 2)}, "batch_size: 15 does not divide over 2 hosts"),
    ],
)
def test_bad_batches_are_one_line(given, settings, message):
    with pytest.raises((UserError, ValueError), match=message):
        batches(given, **settings)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([{"name": "tags", "kind": "lists"}], "tags: kind: expected one of"),
        ([{"name": "tag", "kind": "list"}], "the table of users has no 'tag'"),
        ([{"nam": "tags", "kind": "list"}], "features: unknown 'nam'. Did you mean name?"),
        ([{"name": "tags"}], "features: expected a name and a kind"),
        ([TAGS | {"buckets": -1}], "buckets: expected at least 1 row"),
        ([{"name": "tags", "kind": "number"}], "tags: .*expected a number"),
    ],
)
def test_bad_features_are_one_line(given, features, message):
    with pytest.raises((UserError, ValueError), match=message):
        model(given, query=features)


def test_without_the_correction_there_is_a_warning(given):
    assert any("log_q" in line for line in batches(given, log_q="none").warnings)
    assert any("known" in line for line in batches(given, known=0).warnings)
