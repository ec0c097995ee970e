"""The recommender: lists, fallbacks, filters, folders, two stages; and its verbs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

import gemb
from gemb.checks import UserError
from gemb.data.interactions import SideTable
from gemb.recommendation.baselines import ease, ials, interaction_matrix, item_knn, popularity
from gemb.recommendation.vectors import Fused, TextVectors, TwoStages, Vectors
from gemb.structs import Interactions
from tests.word_encoder import WordEncoder

ROOT = Path(__file__).parents[2]
USERS, ITEMS, DIM = 12, 15, 4


@pytest.fixture(scope="module")
def train():
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(USERS - 1) for i in range(ITEMS) if rng.random() < 0.3]
    user, item = np.array(pairs, np.int32).T
    return Interactions(user, item, np.ones(len(user), np.float32))


@pytest.fixture(scope="module")
def tables():
    users = SideTable(
        [f"u{n}" for n in range(USERS)],
        {"country": ["pe" if n % 2 else "hn" for n in range(USERS)]},
    )
    kinds = ["tool" if n < 5 else "book" for n in range(ITEMS)]
    texts = [f"{kind} about {['red', 'green', 'blue'][n % 3]} w{n}" for n, kind in enumerate(kinds)]
    return users, SideTable([f"i{n}" for n in range(ITEMS)], {"kind": kinds, "text": texts})


def models(train):
    rng = np.random.default_rng(1)
    users, items = rng.normal(size=(USERS, DIM)), rng.normal(size=(ITEMS, DIM))
    made = {
        "popularity": popularity(train, USERS, ITEMS),
        "EASE": ease(train, USERS, ITEMS, penalty=2.0),
        "kNN": item_knn(train, USERS, ITEMS, neighbours=3),
        "iALS": ials(train, USERS, ITEMS, dim=DIM, iterations=2),
        "vectors": Vectors(users, items),
        "texts": TextVectors(users, items, of_user=0.2, of_history=0.1),
    }
    made["fused"] = Fused([made["EASE"], made["texts"]], [1.0, 0.5])
    made["stages"] = TwoStages(made["vectors"], made["EASE"], candidates=6, weight=0.12)
    return made


@pytest.fixture(scope="module")
def recommender(train, tables):
    model = ease(train, USERS, ITEMS, penalty=2.0)
    return gemb.Recommender(model, *tables, train, segment="country")


def test_lists_are_a_stable_sort_without_seen_items(recommender, train):
    matrix = interaction_matrix(train, USERS, ITEMS).toarray()
    expected = matrix @ recommender.model.weights
    for name, seen in (("u3", True), ("u4", False)):
        row = int(name[1:])
        [found] = recommender.recommend([name], 4, exclude="seen" if seen else "nothing")
        scores = np.where(matrix[row] * seen > 0, -np.inf, expected[row]).astype(np.float32)
        order = np.argsort(-scores, kind="stable")[:4]
        assert found.items == [f"i{item}" for item in order]
        np.testing.assert_allclose(found.scores, scores[order], rtol=1e-5)
        assert (found.user, found.source, found.note) == (name, "model", "")


def test_unknown_users_fall_back_and_say_so(recommender, train):
    lists = recommender.recommend(["u1", "new"], 3, features={"history": ["i2", "i4"]})
    assert [found.source for found in lists] == ["model", "history"]
    assert lists[1].note == "the user is not known"
    weights = recommender.model.weights
    expected = weights[2] + weights[4]
    expected[[2, 4]] = -np.inf
    assert lists[1].items == [f"i{item}" for item in np.argsort(-expected, kind="stable")[:3]]

    [found] = recommender.recommend(["new"], 3, features={"country": "pe"})
    own = train.user % 2 == 1
    counts = np.bincount(train.item[own], minlength=ITEMS)
    assert found.source == "popularity in country pe"
    assert found.items == [f"i{item}" for item in np.argsort(-counts, kind="stable")[:3]]

    [found] = recommender.recommend(["new"], 3, features={"country": "xx"})
    assert found.source == "popularity"
    assert found.note == "the user is not known; no user has the country 'xx'"
    [found] = recommender.recommend(["new"], 3)
    counts = np.bincount(train.item, minlength=ITEMS)
    assert found.items == [f"i{item}" for item in np.argsort(-counts, kind="stable")[:3]]


def test_a_known_user_without_events_gets_what_is_popular(train, tables):
    """Unless the model has a vector for the user."""
    sources = {}
    for name, model in models(train).items():
        made = gemb.Recommender(model, *tables, train, segment="country")
        [found] = made.recommend([f"u{USERS - 1}"], 3)
        sources[name] = found.source
        assert found.note == ("the user has no events" if found.source != "model" else "")
    assert sources.pop("popularity") == "popularity in country pe"
    served = {name for name, source in sources.items() if source == "model"}
    assert served == {"vectors", "texts", "fused", "stages"}


def test_filters(recommender):
    [found] = recommender.recommend(["u0"], ITEMS, filters={"kind": "tool"})
    assert found.items
    assert all(int(name[1:]) < 5 for name in found.items)
    assert found.note == f"only {len(found.items)} items are left"
    [same] = recommender.recommend(["u0"], ITEMS, filters=lambda item: item["kind"] == "tool")
    assert same.items == found.items
    [both] = recommender.recommend(["u0"], ITEMS, filters={"kind": ["tool", "book"]})
    assert len(both.items) > len(found.items)


@pytest.mark.parametrize(("personal", "candidates"), [(0.0, 500), (0.3, 500), (0.9, 500), (0.3, 4)])
def test_what_a_query_finds_is_ranked_for_its_user(
    recommender, train, monkeypatch, personal, candidates
):
    monkeypatch.setattr("gemb.recommendation.recommender._CANDIDATES", candidates)
    words = WordEncoder()
    searching = recommender.with_texts(words, "text")
    [found] = searching.recommend(["u3"], ITEMS, query="red tool", personal=personal)
    own = interaction_matrix(train, USERS, ITEMS).toarray()[3]
    cosines = (
        words.encode(recommender.items.columns["text"], kind="")
        @ words.encode(["red tool"], kind="")[0]
    )
    left = np.flatnonzero(own == 0)
    near = left[np.argsort(-cosines[left])][:candidates]
    both = (1 - personal) * scipy.stats.zscore(cosines[near])
    both = both + personal * scipy.stats.zscore((own @ recommender.model.weights)[near])
    order = np.argsort(-both)
    assert found.items == [f"i{item}" for item in near[order]]
    np.testing.assert_allclose(found.scores, both[order], rtol=1e-4, atol=1e-5)
    assert found.source == "query and model"
    [new] = searching.recommend(["new"], 2, query="red tool", personal=0.0)
    assert new.source == "query and popularity"
    assert new.items == [f"i{item}" for item in np.argsort(-cosines)[:2]]


def test_a_query_needs_texts(recommender):
    with pytest.raises(UserError, match="call with_texts first"):
        recommender.recommend(["u3"], query="red")
    with pytest.raises(UserError, match=r"the items have no 'txt'.*Did you mean text"):
        recommender.with_texts(WordEncoder(), "txt")
    with pytest.raises(UserError, match="personal: expected 0 to 1"):
        recommender.with_texts(WordEncoder(), "text").recommend(["u3"], query="red", personal=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"users": "u1"}, "give a list of users"),
        ({}, "give a list of users, or features"),
        ({"users": ["u1"], "k": 0}, "k: expected at least 1"),
        ({"users": ["u1"], "exclude": "all"}, "exclude: expected one of seen, nothing"),
        ({"users": ["u1"], "filters": {"kin": "tool"}}, "no column 'kin'.*Did you mean kind"),
        ({"users": ["u1"], "filters": {"kind": "song"}}, "no item is left of 15"),
        ({"features": {"history": ["i99"]}}, "the item 'i99' is not known"),
        ({"features": {"text": "a game"}}, "'text' is not read by this recommender"),
    ],
)
def test_bad_arguments_are_one_line(recommender, arguments, message):
    with pytest.raises(UserError, match=message):
        recommender.recommend(**arguments)


def test_every_model_comes_back_from_its_folder(train, tables, tmp_path):
    for name, model in models(train).items():
        made = gemb.Recommender(model, *tables, train, segment="country")
        made.save(tmp_path / name)
        loaded = gemb.Recommender.load(tmp_path / name)
        users = [f"u{n}" for n in range(5)]
        for left, right in zip(made.recommend(users), loaded.recommend(users), strict=True):
            assert left.items == right.items, name
            np.testing.assert_array_equal(left.scores, right.scores)
        assert loaded.recommend(["new"], features={"country": "hn"})[0].items


def test_damaged_folders_are_one_line(train, tables, tmp_path):
    with pytest.raises(UserError, match=r"recommender\.json: cannot be read"):
        gemb.Recommender.load(tmp_path / "none")
    made = gemb.Recommender(popularity(train, USERS, ITEMS), *tables, train)
    made.save(tmp_path / "r")
    (tmp_path / "r" / "items.jsonl").write_text('{"id": "i0"}\n')
    with pytest.raises(UserError, match="damaged"):
        gemb.Recommender.load(tmp_path / "r")
    with pytest.raises(UserError, match="the table of users has no column 'town'"):
        gemb.Recommender(popularity(train, USERS, ITEMS), *tables, train, segment="town")


def test_a_tower_serves_users_by_features(train, tables):
    vectors = models(train)["vectors"]
    made = gemb.Recommender(vectors, *tables, train, encode=lambda features: features["vector"])
    wanted = np.arange(DIM, dtype=np.float32)
    [found] = made.recommend(features={"vector": wanted, "history": ["i0"]}, k=3)
    scores = vectors.items @ wanted
    scores[0] = -np.inf
    assert found.source == "features"
    assert found.items == [f"i{item}" for item in np.argsort(-scores, kind="stable")[:3]]


def test_two_stages_rank_the_candidates_of_the_first(train):
    made = models(train)
    matrix = interaction_matrix(train, USERS, ITEMS)
    rows = np.arange(USERS)
    found = made["stages"].scores(matrix, rows)
    first = made["vectors"].users @ made["vectors"].items.T
    second = made["EASE"].scores(matrix)
    for row in range(USERS - 1):
        free = [i for i in range(ITEMS) if not matrix[row, i]]
        chosen = sorted(free, key=lambda i: -first[row, i])[:6]
        near = first[row, chosen]
        expected = second[row, chosen] + 0.12 * (near - near.mean()) / near.std()
        np.testing.assert_allclose(found[row, chosen], expected, rtol=1e-4, atol=1e-5)
        assert np.isinf(np.delete(found[row], chosen)).all()


def test_unknown_users_of_towers_get_the_mean_of_their_items(train):
    vectors = models(train)["vectors"]
    matrix = interaction_matrix(train, USERS, ITEMS)
    mean = matrix[[3]].toarray() @ vectors.items
    expected = (mean / np.linalg.norm(mean)) @ vectors.items.T
    np.testing.assert_allclose(vectors.scores(matrix[[3]], [-1]), expected, rtol=1e-5)
    np.testing.assert_allclose(
        vectors.scores(matrix[[3]], [3]), vectors.users[[3]] @ vectors.items.T, rtol=1e-5
    )


def gemb_verb(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "gemb.cli", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.long
def test_the_verbs(train, tmp_path):
    data, output = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    lines = [f"u{u}\ti{i}" for u, i in zip(train.user, train.item, strict=True)]
    (data / "interactions.tsv").write_text("\n".join(["user\titem", *lines]) + "\n")
    (data / "users.tsv").write_text(
        "id\ttown\n" + "".join(f"u{n}\t{'ab'[n % 2]}\n" for n in range(USERS))
    )
    done = gemb_verb(
        "baselines", data, "--only=popularity,EASE", "--save=EASE", "--segment=town",
        f"--output={output}", "--seed=3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tree = json.loads((output / "results.json").read_text())
    assert list(tree["models"]) == ["popularity", "EASE"]
    assert tree["models"]["EASE"]["tried"] == 6
    assert len(tree["comparisons"]) == 1
    low, high = tree["models"]["EASE"]["intervals"]["ndcg@10"]
    assert low <= tree["models"]["EASE"]["figures"]["ndcg@10"] <= high
    page = (output / "report.html").read_text()
    assert "recall@100" in page
    assert "EASE" in page

    folder = output / "recommender"
    done = gemb_verb("recommend", f"--recommender={folder}", "--user=u1,new", "--json", "--count=3")
    assert done.returncode == 0, done.stderr
    lists = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found["source"] for found in lists] == ["model", "popularity"]
    assert len(lists[0]["items"]) == 3
    done = gemb_verb("recommend", f"--recommender={folder}", "--history=i1", "--filters=id=i2")
    assert done.returncode == 2
    assert "the items have no column 'id'" in done.stderr
    done = gemb_verb("recommend", f"--recommender={folder}", "--history=i1", "--personal=0.9")
    assert done.returncode == 2
    assert "--personal: is read with --query only" in done.stderr
    done = gemb_verb("baselines", data, "--only=EASY")
    assert done.returncode == 2
    assert "no baseline 'EASY'" in done.stderr
