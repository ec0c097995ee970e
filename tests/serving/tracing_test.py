"""Spans: one per request under the client's trace, one per stage under the request's."""

import sys

import pytest
import served

pytestmark = pytest.mark.extra("serve", "otel")
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def traced(places):
    """A server and what it exports."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from gemb.serving import tracing

    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tracing, "of_environment", lambda: tracing.Tracing(provider))
        made = served.Running(indexes=[places["index"]])
    yield made, kept
    made.close()


def test_stages_are_spans_of_their_request(traced):
    server, kept = traced
    kept.clear()
    headers = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    _, answer = server.post("/v1/search", headers, query="a secret question", k=3)
    served.until(lambda: len(kept.get_finished_spans()) >= 5)
    spans = {span.name: span for span in kept.get_finished_spans()}
    assert set(spans) == {"POST /v1/search", "tokenize", "queue", "encode", "search"}
    root = spans.pop("POST /v1/search")
    assert format(root.context.trace_id, "032x") == TRACE
    assert format(root.parent.span_id, "016x") == PARENT
    assert dict(root.attributes) == {
        "http.route": "/v1/search",
        "http.response.status_code": 200,
        "gemb.request_id": answer["request_id"],
    }
    for name, span in spans.items():
        assert span.parent.span_id == root.context.span_id
        assert root.start_time - 10**6 <= span.start_time <= span.end_time <= root.end_time + 10**6
        seconds = (span.end_time - span.start_time) / 1e9
        assert seconds == pytest.approx(answer["seconds"][name], abs=2e-6)
    assert spans["tokenize"].end_time <= spans["encode"].start_time + 10**6
    assert "secret" not in "".join(span.to_json() for span in kept.get_finished_spans())


def test_mistakes_have_a_span_too(traced):
    server, kept = traced
    kept.clear()
    server.post("/v1/search", query="")
    served.until(lambda: kept.get_finished_spans())
    [span] = kept.get_finished_spans()
    assert span.attributes["http.response.status_code"] == 400


def test_the_environment_decides(monkeypatch):
    from gemb.checks import MissingExtra
    from gemb.serving import tracing

    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert tracing.of_environment() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    made = tracing.of_environment()
    assert isinstance(made, tracing.Tracing)
    made._provider.shutdown()
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtra, match=r"gemb\[otel\]"):
        tracing.of_environment()
