"""The API as clients call it: a real server on a port of this machine."""

import base64

import numpy as np
import pytest
import served

pytestmark = pytest.mark.extra("serve")


@pytest.fixture(scope="module")
def server(places):
    made = served.Running(models=[places["model"]], indexes=[places["index"]])
    yield made
    made.close()


@pytest.fixture(scope="module")
def embedder(places):
    from gemb.inference.embedder import Embedder

    return Embedder.load(str(places["model"]))


def vectors(answer):
    return np.array([each["embedding"] for each in answer["data"]], np.float32)


def test_the_four_forms_of_input_give_what_the_model_gives(server, embedder):
    texts = ["a bridge", "the forest", "a bridge"]
    expected = embedder.encode(texts)
    status, one = server.post("/v1/embeddings", input=texts[0], model="tiny")
    assert status == 200
    assert one["object"] == "list"
    assert one["gemb"]["fingerprint"] == embedder.fingerprint
    np.testing.assert_allclose(vectors(one)[0], expected[0], atol=1e-6)
    _, many = server.post("/v1/embeddings", input=texts, model="tiny")
    np.testing.assert_allclose(vectors(many), expected, atol=1e-6)
    assert [each["index"] for each in many["data"]] == [0, 1, 2]
    tokenizer = embedder.model.document.processor.tokenizer()
    ids = tokenizer.encode(texts)
    _, rows = server.post("/v1/embeddings", input=ids, model="tiny")
    np.testing.assert_allclose(vectors(rows), expected, atol=1e-6)
    _, row = server.post("/v1/embeddings", input=ids[1], model="tiny")
    np.testing.assert_allclose(vectors(row)[0], expected[1], atol=1e-6)
    assert many["usage"]["prompt_tokens"] == sum(map(len, ids))


def test_sides_and_widths(server, embedder):
    expected = embedder.encode(["a bridge"], kind="query", dim=8)
    for asked in ({"model": "tiny", "input_type": "query"}, {"model": "tiny:query"}):
        status, answer = server.post("/v1/embeddings", input="a bridge", dimensions=8, **asked)
        assert status == 200
        np.testing.assert_allclose(vectors(answer), expected, atol=1e-6)
    status, answer = server.post("/v1/embeddings", input="a", dimensions=9)
    assert status == 400
    assert "[16, 8]" in answer["error"]["message"]
    assert answer["error"]["param"] == "dimensions"


def test_base64_and_float_are_equal_to_the_bit(server):
    asked = {"input": ["a", "b c"], "model": "tiny"}
    _, plain = server.post("/v1/embeddings", encoding_format="float", **asked)
    _, coded = server.post("/v1/embeddings", encoding_format="base64", **asked)
    decoded = [np.frombuffer(base64.b64decode(each["embedding"]), "<f4") for each in coded["data"]]
    assert np.array_equal(vectors(plain), np.array(decoded))


def test_texts_beyond_the_limit_are_reported_or_refused(server):
    long = "long " * 30
    _, answer = server.post("/v1/embeddings", input=[long, "short"])
    assert answer["gemb"]["truncated"] == 1
    status, answer = server.post("/v1/embeddings", input=[long, "short"], truncate=False)
    assert status == 400
    assert answer["error"]["code"] == "too_long"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"input": "a", "model": "other"}, 404, "unknown_model"),
        ({"input": ""}, 400, "empty_input"),
        ({"input": []}, 400, "invalid_value"),
        ({"input": ["a", ""]}, 400, "empty_input"),
        ({"input": ["a", [1]]}, 400, "invalid_value"),
        ({"input": [[]]}, 400, "empty_input"),
        ({"input": [10**6]}, 400, "invalid_value"),
        ({"input": [1] * 33}, 400, "invalid_value"),
        ({"input": "a", "dimension": 8}, 400, "invalid_value"),
        ({"input": "a", "dimensions": 0}, 400, "invalid_value"),
        ({"input": ["a"] * 2049}, 413, "too_many_inputs"),
        ({}, 400, "invalid_value"),
        (b"{", 400, "malformed_json"),
        (b"", 400, "empty_body"),
        (b'{"input": "\\ud800"}', 400, "malformed_json"),
        (b"\xff\xfe", 400, "malformed_json"),
        (b"[" * 100_000, 400, "invalid_value"),
    ],
)
def test_mistakes_are_named(server, body, status, code):
    came, answer, headers = server.ask("POST", "/v1/embeddings", body)
    assert (came, answer["error"]["code"]) == (status, code)
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert headers["x-request-id"]


def test_routes_that_are_not_there_and_methods(server):
    assert server.ask("GET", "/v1/nothing")[0] == 404
    assert server.ask("GET", "/v1/embeddings")[0] == 405
    assert server.ask("GET", "/../../etc/passwd")[0] == 404
    assert server.ask("GET", "/v1/models/..%2f..%2fetc%2fpasswd")[0] == 404


def test_request_ids_are_plain_words(server):
    headers = {"X-Request-Id": "mine-1"}
    assert server.ask("GET", "/health", headers=headers)[2]["x-request-id"] == "mine-1"
    headers = {"X-Request-Id": "<script>"}
    assert server.ask("GET", "/health", headers=headers)[2]["x-request-id"] != "<script>"


def test_models_health_ready_metrics(server):
    _, answer, _ = server.ask("GET", "/v1/models")
    assert answer["data"][0]["id"] == "tiny"
    assert answer["data"][0]["gemb"]["dimensions"] == [16, 8]
    assert server.ask("GET", "/v1/models/tiny")[1]["gemb"]["max_tokens"] == 32
    assert server.ask("GET", "/health")[0] == 200
    assert server.ask("GET", "/ready")[0] == 200
    page = server.ask("GET", "/metrics")[1].decode()
    assert 'gemb_requests_total{code="200",route="/v1/embeddings"}' in page
    assert "gemb_compiles_total 0.0" in page


def test_a_search_finds_what_plain_arithmetic_finds(server, embedder):
    documents = served.unit(embedder.encode(served.TEXTS))
    query = served.unit(embedder.encode(["forest island"], kind="query"))
    best = np.argsort(-(documents @ query[0]))[:5]
    status, answer = server.post("/v1/search", query="forest island", k=5)
    assert status == 200
    assert [hit["id"] for hit in answer["hits"]] == [f"d{row}" for row in best]
    assert answer["fallback"] is None
    assert set(answer["seconds"]) == {"tokenize", "queue", "encode", "search"}
    first = answer["hits"][0]
    assert first["text"] == served.TEXTS[best[0]]
    assert first["place"] == f"notes.md:{best[0] + 1}"
    _, narrow = server.post("/v1/search", query="forest island", k=3, dim=8)
    small = served.unit(documents[:, :8]) @ served.unit(query[0, :8])
    assert [h["id"] for h in narrow["hits"]] == [f"d{i}" for i in np.argsort(-small)[:3]]


def test_searches_by_vector_item_and_filter(server, embedder):
    space = server.ask("GET", "/v1/versions")[1]["indexes"][0]["versions"][0]["space"]
    vector = embedder.encode(["forest island"], kind="query")[0].tolist()
    _, by_text = server.post("/v1/search", query="forest island", k=4)
    _, by_vector = server.post("/v1/search", vector=vector, space=space, k=4)
    assert [h["id"] for h in by_text["hits"]] == [h["id"] for h in by_vector["hits"]]
    status, answer = server.post("/v1/search", vector=vector, space="0" * 32)
    assert (status, answer["error"]["code"]) == (409, "space_mismatch")
    assert space in answer["error"]["message"]
    _, near = server.post("/v1/search", item_id="d3", k=4)
    documents = served.unit(embedder.encode(served.TEXTS))
    order = [f"d{i}" for i in np.argsort(-(documents @ documents[3]), kind="stable") if i != 3]
    assert [h["id"] for h in near["hits"]] == order[:4]
    assert server.post("/v1/search", item_id="none")[0] == 404
    _, even = server.post("/v1/search", query="forest island", k=50, filter={"even": True})
    assert {int(h["id"][1:]) % 2 for h in even["hits"]} == {0}
    assert len(even["hits"]) == len(served.TEXTS) // 2
    _, whole = server.post("/v1/search", query="forest island", k=50)
    kept = [h["id"] for h in whole["hits"] if int(h["id"][1:]) % 2 == 0]
    assert [h["id"] for h in even["hits"]] == kept


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": " "},
        {"query": "a", "item_id": "d1"},
        {"vector": [1.0]},
        {"query": "a", "k": 0},
        {"query": "a", "k": 1001},
        {"query": "a", "dim": 9},
        {"user_id": "u1"},
        {"query": "a", "filter": {"even": [1]}},
        {"item_id": "d1", "rerank": {"model": "tiny"}},
    ],
)
def test_searches_that_cannot_be_done(server, body):
    status, answer = server.post("/v1/search", **body)
    assert status == 400, answer


def test_reranking_by_vectors(server, embedder):
    texts = ["a bridge", "the forest", "island"]
    status, answer = server.post(
        "/v1/rerank", query="forest", documents=texts, model="tiny", top_n=2, return_documents=True
    )
    assert status == 200
    query, documents = embedder.encode(["forest"], kind="query"), embedder.encode(texts)
    scores = (served.unit(documents) @ served.unit(query)[0]).astype(np.float32)
    order = np.argsort(-scores)[:2]
    assert [each["index"] for each in answer["results"]] == order.tolist()
    came = [each["relevance_score"] for each in answer["results"]]
    np.testing.assert_allclose(came, scores[order], atol=1e-6)
    assert answer["results"][0]["document"] == {"text": texts[order[0]]}
    again = {"model": "tiny", "depth": 2}
    _, found = server.post("/v1/search", query="forest", k=3, rerank=again)
    assert len(found["hits"]) == 3
    assert "rerank" in found["seconds"]


def test_a_deadline_that_cannot_be_kept(server):
    headers = {"X-Timeout-Ms": "1"}
    body = {"input": [f"text {i}" for i in range(500)]}
    status, _, came = server.ask("POST", "/v1/embeddings", body, headers)
    assert status in (429, 504)
    assert int(came["retry-after"]) >= 1
    assert server.ask("POST", "/v1/embeddings", body, {"X-Timeout-Ms": "soon"})[0] == 400
    assert server.ask("POST", "/v1/embeddings", body, {"X-Lane": "fast"})[0] == 400


def test_an_oversized_body_is_refused_while_it_streams(server):
    import socket

    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        sent = 0
        try:
            for _ in range(100):  # 100 MB if nobody stopped it
                connection.sendall(b"100000\r\n" + b" " * (1 << 20) + b"\r\n")
                sent += 1
        except OSError:
            pass
        answer = connection.recv(300)
    assert answer.startswith(b"HTTP/1.1 413")
    assert sent < 60
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        head = f"POST /v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: {9 << 20}\r\n\r\n"
        connection.sendall(head.encode())  # and not one byte of the body
        assert connection.recv(300).startswith(b"HTTP/1.1 413")


def test_changes_need_an_administrator(server):
    assert server.ask("PUT", "/v1/vectors/users/u1", {"vector": [1.0], "space": "x"})[0] == 403
    assert server.ask("POST", "/admin/publish", {"store": "x", "version": "1.1"})[0] == 403


def test_the_map_of_a_corpus(server, embedder):
    status, answer, _ = server.ask("GET", "/v1/map?index=notes")
    assert status == 200
    vectors = served.unit(embedder.encode(served.TEXTS))
    centred = vectors - vectors.mean(axis=0)
    sizes = np.linalg.svd(centred, compute_uv=False)
    places = np.array([[each["x"], each["y"]] for each in answer["points"]])
    np.testing.assert_allclose(np.linalg.norm(places, axis=0), sizes[:2], rtol=1e-3)
    placed = np.array(answer["axes"]) @ (vectors[7] - np.array(answer["mean"]))
    np.testing.assert_allclose(placed, places[7], atol=1e-5)


def test_work_ends_when_its_client_goes_and_only_then():
    import asyncio

    from starlette.requests import ClientDisconnect

    from gemb.serving.http.web import unless_gone

    class Client:
        def __init__(self, leaves_after):
            self.leaves_after = leaves_after

        async def receive(self):
            await asyncio.sleep(self.leaves_after)
            return {"type": "http.disconnect"}

    ended = []

    async def work(seconds):
        try:
            await asyncio.sleep(seconds)
            return "done"
        finally:
            ended.append(seconds)

    async def all_three():
        assert await unless_gone(Client(60), work(0.0)) == "done"
        with pytest.raises(ClientDisconnect):
            await unless_gone(Client(0.01), work(60.0))
        assert not asyncio.current_task().cancelling()
        stopped = asyncio.ensure_future(unless_gone(Client(60), work(61.0)))
        await asyncio.sleep(0.01)
        stopped.cancel()  # the server ends
        with pytest.raises(asyncio.CancelledError):
            await stopped
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(all_three())
    assert ended == [0.0, 60.0, 61.0]
