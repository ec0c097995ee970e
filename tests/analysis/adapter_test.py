"""Adapters: fits against closed forms, what they keep, refusals, the verbs end to end."""

import json

import jax
import numpy as np
import pytest
import scipy.linalg

from gemb.analysis import adapting
from gemb.analysis.neighbours import unit
from gemb.checks import UserError
from gemb.identity import SpaceError
from gemb.models.adapters import Adapter
from gemb.models.functional import initial_params
from gemb.models.scratch import from_scratch
from gemb.pretrained import saving
from gemb.processors.text import of_bytes

RNG = np.random.default_rng(0)
TURN = np.linalg.qr(RNG.normal(size=(12, 12)))[0]
CENTRES = RNG.normal(size=(20, 12)) * 2
OLD = unit(CENTRES[RNG.integers(20, size=900)] + RNG.normal(size=(900, 12)))
NEW = unit(OLD @ TURN + 0.05)


def test_rotation_equals_scipys():
    x, y = np.float64(OLD), np.float64(OLD @ TURN + 0.1 * RNG.normal(size=OLD.shape))
    found = adapting.rotation(x, y)
    expected, _ = scipy.linalg.orthogonal_procrustes(x - x.mean(0), y - y.mean(0))
    np.testing.assert_allclose(found["weights"], expected, atol=1e-5)


@pytest.mark.extra("eval")
def test_affine_equals_sklearns_ridge(monkeypatch):
    from sklearn.linear_model import Ridge

    monkeypatch.setattr(adapting, "_RIDGES", (0.01,))
    y = OLD @ RNG.normal(size=(12, 7)) + 0.1 * RNG.normal(size=(900, 7))
    found = adapting.affine(OLD, y)
    centred = np.float64(OLD - OLD.mean(0))
    strength = 0.01 * np.linalg.eigvalsh(centred.T @ centred).mean()
    model = Ridge(alpha=strength).fit(np.float64(OLD), y)
    np.testing.assert_allclose(found["weights"], model.coef_.T, atol=1e-4)


def test_low_rank_keeps_the_best_subspace():
    y = OLD @ RNG.normal(size=(12, 3)) @ RNG.normal(size=(3, 9))
    made = Adapter("low_rank", "documents", "", "", adapting.low_rank(OLD, y))
    assert np.linalg.matrix_rank(made.arrays["weights"], tol=1e-2) == 3
    np.testing.assert_allclose(made(OLD), unit(y), atol=2e-2)


@pytest.mark.long
def test_the_network_is_computed_as_it_was_trained():
    y = unit(np.tanh(3 * OLD) @ RNG.normal(size=(12, 12)))
    arrays = adapting.mlp(OLD, y)
    hidden = jax.nn.gelu((OLD - arrays["mean"]) @ arrays["hidden"] + arrays["hidden_bias"])
    expected = (OLD - arrays["mean"]) @ arrays["weights"] + arrays["shift"] + hidden @ arrays["out"]
    found = Adapter("mlp", "documents", "", "", arrays)(OLD)
    np.testing.assert_allclose(found, unit(expected), atol=1e-5)
    plain = Adapter("affine", "documents", "", "", adapting.affine(OLD, y))(OLD)
    assert np.sum(found * y) > np.sum(plain * y)


@pytest.mark.parametrize("direction", ["documents", "queries"])
def test_a_turned_space_is_recovered_and_reported(direction, tmp_path):
    kinds = ("rotation", "affine")
    made = adapting.fit_adapter(
        OLD, NEW, direction=direction, fingerprints=("old", "new"), kinds=kinds
    )
    source, target = (OLD, NEW) if direction == "documents" else (NEW, OLD)
    assert np.mean(np.sum(made(source) * target, axis=1)) > 0.99
    assert made.measured["agreement"][made.kind] > 0.9
    assert made.measured["warning"] == ""
    again = Adapter.load(made.save(tmp_path / "a") and tmp_path / "a")
    np.testing.assert_array_equal(again(source), made(source))
    assert (again.source, again.target) == ("old", "new")[:: 1 if direction == "documents" else -1]
    assert again.alignment.way == "adapter"
    ends = (again.source, again.target)
    again.check(*ends, direction)
    with pytest.raises(SpaceError, match="maps vectors of"):
        again.check(*ends[::-1], direction)
    other = {"documents": "queries", "queries": "documents"}[direction]
    with pytest.raises(SpaceError, match=f"gemb adapter --{other}"):
        again.check(*ends, other)


def test_the_estimate_is_what_new_pairs_show():
    """Between two noisy views of the same items, as between architectures."""
    rng = np.random.default_rng(3)
    items = rng.normal(size=(40, 24))[rng.integers(40, size=3_000)] + rng.normal(size=(3_000, 24))
    views = [
        unit(np.tanh(items @ rng.normal(size=(24, 24)) / 5) + 0.1 * rng.normal(size=items.shape))
        for _ in range(2)
    ]
    old, new = (view[:1_500] for view in views)
    made = adapting.fit_adapter(old, new, kinds=("affine",))
    fresh = [view[1_500:] for view in views]
    mapped = made(fresh[0])
    hits = []
    for row in range(1_000):
        lists = []
        for corpus in (fresh[1], mapped):
            scores = corpus @ fresh[1][row]
            scores[row] = -2
            lists.append(set(np.argsort(-scores)[:10]))
        hits.append(len(lists[0] & lists[1]) / 10)
    assert made.measured["estimate"] == pytest.approx(np.mean(hits), abs=0.02)
    assert made.measured["agreement"]["affine"] > np.mean(hits) + 0.05  # the small pool flatters


def test_noise_is_reported_as_worse_than_the_old_model():
    noise = unit(RNG.normal(size=OLD.shape))
    made = adapting.fit_adapter(OLD, noise, kinds=("rotation",))
    assert made.measured["agreement"]["rotation"] < 0.5
    assert made.measured["warning"]


def test_judged_retention_by_hand():
    documents, queries = (OLD[:50], NEW[:50]), (OLD[:10], NEW[:10])
    exact = {"mean": np.zeros(12), "weights": np.eye(12), "shift": np.zeros(12)}
    lost = Adapter("affine", "documents", "a", "b", exact)
    found = adapting.judged_retention(lost, documents, queries, [{i: 1} for i in range(10)])
    assert (found["old"], found["new"]) == (1, 1)
    assert found["adapter"] == found["of_new"] < 1


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (OLD, NEW[:-1], "old has 900 pairs and new 899"),
        (OLD[:10], NEW[:10], "10 pairs are fewer than the width 12"),
        (OLD, OLD, "nothing to adapt"),
        (OLD, np.where(NEW[0, 0] == NEW, np.nan, NEW), "new: expected"),
    ],
)
def test_bad_pairs_are_one_line(old, new, message):
    with pytest.raises(UserError, match=message):
        adapting.fit_adapter(old, new)


def test_broken_folders_are_one_line(tmp_path):
    with pytest.raises(UserError, match="gemb adapter"):
        Adapter.load(tmp_path)
    made = adapting.fit_adapter(OLD, NEW, kinds=("rotation",)).save(tmp_path / "a")
    with pytest.raises(UserError, match="reads vectors of dim 12"):
        made(OLD[:, :5])
    (tmp_path / "a" / "arrays.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="fit it again"):
        Adapter.load(tmp_path / "a")


def saved_model(folder, seed):
    made = from_scratch(of_bytes(96), layers=1, width=16, heads=2, mlp=16)
    drawn = jax.jit(lambda key: initial_params(made.spec, key))(jax.random.key(seed))
    saving.save(made.with_params(jax.device_get(drawn)), folder)
    return folder


@pytest.mark.long
def test_gemb_adapter_with_index_and_search(tmp_path, capsys, monkeypatch):
    from gemb.cli.__main__ import run

    monkeypatch.chdir(tmp_path)

    def call(verb, *arguments):
        with pytest.raises(SystemExit) as left:
            run(verb, list(arguments))
        return left.value.code, *capsys.readouterr()

    for name, seed in (("m1", 0), ("m2", 1)):
        saved_model(tmp_path / name, seed)
    words = ("red", "green", "blue", "black", "white", "grey")
    texts = [f"{words[i % 6]} {words[i // 6 % 6]} number {i}" for i in range(60)]
    rows = [{"_id": f"d{i}", "text": text} for i, text in enumerate(texts)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("1", "2"):
        asked = ("--input=corpus.jsonl", f"--output=v{name}", f"--model=m{name}")
        assert call("embed", *asked)[0] == 0
    status, out, err = call("adapter", "v1", "v2", "--output=docs", "--kinds=rotation,affine")
    assert status == 0, err
    assert "old model left alone" in out
    options = ("--corpus=corpus.jsonl", "--vectors=v1")
    status, _, err = call("index", "--model=m2", *options, "--output=mapped", "--adapter=docs")
    assert status == 0, err
    status, out, err = call("search", "--index=mapped", "red green number 6")
    assert status == 0, err
    assert out.count("\n") == 5
    refused = call("index", "--model=m1", *options, "--output=wrong", "--adapter=docs")
    assert refused[0] == 2
    assert "maps vectors of" in refused[2]
    assert not (tmp_path / "wrong").exists()
    assert call("index", "--model=m1", *options, "--output=old")[0] == 0
    status, _, err = call("search", "--index=old", "--adapter=docs", "red")
    assert (status, err.count("\n")) == (2, 1)
    assert call("adapter", "v1", "v2", "--queries", "--output=q", "--kinds=rotation")[0] == 0
    status, out, err = call("search", "--index=old", "--adapter=q", "red green number 6")
    assert status == 0, err
    assert out.count("\n") == 5
    assert (
        "two adapters" in call("adapter", "v1", "v2", "--queries", "--documents", "--output=z")[2]
    )
    assert "same model" in call("adapter", "v1", "v1", "--output=z")[2]
