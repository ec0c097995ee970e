"""Releases: which version answers, what answers when it cannot, and swaps under load."""

import threading

import numpy as np
import pytest
import served

pytestmark = pytest.mark.extra("serve")
ADMIN = {"Authorization": "Bearer administrators-key-1"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two models, a store with a version of each, the users of both."""
    from gemb.store.keyed import open_keyed

    folder = tmp_path_factory.mktemp("releases")
    corpus = served.write_corpus(folder / "corpus")
    users = f"sqlite:{folder / 'users.db'}"
    keyed = open_keyed(users)
    for seed, name in enumerate(("items", "documents")):
        model = served.save_model(folder / f"tiny{seed}", seed)
        served.publish(folder / "store", model, corpus, users=keyed, name=name)
    keyed.close()
    (folder / "admin.txt").write_text("# one line each\nadministrators-key-1\n")
    return {"folder": folder, "store": folder / "store", "users": users, "corpus": corpus}


@pytest.fixture(scope="module")
def server(made):
    from gemb.serving.http.web import Keys

    keys = Keys(admins=str(made["folder"] / "admin.txt"))
    running = served.Running(releases=[made["store"]], users=made["users"], keys=keys)
    yield running
    running.close()


@pytest.fixture(scope="module")
def embedders(made):
    from gemb.inference.embedder import Embedder

    return [Embedder.load(str(made["folder"] / f"tiny{seed}")) for seed in (0, 1)]


def expected(embedder, query, k=5):
    documents = served.unit(embedder.encode(served.TEXTS))
    vector = served.unit(embedder.encode([query], kind="query"))[0]
    return [f"d{row}" for row in np.argsort(-(documents @ vector))[:k]]


def ids(answer):
    return [hit["id"] for hit in answer["hits"]]


@pytest.fixture
def broken(server):
    """Makes the newest version fail, as a host that is down."""
    from gemb.serving.retrieval import Breaker
    from gemb.store.keyed import HostError

    steps = server.state.chains["store"].steps
    was = [(step, step.searcher) for step in steps]

    class Down:
        dim, reads, documents = steps[0].searcher.dim, "vectors", 1

        def search(self, queries, k):
            raise HostError("down")

    def breaks(count):
        for step in steps[:count]:
            step.searcher = Down()

    yield breaks
    for step, searcher in was:
        step.searcher, step.breaker = searcher, Breaker()


def test_the_newest_version_answers_with_its_own_model(server, embedders):
    status, answer, headers = server.ask("POST", "/v1/search", {"query": "a forest", "k": 5})
    assert status == 200
    assert (answer["version"], answer["fallback"]) == ("2.1", None)
    assert headers["x-gemb-release"] == "2.1"
    assert ids(answer) == expected(embedders[1], "a forest")
    _, older = server.post("/v1/search", query="a forest", k=5, version="1.1")
    assert (older["version"], older["fallback"]) == ("1.1", "asked")
    assert ids(older) == expected(embedders[0], "a forest")
    assert server.post("/v1/search", query="a", version="9.9")[0] == 404
    _, models, _ = server.ask("GET", "/v1/models")
    assert [each["id"] for each in models["data"]] == ["store@2.1", "store@1.1", "store"]
    _, vectors = server.post("/v1/embeddings", input="x", model="store")
    assert vectors["gemb"]["generation"] == 2


def test_a_version_that_fails_is_answered_by_the_one_before_it_then_by_bm25(
    server, embedders, broken
):
    broken(1)
    status, answer = server.post("/v1/search", query="a forest", k=5)
    assert status == 200
    assert (answer["version"], answer["fallback"]) == ("1.1", "host_down")
    assert ids(answer) == expected(embedders[0], "a forest")
    broken(2)
    status, answer = server.post("/v1/search", query="forest", k=5)
    assert status == 200
    assert (answer["version"], answer["retriever"]) == (None, "bm25")
    assert all("forest" in hit["text"] for hit in answer["hits"])
    assert server.post("/v1/search", item_id="d1")[0] == 503


def test_a_version_that_fails_again_and_again_is_left_out(server, broken):
    broken(1)
    step = server.state.chains["store"].steps[0]
    for _ in range(5):
        server.post("/v1/search", query="a")
    assert step.breaker.open()
    asked = []
    step.searcher.search = lambda queries, k: asked.append(1)
    assert server.post("/v1/search", query="a")[1]["version"] == "1.1"
    assert not asked


def test_users_meet_items_of_their_own_generation(server, embedders, made):
    _, answer = server.post("/v1/search", user_id="u3", k=5)
    assert answer["version"] == "2.1"
    assert ids(answer) == expected(embedders[1], served.TEXTS[3])
    assert server.post("/v1/search", user_id="nobody")[0] == 404
    _, with_text = server.post("/v1/search", user_id="nobody", query="a forest", k=5)
    assert with_text["fallback"] == "id_absent"
    assert ids(with_text) == expected(embedders[1], "a forest")
    _, both = server.post("/v1/search", user_id="u3", query="a forest", weight=0.25, k=5)
    vectors = served.unit(embedders[1].encode([served.TEXTS[3], "a forest"], kind="query"))
    documents = served.unit(embedders[1].encode(served.TEXTS))
    scores = documents @ (0.75 * vectors[0] + 0.25 * vectors[1])
    assert ids(both) == [f"d{row}" for row in np.argsort(-scores)[:5]]


def test_one_vector_is_put_and_removed(server, embedders):
    space = server.ask("GET", "/v1/versions")[1]["indexes"][0]["versions"][0]["space"]
    vector = embedders[1].encode(["the glacier"], kind="query")[0].tolist()
    body = {"vector": vector, "space": space}
    assert server.ask("PUT", "/v1/vectors/users/new", body)[0] == 401
    assert server.ask("PUT", "/v1/vectors/users/new", body, ADMIN)[1] == {"version": "2.1"}
    _, answer = server.post("/v1/search", user_id="new", k=5)
    assert ids(answer) == expected(embedders[1], "the glacier")
    other = body | {"space": "0" * 32}
    assert server.ask("PUT", "/v1/vectors/users/new", other, ADMIN)[0] == 409
    short = body | {"vector": vector[:3]}
    assert server.ask("PUT", "/v1/vectors/users/new", short, ADMIN)[0] == 400
    assert server.ask("PUT", "/v1/vectors/items/new", body, ADMIN)[0] == 404
    assert server.ask("DELETE", "/v1/vectors/users/new", None, ADMIN)[1] == {"removed": 1}
    assert server.post("/v1/search", user_id="new")[0] == 404


def test_an_administrator_rolls_back_and_publishes(server):
    body = {"store": "store", "why": "a test"}
    assert server.ask("POST", "/admin/rollback", body)[0] == 401
    wrong = {"Authorization": "Bearer administrators-key-2"}
    assert server.ask("POST", "/admin/rollback", body, wrong)[0] == 401
    status, answer, _ = server.ask("POST", "/admin/rollback", body, ADMIN)
    assert (status, answer["live"]) == (200, "1.1")
    _, found = server.post("/v1/search", query="a forest")
    assert (found["version"], found["fallback"]) == ("1.1", None)
    body = {"store": "store", "version": "2.1"}
    assert server.ask("POST", "/admin/publish", body, ADMIN)[1]["live"] == "2.1"
    assert server.post("/v1/search", query="a forest")[1]["version"] == "2.1"
    assert server.ask("POST", "/admin/publish", {"store": "x", "version": "1.1"}, ADMIN)[0] == 404
    body["version"] = "7"
    assert server.ask("POST", "/admin/publish", body, ADMIN)[0] == 400


def swaps(server, embedders, rounds):
    """Searches from four threads while the live version changes; what went wrong."""
    from gemb.store import VersionStore

    store = VersionStore(server.follows[0].store.folder)
    right = {f"{g}.1": expected(embedders[g - 1], "a forest") for g in (1, 2)}
    wrong, answered, stop = [], [], threading.Event()

    def client():
        while not stop.is_set():
            status, answer = server.post("/v1/search", query="a forest", k=5)
            answered.append(answer.get("version"))
            if status != 200 or ids(answer) != right.get(answer["version"]):
                wrong.append((status, answer))

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(rounds):
        if number % 2:
            store.publish(store.versions()[0].version)
        else:
            store.roll_back(why="a test")
        live = next(e.version for e in store.versions() if e.state == "live")
        served.until(lambda live=live: server.state.chains["store"].steps[0].version == live)
    stop.set()
    for thread in threads:
        thread.join()
    return wrong, answered


def test_swaps_under_load_fail_no_request_and_mix_no_versions(server, embedders):
    wrong, answered = swaps(server, embedders, 8)
    assert not wrong
    assert {"1.1", "2.1"} <= set(answered)
    assert server.state.compiles.late == 0


@pytest.mark.slow
def test_a_thousand_swaps_under_load(server, embedders):
    wrong, answered = swaps(server, embedders, 1000)
    assert not wrong, wrong[:3]
    assert len(answered) > 1000


def test_a_release_that_cannot_be_opened_leaves_the_old_one(server, embedders, made):
    from gemb.identity import model_space
    from gemb.store import VersionStore

    store = VersionStore(made["store"])
    space = model_space(served.tiny_model(5))[0]
    with store.draft(space) as draft:
        draft.add("items", ["a"], np.eye(1, 16, dtype=np.float32))
        (draft.folder / "model").mkdir()  # without a model in it
    store.publish(draft.version)
    served.until(lambda: server.follows[0].error)
    assert server.post("/v1/search", query="a forest")[1]["version"] == "2.1"
    assert server.ask("GET", "/v1/versions")[1]["indexes"][0]["error"]
    store.roll_back(why="a test")
    served.until(lambda: not server.follows[0].error)
