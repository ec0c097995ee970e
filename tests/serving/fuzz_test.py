"""What strangers send: 200 bad bodies, and schemathesis over the OpenAPI document."""

import json
import random

import pytest
import served

pytestmark = pytest.mark.extra("serve")
ROUTES = ("/v1/embeddings", "/v1/search", "/v1/rerank", "/v1/classify")
GOOD = {
    "/v1/embeddings": {"input": ["a", "b"], "model": "tiny", "dimensions": 8},
    "/v1/search": {"query": "a bridge", "k": 3, "index": "notes", "return": "text"},
    "/v1/rerank": {"query": "a", "documents": ["b", "c"], "model": "tiny"},
    "/v1/classify": {"input": ["a", "b"], "classifier": "days", "top": 2},
}
ODD = (
    None, True, -1, 0, 1e308, 10**400, "", "\x00", "x" * 70_000, "'; DROP TABLE users; --",
    "../../etc/passwd", "\r\nSet-Cookie: a=b", "🙂" * 50, [], {}, [[]], [[[1]]], [None], {"a": 1},
    [1.5, 2], ["a", 1], float("nan"), float("inf"), "\u202e", [0] * 40, -(2**63), 2**64,
)  # fmt: skip


@pytest.fixture(scope="module")
def server(places):
    made = served.Running(
        models=[places["model"]], indexes=[places["index"]], classifiers=[places["classifier"]]
    )
    yield made
    made.close()


def bodies():
    """200 bad bodies: odd values in each field, broken JSON, other encodings."""
    draw, made = random.Random(0), []
    for route, good in GOOD.items():
        whole = json.dumps(good).encode()
        made += [(route, whole[:cut]) for cut in range(1, len(whole), 17)]
        made += [(route, whole.decode().encode("utf-16")), (route, b"\x00" * 50), (route, b"[]")]
        made += [(route, b'{"input": "a"} {}'), (route, b"null"), (route, b'"text"')]
    while len(made) < 200:
        route = draw.choice(ROUTES)
        body = dict(GOOD[route])
        body[draw.choice([*body, "vector", "user_id", "filter", "extra"])] = draw.choice(ODD)
        made.append((route, json.dumps(body).encode()))
    return made


def test_200_bad_bodies_give_no_5xx(server):
    seen = set()
    for route, body in bodies():
        status, answer, _ = server.ask("POST", route, body)
        assert status < 500, (route, body[:200], answer)
        if status != 200:
            assert set(answer["error"]) == {"message", "type", "param", "code"}
            assert "Traceback" not in json.dumps(answer)
        seen.add(status)
    assert {200, 400} <= seen
    assert server.state.compiles.late == 0


def test_odd_paths_and_headers(server):
    for path in ("/v1/models/%00", "/v1/models/..%2f", "/v1/map?index=%0d%0aX:1", "//v1/models"):
        status, _, headers = server.ask("GET", path)
        assert status in (200, 404)
        assert "x" not in headers
    for name in ("Authorization", "X-Lane", "X-Timeout-Ms", "Content-Type"):
        status, _, _ = server.ask("POST", "/v1/search", GOOD["/v1/search"], {name: "\xff'\"<"})
        assert status in (200, 400)


def test_the_document_describes_every_route(server):
    from starlette.routing import Route

    from gemb.serving.http.app import Routes

    document = server.ask("GET", "/openapi.json")[1]
    described = {
        (path, method.upper()) for path, known in document["paths"].items() for method in known
    }
    pages = {"/", "/metrics", "/openapi.json"}  # for people and Prometheus
    table = {
        (route.path.replace(":path", ""), method)
        for route in Routes(server.state, []).table()
        for method in route.methods - {"HEAD"}
        if isinstance(route, Route) and route.path not in pages
    }
    assert described == table
    fields = document["components"]["schemas"]["Embeddings"]["properties"]
    assert {"input", "model", "dimensions", "encoding_format", "input_type"} <= set(fields)


@pytest.mark.slow
@pytest.mark.extra("services")
def test_schemathesis_finds_no_server_error(server):
    import schemathesis
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi import checks

    wanted = (
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    )
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    statuses = []
    for operation in schema.get_all_operations():

        @settings(
            max_examples=40, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.ok().as_strategy())
        def fuzzed(case):
            answer = case.call()
            statuses.append(answer.status_code)
            late = answer.status_code == 504 and "X-Timeout-Ms" in (case.headers or {})
            assert answer.status_code < 500 or late, answer.text
            case.validate_response(answer, checks=wanted)

        fuzzed()
    assert len(statuses) > 300
    assert {200, 400} <= set(statuses)
    assert server.state.compiles.late == 0
