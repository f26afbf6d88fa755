"""What an attempt tells of itself."""

from __future__ import annotations

import pytest

from inferline.clock import SystemClock
from inferline.memory.tasks import MemoryStore
from inferline_provider.telemetry.attempts import (
    AttemptRecord,
    AttemptTelemetry,
    NullSink,
    Telemetry,
)
from tests.support.seams import new_task


class Told(NullSink):
    """Keeps who was asked about what."""

    def __init__(self) -> None:
        self.asked_of: list[bool] = []

    def asked(self, record: AttemptRecord) -> None:
        self.asked_of.append(record.streamed)


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
    told, store = Told(), MemoryStore()
    telemetry = Telemetry(watcher=told)
    trail = AttemptTelemetry(telemetry, new_task(store), "p1", SystemClock(), store.now_ms)

    with trail.asking(body):
        assert [streamed] == told.asked_of
