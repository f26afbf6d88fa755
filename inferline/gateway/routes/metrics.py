"""The gateway's Prometheus metrics: requests as the ledger records them, and the queues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client import disable_created_metrics as without_creation_times
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.responses import Response

from inferline.errors import NotPermitted, Unavailable
from inferline.gateway.parts import GatewayParts
from inferline.gateway.routes.access import ClientCaller
from inferline.gateway.routes.objects import OverviewObject
from inferline.gateway.routes.overview import Overview
from inferline.telemetry import genai
from inferline.usage.ledger import Entry

PATH: Final = "/metrics"

_OPERATION: Final = ("gen_ai_operation_name", "gen_ai_request_model")
_QUEUE: Final = ("gen_ai_request_model", "tier")


class GatewayMetrics:
    """A `Ledger` whose entries become metrics. No tenant, no provider and no key is a label."""

    def __init__(self) -> None:
        without_creation_times()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._models = genai.Models()
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's arrival to the end of its answer.",
            (*_OPERATION, "error_type"),
            buckets=genai.DURATIONS,
            registry=self.registry,
        )
        self._first = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's arrival to the first bytes of its stream.",
            _OPERATION,
            buckets=genai.FIRST_TOKEN,
            registry=self.registry,
        )
        self._queued = Histogram(
            "inferline_queue_wait_seconds",
            "How long a task that was answered had waited for a provider.",
            _QUEUE,
            buckets=genai.DURATIONS,
            registry=self.registry,
        )
        self._bytes = Counter(
            "inferline_answer_bytes",
            "Bytes of answers sent.",
            ("gen_ai_request_model",),
            registry=self.registry,
        )
        # The conventions name such a metric for a model's client, which is the provider.
        self._tokens = Counter(
            "inferline_tokens",
            "Tokens that backends say they read and wrote for answers sent.",
            ("gen_ai_request_model", "gen_ai_token_type"),
            registry=self.registry,
        )
        self._retried = Counter(
            "inferline_retried_requests",
            "Requests that took more than one attempt.",
            ("gen_ai_request_model",),
            registry=self.registry,
        )

    def record(self, entry: Entry) -> None:
        """Record a request; see `Ledger`."""
        model = self._models.label(entry.model)
        operation = genai.operation(entry.path)
        self._duration.labels(operation, model, entry.code).observe(entry.total_ms / 1000)
        if entry.attempt > 1:
            self._retried.labels(model).inc()
        if entry.answer_bytes:
            self._bytes.labels(model).inc(entry.answer_bytes)
        for kind, count in (("input", entry.input_tokens), ("output", entry.output_tokens)):
            if count:
                self._tokens.labels(model, kind).inc(count)
        if entry.code:
            return
        self._queued.labels(model, entry.tier).observe(entry.queue_ms / 1000)
        if entry.streamed and entry.first_ms is not None:
            self._first.labels(operation, model).observe(entry.first_ms / 1000)


class MetricsSnapshot(Collector):
    """The metrics of one scrape: the counters, and the overview if the stores answer."""

    def __init__(
        self,
        counted: GatewayMetrics,
        overview: OverviewObject | None,
        calls: Mapping[tuple[str, str], int],
    ) -> None:
        self._counted = counted
        self._overview = overview
        self._calls = calls

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics; see `Collector`."""
        yield from self._counted.registry.collect()
        yield GaugeMetricFamily(
            "inferline_overview_up",
            "1 when the stores told how the queues stand, 0 when they did not answer.",
            value=float(self._overview is not None),
        )
        called = CounterMetricFamily(
            "inferline_aws_calls",
            "Calls to AWS, retries included.",
            labels=("service", "operation"),
        )
        for names, count in self._calls.items():
            called.add_metric(names, count)
        yield called
        if self._overview is not None:
            yield from _queues(self._overview)
            yield from _models(self._overview)


def _queues(overview: OverviewObject) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("inferline_queue_depth", "Tasks that wait.", labels=_QUEUE)
    running = GaugeMetricFamily("inferline_running_tasks", "Tasks that run.", labels=_QUEUE)
    oldest = GaugeMetricFamily(
        "inferline_queue_oldest_seconds", "Age of the oldest task that waits.", labels=_QUEUE
    )
    for queue in overview.queues:
        names = (queue.model, queue.tier)
        waiting.add_metric(names, queue.waiting)
        running.add_metric(names, queue.running)
        oldest.add_metric(names, queue.oldest_seconds or 0.0)
    yield from (waiting, running, oldest)


def _models(overview: OverviewObject) -> Iterator[Metric]:
    slots = GaugeMetricFamily(
        "inferline_model_slots",
        "Slots of the live providers of a model.",
        labels=("gen_ai_request_model",),
    )
    providers = GaugeMetricFamily(
        "inferline_model_providers",
        "Live and healthy providers of a model.",
        labels=("gen_ai_request_model",),
    )
    # A model's queues all tell of the same providers.
    for queue in {queue.model: queue for queue in overview.queues}.values():
        slots.add_metric((queue.model,), queue.slots)
        providers.add_metric((queue.model,), queue.providers)
    yield from (slots, providers)


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """Return the encoder of the accepted format, plain text for an unknown version."""
    try:
        return choose_encoder(accept)
    except TypeError:  # It compares whatever stands there with a number.
        return choose_encoder("")


def add(app: FastAPI, metrics: GatewayMetrics) -> None:
    """
    Serve ``metrics`` at `PATH` of ``app`` to callers who may use every model: the counters name
    all models that were requested.
    """

    async def scrape(request: Request, caller: ClientCaller) -> Response:
        if not caller.sees_all:
            raise NotPermitted("The metrics tell of all models, and this key is for some of them.")
        overview: Overview = request.app.overview
        parts: GatewayParts = request.app.parts
        try:
            now = await overview.get(caller)
        except Unavailable:  # The counters are still known.
            now = None
        encode, content_type = _encoder(request.headers.get("accept", ""))
        body = encode(MetricsSnapshot(metrics, now, parts.minute_ledger.calls()))
        return Response(body, headers={"content-type": content_type})

    app.add_api_route(PATH, scrape, methods=["GET"], include_in_schema=False)
