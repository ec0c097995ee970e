"""Spans of requests and their stages, by OpenTelemetry where the environment asks for it.

With OTEL_EXPORTER_OTLP_ENDPOINT (or another variable OTEL_EXPORTER_...) set, each request is a span
under the client's `traceparent`, and each stage a span under the request's. No text and no id of a
user is an attribute.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping

from gemb.checks import needs


class Tracing:
    """Makes spans.

    Args:
        provider: an OpenTelemetry `TracerProvider`.
    """

    def __init__(self, provider):
        with needs("tracing", extra="otel"):
            from opentelemetry import propagate, trace
        self._provider, self._extract, self._kind = provider, propagate.extract, trace.SpanKind
        self._tracer = provider.get_tracer("gemb")

    @contextlib.contextmanager
    def request(self, method: str, headers: Mapping[bytes, bytes]) -> Iterator:
        """The span of a request, current while it is answered."""
        carrier = {
            name: headers[name.encode()].decode("latin-1")
            for name in ("traceparent", "tracestate")
            if name.encode() in headers
        }
        options = {"context": self._extract(carrier), "kind": self._kind.SERVER}
        with self._tracer.start_as_current_span(method, **options) as span:
            yield span

    def stage(self, name: str, taken: float, end: float) -> None:
        """The span of a stage that has ended.

        Args:
            name: of the stage.
            taken: seconds.
            end: on the clock of `time.monotonic`.
        """
        ended = time.time_ns() - int((time.monotonic() - end) * 1e9)
        span = self._tracer.start_span(name, start_time=ended - int(taken * 1e9))
        span.end(ended)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def of_environment() -> Tracing | None:
    """Tracing as OpenTelemetry's variables say; None where none of them names an exporter.

    Raises:
        MissingExtra: they do, and its libraries are not installed.
    """
    if not any(name.startswith("OTEL_EXPORTER_") for name in os.environ):
        return None
    with needs("OTEL_EXPORTER_... is set: tracing", extra="otel"):
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    os.environ.setdefault("OTEL_SERVICE_NAME", "gemb")
    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)
