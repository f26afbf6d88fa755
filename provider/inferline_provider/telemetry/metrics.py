"""Prometheus metrics of a provider, at a port of its own that is closed unless it is set."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, cast

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client import disable_created_metrics as without_creation_times
from prometheus_client import start_http_server as start_in_thread
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from inferline.telemetry import genai
from inferline_provider.telemetry.attempts import AttemptRecord, LineEvent, TelemetrySink
from inferline_provider.telemetry.status import ReadCalls, ReadStatus

_OPERATION: Final = ("gen_ai_operation_name", "gen_ai_request_model")
#: How long a scrape may wait for an event loop that is busy, seconds.
SCRAPE_SECONDS_MAX: Final = 5.0


class ProviderMetrics(TelemetrySink, Collector):
    """A sink whose records become metrics. Its labels are models, tiers and our own words."""

    def __init__(self, status: ReadStatus, calls: ReadCalls) -> None:
        """Read the provider's `status` and its `calls` to AWS at each scrape."""
        without_creation_times()  # type: ignore[no-untyped-call]
        self._status = status
        self._calls = calls
        self._models = genai.Models()
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._duration = self._histogram(
            "gen_ai_client_operation_duration_seconds",
            "From asking the backend to the end of its answer.",
            (*_OPERATION, "error_type"),
            genai.DURATIONS,
        )
        self._first = self._histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "From asking the backend to the first event of its stream.",
            _OPERATION,
            genai.FIRST_TOKEN,
        )
        self._per_token = self._histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time of a stream after its first event, for each token after the first.",
            _OPERATION,
            genai.PER_TOKEN,
        )
        self._tokens = self._histogram(
            "gen_ai_client_token_usage",
            "Tokens that the backend says it read and wrote.",
            (*_OPERATION, "gen_ai_token_type"),
            genai.TOKENS,
        )
        self._queued = self._histogram(
            "inferline_claim_wait_seconds",
            "Time that a task had waited when it was claimed here.",
            ("gen_ai_request_model", "tier"),
            genai.DURATIONS,
        )
        self._attempts = Counter(
            "inferline_attempts",
            "Attempts that have ended here, by their ending.",
            ("gen_ai_request_model", "ending"),
            registry=self._registry,
        )
        self._lines = Counter(
            "inferline_batch_lines",
            "Lines of batches here, by what happened to them.",
            ("gen_ai_request_model", "event"),
            registry=self._registry,
        )

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]
    ) -> Histogram:
        return Histogram(name, text, labels, buckets=buckets, registry=self._registry)

    def record(self, record: AttemptRecord) -> None:
        """Count an attempt that has ended."""
        model = self._models.label(record.model)
        self._attempts.labels(model, record.ending).inc()
        self._queued.labels(model, record.tier).observe(record.queue_ms / 1000)
        if record.backend_seconds is None:
            return
        names = genai.operation(record.path), model
        self._duration.labels(*names, record.error).observe(record.backend_seconds)
        if record.error:
            return
        for kind, count in record.tokens.items():
            self._tokens.labels(*names, kind).observe(count)
        if record.first_seconds is None:
            return
        self._first.labels(*names).observe(record.first_seconds)
        after_first = record.tokens.get("output", 0) - 1
        if after_first > 0:
            seconds = record.backend_seconds - record.first_seconds
            self._per_token.labels(*names).observe(seconds / after_first)

    def line(self, model: str, event: LineEvent) -> None:
        """Count an event of a batch's line."""
        self._lines.labels(self._models.label(model), event).inc()

    def collect(self) -> Iterable[Metric]:
        """Yield every metric, as Prometheus asks for them."""
        yield from self._registry.collect()
        calls = CounterMetricFamily(
            "inferline_aws_calls",
            "Calls to AWS, retries included.",
            labels=("service", "operation"),
        )
        for names, count in self._calls().items():
            calls.add_metric(names, count)
        yield calls
        now = self._status()
        gauges = (
            ("slots", "Tasks that may run at once now.", now.slots),
            ("slots_used", "Slots that are taken.", now.used),
            ("backend_healthy", "1 when the backend can work.", now.healthy),
        )
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"inferline_provider_{name}", text, value=float(value))


class _OnLoop(Collector):
    """A collector that reads on the event loop: the server's thread must not touch its objects."""

    def __init__(self, metrics: Collector) -> None:
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()

    def collect(self) -> Iterable[Metric]:
        """Return every metric."""
        metrics = asyncio.run_coroutine_threadsafe(self._read(), self._loop)
        return metrics.result(SCRAPE_SECONDS_MAX)

    async def _read(self) -> list[Metric]:
        return list(self._metrics.collect())


@asynccontextmanager
async def serving(metrics: ProviderMetrics, host: str, port: int) -> AsyncIterator[int]:
    """Serve metrics at `/metrics` until the block ends, at a free port for 0. Raises OSError."""
    # The type allows registries alone, but the server only calls `collect`.
    server, thread = start_in_thread(port, host, cast("CollectorRegistry", _OnLoop(metrics)))
    try:
        yield server.server_port
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        await asyncio.to_thread(thread.join)
