"""Telemetry of one attempt."""

from __future__ import annotations

import pytest

from inferline.clock import SystemClock
from inferline.memory.tasks import MemoryStore
from inferline_provider.telemetry.attempts import (
    AttemptRecord,
    AttemptTelemetry,
    Telemetry,
    TelemetrySink,
)
from tests.support.seams import new_task


class Requests(TelemetrySink):
    """A sink that keeps whether each request asks for a stream."""

    def __init__(self) -> None:
        self.streamed: list[bool] = []

    def sent(self, record: AttemptRecord) -> None:
        self.streamed.append(record.streamed)


@pytest.mark.parametrize(
    ("body", "streamed"),
    [
        (b'{"model":"m","stream":true}', True),
        (b'{"stream" : true, "model": "m"}', True),
        (b'{"model":"m","stream":false}', False),
        (b'{"model":"m","stream":null}', False),
        (b'{"model":"m","stream_options":{"include_usage":true}}', False),
        (b'{"model":"m","prompt":"say {\\"stream\\": true} twice"}', False),
        (b'{"model":"m"}', False),
    ],
)
def test_it_is_told_when_the_backend_is_asked_and_whether_for_a_stream(
    body: bytes, streamed: bool
) -> None:
    requests, store = Requests(), MemoryStore()
    telemetry = Telemetry(sink=requests)
    attempt = AttemptTelemetry(telemetry, new_task(store), "p1", SystemClock(), store.now_ms)

    with attempt.asking(body):
        assert [streamed] == requests.streamed
