"""Towers in a recommender: gemb baselines --towers, gemb recommend --features, in Python."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import gemb
from gemb.checks import UserError
from gemb.evaluation.link_validation import tower_vectors
from gemb.inference.embedder import Embedder
from gemb.models.functional import initial_params
from gemb.pretrained import saving
from gemb.recommendation import links, towers

ROOT = Path(__file__).parents[2]
USERS, ITEMS = 30, 20


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Interactions with a column "kind", and a folder with towers of random weights."""
    data, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = ["user\titem\tsplit"]
    for user in range(USERS):
        own = rng.choice(ITEMS, 5, replace=False)
        rows += [f"u{user}\ti{item}\t{'test' if n == 0 else 'train'}" for n, item in enumerate(own)]
    (data / "interactions.tsv").write_text("\n".join(rows) + "\n")
    for name, count in (("user", USERS), ("item", ITEMS)):
        lines = ["id\tkind", *(f"{name[0]}{n}\tk{n % 3}" for n in range(count))]
        (data / f"{name}s.tsv").write_text("\n".join(lines) + "\n")
    kind = {"name": "kind", "kind": "id", "least": 1}
    history = {"name": "history", "kind": "history", "limit": 8, "least": 1}
    item = {"name": "item", "kind": "id", "least": 1}
    given = links.read(data, part="test")
    model = towers.from_links(given, query=[kind, history], document=[kind, item], width=8)
    model = model.with_params(initial_params(model.spec, jax.random.key(0)))
    saving.save(model, data / "towers")
    return data


def gemb_verb(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "gemb.cli", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.long
def test_from_towers_to_recommendations(place, tmp_path):
    done = gemb_verb(
        "baselines", place, f"--towers={place / 'towers'}", "--only=EASE", "--segment=kind",
        "--save=towers, then EASE", f"--output={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tree = json.loads((tmp_path / "results.json").read_text())
    assert list(tree["models"]) == ["EASE", "towers", "towers, then EASE"]
    assert {row["model"] for row in tree["comparisons"]} == {"towers", "towers, then EASE"}

    features = {"kind": "k1", "history": ["i3"]}
    place_of = f"--recommender={tmp_path / 'recommender'}"
    done = gemb_verb("recommend", place_of, f"--features={json.dumps(features)}", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    embedder = Embedder.load(place / "towers")
    vector = embedder.encode([features], kind="query")[0]
    vectors = tower_vectors(embedder, links.read(place, part="test"))
    scores = vectors.items @ vector
    scores[3] = -np.inf
    assert found["source"] == "features"
    assert found["items"] == [f"i{item}" for item in np.argsort(-scores, kind="stable")[:5]]

    recommender = gemb.Recommender.load(tmp_path / "recommender")
    assert recommender.recommend(["u0"])[0].source == "model"
    with pytest.raises(UserError, match="the towers do not read 'kin'; they read history, kind"):
        recommender.recommend(features={"kin": "k1"})
    for flag, message in (
        ("--features=kind", "--features: not JSON"),
        ("--features=[1]", "--features: expected a JSON object"),
    ):
        done = gemb_verb("recommend", place_of, flag)
        assert done.returncode == 2
        assert message in done.stderr
    done = gemb_verb("baselines", place, f"--towers={place}", "--only=EASE")
    assert done.returncode == 2
    assert "is not a model over features" in done.stderr


@pytest.mark.long
def test_the_weight_of_towers_is_chosen_on_validation(place, tmp_path):
    towers_of = place / "towers"
    done = gemb_verb(
        "baselines", place, f"--towers={towers_of}", f"--validation_towers={towers_of}",
        f"--twin={towers_of}", "--only=EASE", "--save=EASE + towers", f"--output={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tree = json.loads((tmp_path / "results.json").read_text())
    names = ["EASE", "towers", "towers of ids alone", "towers, then EASE", "EASE + towers"]
    assert list(tree["models"]) == names
    twin = tree["comparisons"][-1]
    assert (twin["model"], twin["baseline"]) == ("towers", "towers of ids alone")
    assert twin["difference"] == 0  # the same folder

    # by numpy: EASE's scores, and the first hundred (here all) items' scores of the towers
    given, inner = links.read(place, part="test"), links.read(place, part="validation")
    vectors = tower_vectors(Embedder.load(towers_of), inner)
    penalty = tree["models"]["EASE"]["settings"]["penalty"]
    x = np.zeros((USERS, ITEMS))
    x[inner.split.train.user, inner.split.train.item] = 1
    inverse = np.linalg.inv(x.T @ x + penalty * np.eye(ITEMS))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    first, second = vectors.users @ vectors.items.T.astype(np.float64), x @ weights
    first[x > 0] = np.nan
    z = (first - np.nanmean(first, 1, keepdims=True)) / np.nanstd(first, 1, keepdims=True)
    for name, part in (("towers, then EASE", z), ("EASE + towers", first)):
        row = tree["models"][name]
        mixed = second + row["settings"]["weight"] * part
        mixed[x > 0] = -np.inf
        rank = [
            int((mixed[u] > mixed[u, i]).sum())
            for u, i in zip(inner.split.test.user, inner.split.test.item, strict=True)
        ]
        expected = np.mean([1 / np.log2(r + 2) if r < 10 else 0 for r in rank])
        np.testing.assert_allclose(row["validation"], expected, rtol=1e-5)
    assert given.split.test.user.size == USERS
    found = gemb.Recommender.load(tmp_path / "recommender").recommend(features={"kind": "k1"})
    assert found[0].source == "features"
    done = gemb_verb("baselines", place, f"--twin={towers_of}")
    assert done.returncode == 2
    assert "--twin: goes with --towers" in done.stderr
