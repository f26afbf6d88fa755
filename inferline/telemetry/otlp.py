"""Spans to an OpenTelemetry collector, if one is configured; otherwise nothing of it is loaded."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from inferline import __version__
from inferline.settings import SettingsError
from inferline.telemetry.trace import NO_TRACER, Attributes, Span, SpanKind, TraceParent, Tracer

if TYPE_CHECKING:
    from opentelemetry import trace as api
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
_HTTP: Final = "http/protobuf"
#: How long the last spans may take to go out when the process ends.
FLUSH_SECONDS_MAX: Final = 3.0


@contextmanager
def tracing(environ: Mapping[str, str], service: str) -> Iterator[Tracer]:
    """
    Yield a tracer that exports as OpenTelemetry's variables say, or keeps nothing if none is set.

    ``service`` is the `service.name` unless OTEL_SERVICE_NAME is set. The exporter has a thread of
    its own; the last spans are sent at the end, which blocks for a moment. Raises SettingsError if
    the configured export is impossible.
    """
    if not environ.get(ENDPOINT) or environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield NO_TRACER
        return
    if environ.get(PROTOCOL, _HTTP) != _HTTP:
        raise SettingsError(
            f"{PROTOCOL} must be {_HTTP}, got {environ[PROTOCOL]!r}: traces are exported over HTTP"
        )
    provider = _provider(service)
    try:
        yield OtlpTracer(provider.get_tracer("inferline", __version__))
    finally:
        # A collector that does not answer would hold the process up for as long as it is asked.
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_SECONDS_MAX)


def _provider(service: str) -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as missing:
        raise SettingsError(
            f"{ENDPOINT} is set, but what exports traces is not installed: run "
            "`pip install 'inferline[otel]'`, or unset it"
        ) from missing
    resource = Resource.create({"service.name": service, "service.version": __version__})
    resource = resource.merge(OTELResourceDetector().detect())  # What the operator says wins.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class OtlpTracer:
    """A `Tracer` on OpenTelemetry's SDK."""

    def __init__(self, tracer: api.Tracer) -> None:
        from opentelemetry import trace as api

        self._tracer = tracer
        self._kinds = {
            "server": api.SpanKind.SERVER,
            "client": api.SpanKind.CLIENT,
            "consumer": api.SpanKind.CONSUMER,
            "internal": api.SpanKind.INTERNAL,
        }

    def begin(self, kind: SpanKind, parent: TraceParent | None, start_ms: int) -> Span:
        """Begin a span; see `Tracer`."""
        # The sampler may look at a name, and there is none before the end.
        span = self._tracer.start_span(
            "inferline",
            context=self._context(parent),
            kind=self._kinds[kind],
            start_time=start_ms * 1_000_000,
        )
        return OtlpSpan(span, kind)

    def _context(self, parent: TraceParent | None) -> Context:
        from opentelemetry import trace as api

        if parent is None:
            return api.set_span_in_context(api.INVALID_SPAN)
        remote = api.SpanContext(
            int(parent.trace_id, 16),
            int(parent.span_id, 16),
            is_remote=True,
            trace_flags=api.TraceFlags(int(parent.sampled)),
        )
        return api.set_span_in_context(api.NonRecordingSpan(remote))


class OtlpSpan:
    """A `Span` on OpenTelemetry's SDK."""

    def __init__(self, span: api.Span, kind: SpanKind) -> None:
        self._span = span
        self._kind = kind
        context = span.get_span_context()
        #: See `Span`.
        self.context = TraceParent(
            f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled
        )

    def end(self, name: str, end_ms: int, attributes: Attributes, error: str = "") -> None:
        """End the span; see `Span`."""
        from opentelemetry.trace import StatusCode

        span = self._span
        span.update_name(name)
        span.set_attributes({key: value for key, value in attributes.items() if value != ""})
        if error:
            span.set_attribute("error.type", error)
            if not self._is_clients(attributes):
                span.set_status(StatusCode.ERROR)
        span.end(end_ms * 1_000_000)

    def _is_clients(self, attributes: Attributes) -> bool:
        """Return True if the error is the client's and so not an error of the server's span."""
        status = attributes.get("http.response.status_code", 0)
        return self._kind == "server" and 400 <= int(status) < 500
