"""What answers when the newest version cannot: popular lists, and indexes on other servers."""

import json

import numpy as np
import pytest
import served
import services

pytestmark = pytest.mark.extra("serve")
SCORES = {"d7": 9.0, "gone": 8.0, "d2": 5.0, "d4": 5.0, "d1": 1.0}


def write_popular(file, scores):
    lines = (json.dumps({"id": name, "score": score}) + "\n" for name, score in scores.items())
    file.write_text("".join(lines))
    return file


def ids(answer):
    return [hit["id"] for hit in answer["hits"]]


@pytest.fixture(scope="module")
def server(places):
    from gemb.store.keyed import open_keyed

    folder = places["folder"]
    address = f"sqlite:{folder / 'users.db'}"
    users = open_keyed(address)
    served.publish(folder / "store", places["model"], places["corpus"], users=users)
    users.close()
    popular = write_popular(folder / "popular.jsonl", SCORES)
    made = served.Running(releases=[folder / "store"], users=address, popular=str(popular))
    yield made
    made.close()


def test_what_is_popular_answers_for_ids_that_no_version_knows(server):
    status, answer = server.post("/v1/search", user_id="nobody", k=3)
    assert status == 200
    assert (answer["retriever"], answer["fallback"]) == ("popular", "id_absent")
    assert answer["version"] is None
    assert ids(answer) == ["d7", "d2", "d4"]  # equal scores as in the file's order of the corpus
    assert [hit["score"] for hit in answer["hits"]] == [9.0, 5.0, 5.0]
    assert answer["hits"][0]["text"] == served.TEXTS[7]
    _, near = server.post("/v1/search", item_id="nothing", k=9)
    assert (near["retriever"], near["fallback"]) == ("popular", "id_absent")
    assert ids(near) == ["d7", "d2", "d4", "d1"]
    _, even = server.post("/v1/search", user_id="nobody", k=9, filter={"even": True})
    assert ids(even) == ["d2", "d4"]
    _, known = server.post("/v1/search", user_id="u1", k=3)
    assert (known["retriever"], known["fallback"]) == ("vectors", None)
    _, text = server.post("/v1/search", user_id="nobody", query="forest", k=3)
    assert (text["retriever"], text["fallback"]) == ("vectors", "id_absent")


def test_what_is_popular_is_the_last_of_the_chain(server):
    from gemb.serving.retrieval import Breaker
    from gemb.store.keyed import HostError

    [step] = server.state.chains["store"].steps
    was = step.searcher

    class Down:
        dim, reads, documents = was.dim, "vectors", 1

        def search(self, queries, k):
            raise HostError("down")

    step.searcher = Down()
    try:
        _, near = server.post("/v1/search", item_id="d7", k=2)
        assert (near["retriever"], near["fallback"]) == ("popular", "host_down")
        assert ids(near) == ["d2", "d4"]
        assert server.post("/v1/search", query="forest")[1]["retriever"] == "bm25"
        _, user = server.post("/v1/search", user_id="u1", k=1)
        assert (user["retriever"], user["fallback"]) == ("popular", "host_down")
    finally:
        step.searcher, step.breaker = was, Breaker()
    assert list(server.state.chains["store"].others) == ["bm25", "popular"]


def test_a_version_has_a_list_of_its_own(server, places):
    from gemb.identity import model_space
    from gemb.inference.embedder import Embedder
    from gemb.store import VersionStore

    embedder = Embedder.load(str(places["model"]))
    store = VersionStore(places["folder"] / "store")
    with store.draft(model_space(embedder.model)[0]) as draft:
        draft.add("items", ["d1", "d2"], embedder.encode(served.TEXTS[1:3]))
        write_popular(draft.folder / "popular.jsonl", {"d1": 2, "d2": 3})
    store.publish(draft.version)
    newest = server.state.chains["store"].steps
    served.until(lambda: server.state.chains["store"].steps is not newest)
    assert ids(server.post("/v1/search", user_id="nobody")[1]) == ["d2", "d1"]


def test_a_recommender_counts_the_users_of_its_items(tmp_path):
    from gemb.data.interactions.reading import SideTable
    from gemb.recommendation.baselines.popularity import Popularity
    from gemb.recommendation.recommender import Recommender
    from gemb.serving.popular import read_popular
    from gemb.structs import Interactions

    user, item = np.array([0, 1, 2, 0, 1]), np.array([1, 1, 1, 0, 0])
    events = Interactions(user, item, np.ones(5, np.float32), None)
    made = Recommender(
        Popularity(np.ones(3)),
        SideTable(["a", "b", "c"], {}),
        SideTable(["x", "y", "z"], {}),
        events,
    )
    made.save(tmp_path / "made")
    assert read_popular(tmp_path / "made") == {"x": 2.0, "y": 3.0}


@pytest.mark.parametrize(
    "text", ["", "x\n", '{"id": "a"}\n', '{"id": "a", "score": 1}\n{"id": "a", "score": 2}\n',
             '{"id": "a", "score": NaN}\n']
)  # fmt: skip
def test_broken_lists_are_one_line(tmp_path, text):
    from gemb.checks import UserError
    from gemb.serving.popular import read_popular

    (tmp_path / "list.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"list.jsonl"):
        read_popular(tmp_path / "list.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        read_popular(tmp_path / "none.jsonl")


@pytest.fixture(scope="module")
def postgres_address():
    with services.postgres() as address:
        yield address.replace("postgresql://", "pgvector://")


@pytest.fixture(
    params=["local", pytest.param("pgvector", marks=pytest.mark.extra("services", "postgres"))]
)
def host(request, places, tmp_path):
    """An index host with a version of the corpus, and its address."""
    from gemb.identity import model_space
    from gemb.inference.embedder import Embedder
    from gemb.store.hosts.opening import open_host

    local = request.param == "local"
    address = str(tmp_path / "host") if local else request.getfixturevalue("postgres_address")
    opened = open_host(address, name="notes", create=True, seconds=0.0)
    embedder = Embedder.load(str(places["model"]))
    vectors = embedder.encode(served.TEXTS)
    space = model_space(embedder.model)[0]
    load(opened, space, [f"d{row}" for row in range(len(vectors))], vectors)
    yield opened, address, embedder, space
    opened.close()


def load(host, space, names, vectors):
    """Loads, verifies and publishes a version."""
    version = host.begin(space)
    attributes = [{"even": row % 2 == 0} for row in range(len(names))]
    host.load(version, names, vectors, attributes)
    order = np.argsort(-(served.unit(vectors) @ served.unit(vectors[:3]).T), axis=0)[:5]
    expected = [[names[row] for row in column] for column in order.T]
    host.verify(version, vectors[:3], expected, 0.9, rows=len(names))
    host.publish(version)
    return version


def test_an_index_host_answers_and_is_followed(places, host):
    opened, address, embedder, space = host
    running = served.Running(
        models=[places["model"]], index_host=address, users_name="notes",
        corpus=str(places["corpus"]),
    )  # fmt: skip
    try:
        status, answer = running.post("/v1/search", query="forest island", k=5)
        assert status == 200
        documents = served.unit(embedder.encode(served.TEXTS))
        query = served.unit(embedder.encode(["forest island"], kind="query"))[0]
        best = np.argsort(-(documents @ query))
        assert ids(answer) == [f"d{row}" for row in best[:5]]
        assert (answer["index"], answer["version"], answer["fallback"]) == ("notes", "1.1", None)
        assert answer["hits"][0]["text"] == served.TEXTS[best[0]]
        scores = [hit["score"] for hit in answer["hits"]]
        np.testing.assert_allclose(scores, (documents @ query)[best[:5]], atol=1e-5)
        _, even = running.post("/v1/search", query="forest island", k=4, filter={"even": True})
        assert ids(even) == [f"d{row}" for row in best if row % 2 == 0][:4]
        _, near = running.post("/v1/search", item_id="d3", k=3)
        order = np.argsort(-(documents @ documents[3]), kind="stable")
        assert ids(near) == [f"d{row}" for row in order if row != 3][:3]
        vector = (documents[5] * 2).tolist()
        _, wrong = running.post("/v1/search", vector=vector, space="0" * 32)
        assert wrong["error"]["code"] == "space_mismatch"
        assert running.post("/v1/search", query="a", filter={"no name": 1})[0] == 400
        load(opened, space, ["new", "other"], embedder.encode(["forest island", "x"]))
        served.until(lambda: str(running.state.chains["notes"].steps[0].version) == "1.2")
        _, answer = running.post("/v1/search", query="forest island", k=1)
        assert (ids(answer), answer["version"]) == (["new"], "1.2")
        assert answer["hits"][0].get("text") is None  # the corpus lacks it
    finally:
        running.close()


@pytest.mark.long
@pytest.mark.extra("services", "postgres")
def test_bm25_answers_when_the_host_does_not(places):
    from gemb.identity import model_space
    from gemb.inference.embedder import Embedder
    from gemb.store.hosts.opening import open_host

    with services.postgres() as address:
        opened = open_host(address, name="notes", seconds=0.0)
        embedder = Embedder.load(str(places["model"]))
        names = [f"d{row}" for row in range(len(served.TEXTS))]
        load(opened, model_space(embedder.model)[0], names, embedder.encode(served.TEXTS))
        opened.close()
        running = served.Running(
            models=[places["model"]], index_host=address, users_name="notes",
            corpus=str(places["corpus"]),
        )  # fmt: skip
        assert running.post("/v1/search", query="forest")[1]["version"] == "1.1"
    try:
        status, answer = running.post("/v1/search", query="forest")
        assert status == 200
        assert (answer["retriever"], answer["fallback"]) == ("bm25", "host_down")
        assert running.follows[0].error or running.post("/v1/search", query="a")[0] == 200
    finally:
        running.close()
