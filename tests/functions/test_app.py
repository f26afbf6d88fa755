"""When a process that may be frozen writes what it has counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import PlainTextResponse

from functions._app import written
from inferline.gateway.app import FIGURES_SECONDS


class Minutes:
    """Counts the writes."""

    def __init__(self) -> None:
        self.flushes = 0

    async def flush(self) -> None:
        self.flushes += 1


async def test_the_figures_are_written_before_an_answer_ends_and_then_once_a_minute() -> None:
    minutes, now, seen = Minutes(), 0.0, list[int]()

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.body":
            seen.append(minutes.flushes)

    app = written(PlainTextResponse("x"), minutes, lambda: now)  # type: ignore[arg-type]
    for now in (0.0, 1.0, FIGURES_SECONDS - 1, FIGURES_SECONDS, FIGURES_SECONDS + 1):
        await app({"type": "http"}, None, send)  # type: ignore[arg-type]

    assert [1, 1, 1, 2, 2] == seen
